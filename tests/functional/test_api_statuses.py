"""Results of some statuses only, in both orders."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.errors import PermanentError
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler import results as results_module
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind

ORDERS = ["index", "completion"]
ODD = list(range(1, 20, 2))


def fail_if_odd(params: Any, _context: Any) -> None:
    if params % 2:
        raise PermanentError(f"{params} is odd")


@pytest.fixture
def api() -> Frontend:
    kinds = [sleep, thread_kind("even", fail_if_odd), thread_kind("odd", fail_if_odd, hint_s=60.0)]
    return Frontend(registry=Registry(kinds))


def pages(api: Frontend, batch_id: str, query: str) -> list[list[int]]:
    """The indexes of each page."""
    found, cursor = [], ""
    while cursor is not None:
        path = f"/batches/{batch_id}/results?{query}" + (f"&cursor={cursor}" if cursor else "")
        answer = api.call("GET", path)
        assert answer.status_code == 200, answer.body
        found.append([row["index"] for row in answer.json_body["results"]])
        cursor = answer.json_body["cursor"]
    return found


@pytest.mark.parametrize("kind", ["even", "odd"])  # in few bundles, and one a task
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("limit", [1, 3, 1000])
def test_rows_of_other_statuses_are_left_out(api, order, limit, kind):
    batch_id = api.submit([{"kind": kind, "params": number} for number in range(20)])
    api.run()
    found = pages(api, batch_id, f"order={order}&limit={limit}&status=FAILED")
    assert sorted(index for page in found for index in page) == ODD
    assert all(len(page) <= limit for page in found)
    found = pages(api, batch_id, f"order={order}&limit={limit}&status=FAILED,SUCCEEDED")
    assert sorted(index for page in found for index in page) == list(range(20))


@pytest.mark.parametrize("order", ORDERS)
def test_a_page_reads_so_many_bundles_and_may_be_empty(api, order, monkeypatch):
    monkeypatch.setattr(results_module, "PAGE_MAX_BUNDLES", 5)
    monkeypatch.setattr("taskfleet.scheduler.completed.PAGE_MAX_BUNDLES", 5)
    batch_id = api.submit([{"kind": "odd", "params": int(number == 17)} for number in range(20)])
    assert api.cloud.tasks.depth().backlog == 20
    api.run()
    found = pages(api, batch_id, f"order={order}&status=FAILED")
    assert [page for page in found if page] == [[17]]
    assert [] in found


@pytest.mark.parametrize("order", ORDERS)
def test_few_rows_among_many_bundles_cost_few_reads(api, order, monkeypatch):
    batch_id = api.submit([{"kind": "odd", "params": int(number == 299)} for number in range(300)])
    api.run()
    calls = []
    read = api.cloud.monitor.bundles
    monkeypatch.setattr(api.cloud.monitor, "bundles", lambda ids: calls.append(ids) or read(ids))
    assert pages(api, batch_id, f"order={order}&limit=1&status=FAILED")[0] == [299]
    assert len(calls) == 3


def test_a_finished_batch_without_such_tasks_costs_no_read_of_its_bundles(api, monkeypatch):
    batch_id = api.submit([{"kind": "even", "params": 2}] * 3)
    path = f"/batches/{batch_id}/results?status=FAILED,CANCELLED"
    assert api.call("GET", path).json_body == {"results": [], "cursor": None}
    api.run()

    def read(*_: object) -> None:
        raise AssertionError("bundles were read")

    monkeypatch.setattr(type(api.cloud.monitor), "bundles", read)
    assert api.call("GET", path).json_body == {"results": [], "cursor": None}


@pytest.mark.parametrize(
    "status", ["failed", "QUEUED", "", "FAILED,", ",", "FAILED,x", "FAILED%0A"]
)
def test_a_status_that_is_none_is_refused(api, status):
    batch_id = api.submit(["sleep 0"])
    answer = api.call("GET", f"/batches/{batch_id}/results?status={status}")
    assert answer.status_code == 422, status
