"""The stream of a batch: each task that has ended is given once, in a compact form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskfleet.batch import BatchRecord, Tally
from taskfleet.errors import PermanentError
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler import completed as completed_module
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.http.results import STREAM_PAGE_MAX
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind

ID = "0123456789abcdefghjkmnpqrs"


def fail(params: Any, _context: Any) -> None:
    raise PermanentError(params)


@pytest.fixture
def api() -> Frontend:
    napping = thread_kind("nap", lambda params, context: context.sleep(params), hint_s=60.0)
    return Frontend(registry=Registry([sleep, napping, thread_kind("fail", fail)]))


def page(api: Frontend, batch_id: str, cursor: str | None = None, query: str = "") -> Any:
    query += "" if cursor is None else f"&cursor={cursor}"
    answer = api.call("GET", f"/batches/{batch_id}/stream?{query.lstrip('&')}")
    assert answer.status_code == 200, answer.body
    return answer.json_body


def test_a_row_tells_kind_outcome_times_worker_and_error(api):
    tasks = [{"kind": "nap", "params": 1.5}, {"kind": "fail", "params": "it broke"}, "sleep 0"]
    batch_id = api.submit(tasks)
    api.run()
    body = page(api, batch_id)
    assert body["cursor"] is None
    rows = {row[0]: row for row in body["rows"]}
    shown = api.call("GET", f"/batches/{batch_id}/results").json_body["results"]
    for result in shown:
        index, kind, status, started_ms, duration_ms, worker, error = rows[result["index"]]
        wanted = tasks[index]["kind"] if isinstance(tasks[index], dict) else "sleep"
        assert body["kinds"][kind] == wanted
        assert ["SUCCEEDED", "FAILED"][status] == result["status"]
        assert isinstance(started_ms, int)
        assert duration_ms == round(result["duration_s"] * 1000, 3)
        assert body["workers"][worker] == result["worker_id"]
        assert (body["errors"][error] if error >= 0 else None) == result["error"]
    assert len(body["workers"]) == 1
    assert len(body["errors"]) == 1


def test_times_are_in_milliseconds(api):
    monitor = api.cloud.monitor
    monitor.create_batch(BatchRecord(ID, "alice", None, 0.0, 1, 1, "h", True, enqueued=1))
    lease = monitor.claim(f"{ID}:0", owner="w", lease_s=30).lease
    assert lease is not None
    result = TaskResult(0, TaskStatus.SUCCEEDED, started_at=1.7e9 + 0.1234, duration_s=1.2345678)
    monitor.commit(f"{ID}:0", lease, tasks=[Task(0, "sleep", 0)], results=[result])
    monitor.record_progress(ID, {0: Tally(1)}, 1.0)
    assert page(api, ID)["rows"] == [[0, 0, 0, 1_700_000_000_123, 1234.568, -1, -1]]


def test_a_task_that_never_started_has_no_times(api):
    opened = api.call("POST", "/batches", {"open": True, "tasks": ["nap 1"]}).json_body
    api.call("DELETE", f"/batches/{opened['batch_id']}")
    api.run()
    (row,) = page(api, opened["batch_id"])["rows"]
    assert row[2:5] == [2, None, None]


def test_the_same_error_is_sent_once_and_cut(api):
    batch_id = api.submit([{"kind": "fail", "params": "x" * 1000}] * 30)
    api.run()
    body = page(api, batch_id)
    assert body["errors"] == ["x" * 200]
    assert [row[6] for row in body["rows"]] == [0] * 30


def test_who_goes_on_with_the_cursor_gets_what_is_new(api):
    opened = api.call("POST", "/batches", {"open": True, "tasks": ["sleep 0"]}).json_body
    batch_id = opened["batch_id"]
    first = page(api, batch_id)
    assert (first["rows"], first["kinds"]) == ([], [])
    api.run()
    second = page(api, batch_id, first["cursor"])
    assert [row[0] for row in second["rows"]] == [0]
    assert page(api, batch_id, second["cursor"])["rows"] == []
    part = {"first": 1, "tasks": ["sleep 1", "sleep 2"], "close": True}
    api.call("POST", f"/batches/{batch_id}/tasks", part)
    api.run()
    third = page(api, batch_id, second["cursor"])
    assert sorted(row[0] for row in third["rows"]) == [1, 2]
    assert third["cursor"] is None


def test_results_go_on_from_the_cursor_of_the_stream(api):
    batch_id = api.submit(["sleep 0"] * 20)
    api.run()
    cursor = page(api, batch_id, query="limit=5")["cursor"]
    rest = api.call("GET", f"/batches/{batch_id}/results?order=completion&cursor={cursor}")
    assert len(rest.json_body["results"]) == 15


@pytest.mark.parametrize("limit", [1, 7])
def test_a_limit_divides_it(api, limit):
    batch_id = api.submit(["sleep 0"] * 20)
    api.run()
    seen, cursor = [], ""
    while cursor is not None:
        body = page(api, batch_id, cursor or None, f"&limit={limit}")
        assert len(body["rows"]) <= limit
        seen += [row[0] for row in body["rows"]]
        cursor = body["cursor"]
    assert sorted(seen) == list(range(20))


def test_an_answer_stays_within_what_lambda_sends(api, monkeypatch):
    monkeypatch.setattr(completed_module, "PAGE_MAX_BYTES", 5_000)
    texts = [f"{number:03d}" + "\U0001f600" * 60 for number in range(40)]
    batch_id = api.submit([{"kind": "fail", "params": text} for text in texts])
    api.run()
    seen, cursor = [], ""
    while cursor is not None:
        body = page(api, batch_id, cursor or None)
        lists = {name: body[name] for name in ("kinds", "workers", "rows")}
        pointed = {row[6] for row in body["rows"]}
        lists["errors"] = [body["errors"][place] for place in pointed]
        assert len(json.dumps(json.dumps(lists))) < 5_600
        seen += [body["errors"][row[6]] for row in body["rows"]]
        cursor = body["cursor"]
    assert sorted(seen) == texts


def test_it_is_one_s_own(api):
    batch_id = api.submit(["sleep 0"])
    path = f"/batches/{batch_id}/stream"
    assert api.call("GET", path, as_client="mallory").status_code == 404
    assert api.call("GET", "/batches/no-id/stream").status_code == 404
    assert api.call("GET", path, as_client=None).status_code == 401


@pytest.mark.parametrize(
    "query", ["limit=0", f"limit={STREAM_PAGE_MAX + 1}", "cursor=x", "wait=1", "limit=1&limit=2"]
)
def test_a_bad_query_is_refused(api, query):
    batch_id = api.submit(["sleep 0"])
    assert api.call("GET", f"/batches/{batch_id}/stream?{query}").status_code == 422
