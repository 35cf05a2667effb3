"""Retrying a batch: its failed tasks run again, as a new batch."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.batch import BatchRecord, Tally
from taskfleet.errors import PermanentError
from taskfleet.memory.monitor import MemoryMonitor
from taskfleet.registry import Registry, sleep
from taskfleet.settings import Settings
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind

ID = "0123456789abcdefghjkmnpqrs"
broken = {"odd"}


def odd_fails(params: Any, _context: Any) -> int:
    if params % 2 and broken:
        raise PermanentError("odd")
    return int(params)


@pytest.fixture
def api() -> Frontend:
    broken.add("odd")
    return Frontend(registry=Registry([sleep, thread_kind("odd", odd_fails)]))


def retry(api: Frontend, batch_id: str, body: Any = None, **options: Any) -> Any:
    return api.call("POST", f"/batches/{batch_id}/retry", body, **options)


def ended(api: Frontend, tasks: int = 6, **options: Any) -> str:
    """A batch that has ended, whose odd tasks have failed."""
    numbers = [{"kind": "odd", "params": number} for number in range(tasks)]
    batch_id = api.submit(numbers, **options)
    api.run()
    return batch_id


def results(api: Frontend, batch_id: str) -> list[Any]:
    found: list[Any] = api.call("GET", f"/batches/{batch_id}/results").json_body["results"]
    return found


def test_failed_tasks_run_again_as_a_new_batch_of_the_same_name(api):
    old = ended(api, name="numbers")
    broken.clear()
    answer = retry(api, old, {})
    assert answer.status_code == 202, answer.body
    new = answer.json_body
    assert (new["total"], new["status"]) == (3, "QUEUED")
    assert new["url"].endswith(f"/batches/{new['batch_id']}")
    assert "retry" not in new["url"]
    api.run()
    view = api.call("GET", f"/batches/{new['batch_id']}").json_body
    assert (view["name"], view["retry_of"], view["succeeded"]) == ("numbers", old, 3)
    assert [row["result"] for row in results(api, new["batch_id"])] == [1, 3, 5]
    assert api.call("GET", f"/batches/{old}").json_body["retry_of"] is None


def test_tasks_keep_their_own_options_and_those_of_the_batch(api):
    old = api.submit(
        [{"kind": "odd", "params": 1, "max_attempts": 2}, {"kind": "odd", "params": 3}],
        timeout_s=60,
    )
    api.run()
    new = retry(api, old).json_body["batch_id"]
    assert api.call("GET", f"/batches/{new}").json_body["options"]["timeout_s"] == 60
    api.run()
    assert [row["task"] for row in results(api, new)] == [
        {"kind": "odd", "params": 1, "max_attempts": 2},
        "odd 3",
    ]


def test_cancelled_tasks_are_retried_on_demand(api):
    old = api.submit(["sleep 0", "sleep 1"])
    api.call("DELETE", f"/batches/{old}")
    api.run()
    assert retry(api, old).status_code == 422
    answer = retry(api, old, {"status": ["CANCELLED", "FAILED"]})
    assert answer.json_body["total"] == 2
    assert (
        retry(api, old, {"status": ["CANCELLED"]}).json_body["batch_id"]
        != answer.json_body["batch_id"]
    )


def test_under_a_key_a_double_click_is_one_batch(api):
    old = ended(api)
    first = retry(api, old, {"idempotency_key": "k"}).json_body
    assert retry(api, old, {"idempotency_key": "k"}).json_body["batch_id"] == first["batch_id"]
    assert api.cloud.tasks.depth().backlog == 1
    other = ended(api, 8)
    assert retry(api, other, {"idempotency_key": "k"}).status_code == 409
    assert retry(api, old, {}).json_body["batch_id"] != retry(api, old, {}).json_body["batch_id"]


def test_a_batch_that_runs_is_a_conflict(api):
    batch_id = api.submit([{"kind": "odd", "params": 1}] * 3)
    answer = retry(api, batch_id)
    assert answer.status_code == 409
    assert "has not ended: 0 of 3 tasks have" in answer.json_body["Message"]
    opened = api.call("POST", "/batches", {"open": True}).json_body["batch_id"]
    assert retry(api, opened).status_code == 409


def test_without_a_failed_task_there_is_nothing_to_retry(api):
    batch_id = api.submit(["sleep 0"])
    api.run()
    answer = retry(api, batch_id)
    assert answer.status_code == 422
    assert "no task that is FAILED" in answer.json_body["Message"]


def test_another_client_s_batch_is_not_there(api):
    old = ended(api)
    assert retry(api, old, as_client="mallory").status_code == 404
    assert retry(api, "0" * 26).status_code == 404
    assert retry(api, "no-id").status_code == 404
    assert api.cloud.tasks.depth().backlog == 0


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"status": []}, 422),
        ({"status": ["SUCCEEDED"]}, 422),
        ({"status": "FAILED"}, 422),
        ({"idempotency_key": ""}, 422),
        ({"name": "x"}, 422),
        (b"[]", 400),
        (b"{", 400),
    ],
)
def test_a_bad_body_is_refused(api, body, status):
    assert retry(api, ended(api), body).status_code == status


def test_the_same_status_twice_is_the_same(api):
    answer = retry(api, ended(api), {"status": ["FAILED", "FAILED"]})
    assert answer.json_body["total"] == 3


def test_very_many_bundles_are_handed_to_the_reader_of_uploads(api):
    old = ended(api, 20)
    api.services.submission._send_max_bundles = 0
    answer = retry(api, old).json_body
    assert api.cloud.uploads.depth().backlog == 1
    broken.clear()
    api.run()
    view = api.call("GET", f"/batches/{answer['batch_id']}").json_body
    assert (view["succeeded"], view["retry_of"]) == (10, old)


def test_too_many_tasks_or_bundles_are_refused_with_what_to_do_instead(api):
    old = ended(api)
    api.services.reruns._max_tasks = 2
    answer = retry(api, old)
    assert answer.status_code == 413
    assert "3 tasks that are FAILED, over the cap of 2" in answer.json_body["Message"]
    api.services.reruns._max_tasks, api.services.reruns._max_bundles = 9, 0
    answer = retry(api, old)
    assert answer.status_code == 413
    assert "results?status=" in answer.json_body["Message"]


def test_a_kind_that_is_gone_is_named(api):
    old = ended(api)
    api.registry._kinds.pop("odd")
    answer = retry(api, old)
    assert answer.status_code == 422
    assert "odd" in answer.json_body["Message"]


def test_tasks_that_are_not_recorded_are_not_left_out_in_silence(api):
    monitor: MemoryMonitor = api.cloud.monitor
    monitor.create_batch(BatchRecord(ID, "alice", None, 0.0, 2, 1, "h", True, enqueued=2))
    monitor.record_progress(ID, {0: Tally(failed=2)}, 1.0)
    answer = retry(api, ID)
    assert answer.status_code == 409
    assert "only 0 of the 2 tasks" in answer.json_body["Message"]


def test_the_limit_of_a_client_counts():
    registry = Registry([sleep, thread_kind("odd", odd_fails)])
    api = Frontend(registry=registry, settings=Settings(bucket="b", client_max_waiting=6))
    broken.add("odd")
    old = ended(api)
    api.submit(["sleep 0"] * 4)
    assert retry(api, old).status_code == 429
