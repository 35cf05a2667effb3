"""`after` over HTTP: a batch waits for others, says so, and goes or is cancelled when they end."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.registry import Registry, sleep
from tests.support.frontend import Frontend
from tests.support.worker import HandWorker, thread_kind


def fail(_params: Any, _context: Any) -> None:
    raise ValueError("no")


@pytest.fixture
def api() -> Frontend:
    return Frontend(registry=Registry([sleep, thread_kind("fails", fail)]))


def view(api: Frontend, batch_id: str) -> Any:
    return api.call("GET", f"/batches/{batch_id}").json_body


def why(api: Frontend, batch_id: str) -> str:
    return str(api.call("GET", f"/batches/{batch_id}/tasks/0").json_body["why"])


def test_a_batch_waits_for_another_and_goes_when_that_has_ended(api):
    first = api.submit(["sleep 0"], name="first")
    answer = api.call("POST", "/batches", {"tasks": ["sleep 0", "sleep 1"], "after": [first]})
    assert answer.status_code == 202, answer.body
    assert (answer.json_body["status"], answer.json_body["total"]) == ("WAITING", 2)
    second = answer.json_body["batch_id"]
    api.feed(api.cloud.uploads, "expand_upload", 1)
    shown = view(api, second)
    assert (shown["status"], shown["total"], shown["options"]["after"]) == ("WAITING", 2, [first])
    assert view(api, first)["followers"] == [second]
    assert why(api, second) == (
        f"its batch waits for batch {first}, which is QUEUED: 0 of 1 tasks have ended"
    )
    found = api.call("GET", "/batches?status=WAITING").json_body["batches"]
    assert [each["batch_id"] for each in found] == [second]
    api.run()
    assert view(api, first)["status"] == "DONE"
    assert why(api, second) == (
        "the batches for which its batch waited have ended; it is about to go on the queue"
    )
    api.run()
    assert (view(api, second)["status"], view(api, second)["succeeded"]) == ("DONE", 2)


def test_a_failure_cancels_a_batch_with_the_reason_and_its_followers_too(api):
    first = api.submit([{"kind": "fails", "params": 0}])
    second = api.submit(["sleep 0"], after=[first])
    third = api.submit(["sleep 0"], after=[second])
    anyway = api.submit(["sleep 0"], after=[first, second], after_failures="run")
    for _ in range(3):
        api.run()
    assert view(api, second)["status"] == view(api, third)["status"] == "CANCELLED"
    assert view(api, second)["error"] == (
        f"batch {first}, for which this one waited, ended with tasks that did not succeed: "
        "1 that failed"
    )
    assert view(api, third)["error"] == (
        f"batch {second}, for which this one waited, was cancelled"
    )
    assert view(api, second)["finished_at"] is not None
    assert (view(api, anyway)["status"], view(api, anyway)["succeeded"]) == ("DONE", 1)


def test_cancelling_a_batch_that_waits_cancels_those_that_wait_for_it(api):
    first = api.submit(["sleep 0"])
    second = api.submit(["sleep 0"], after=[first])
    third = api.submit(["sleep 0"], after=[second])
    assert api.call("DELETE", f"/batches/{second}").json_body["status"] == "CANCELLED"
    api.run()
    assert view(api, third)["status"] == "CANCELLED"
    assert view(api, first)["status"] == "DONE"


def test_text_bodies_and_uploads_wait_too(api):
    first, other = api.submit(["sleep 0"]), api.submit(["sleep 0", "sleep 1"])
    for query in (f"after={first},{other}", f"after={first}&after={other}"):
        answer = api.call("POST", f"/batches?{query}", "sleep 3", content_type="text/plain")
        assert answer.json_body["status"] == "WAITING", answer.body
        shown = view(api, answer.json_body["batch_id"])
        assert shown["options"]["after"] == [first, other]
    body = {"upload_id": api.upload(b"sleep 1\nsleep 2\n"), "after": [first]}
    file = api.call("POST", "/batches", body).json_body["batch_id"]
    assert view(api, file)["status"] == "WAITING"
    api.run()
    api.run()
    assert (view(api, file)["status"], view(api, file)["succeeded"]) == ("DONE", 2)


def test_a_retry_does_not_wait(api):
    first = api.submit(["sleep 0"])
    second = api.submit([{"kind": "fails", "params": 0}], after=[first], timeout_s=9)
    api.run()
    api.run()
    new = api.call("POST", f"/batches/{second}/retry").json_body
    assert new["status"] == "QUEUED"
    options = view(api, new["batch_id"])["options"]
    assert options == {"timeout_s": 9.0}


def test_the_same_key_is_the_same_batch_whatever_became_of_those_before(api):
    first = api.submit(["sleep 0"])
    body = {"tasks": ["sleep 0"], "after": [first], "idempotency_key": "k"}
    made = api.call("POST", "/batches", body).json_body
    assert api.call("POST", "/batches", body).json_body == made
    api.run()
    api.run()
    assert api.call("POST", "/batches", body).json_body == {**made, "status": "DONE", "total": 1}
    api.run()
    assert HandWorker(api.cloud, api.registry).work() is None
    other = api.call("POST", "/batches", {**body, "after": [first, made["batch_id"]]})
    assert other.status_code == 409


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"after": ["0123456789abcdefghjkmnpqrs"]}, "after: no batch '0123456789abcdefghjkmnpqrs'"),
        ({"after": ["../fleet"]}, "after: no batch '../fleet'"),
        ({"after": []}, "length >= 1"),
        ({"after": ["b"] * 101}, "length <= 100"),
        ({"after": "b"}, "Expected `array"),
        ({"after_failures": "run"}, "after_failures says what becomes of `after`"),
        ({"after": ["b"], "after_failures": "maybe"}, "Invalid enum value"),
        ({"after": ["b"], "open": True}, "an open batch cannot wait for others"),
    ],
)
def test_what_cannot_be_is_refused_and_named(api, options, says):
    answer = api.call("POST", "/batches", {"tasks": ["sleep 0"], **options})
    assert answer.status_code == 422
    assert says in answer.json_body["Message"]


def test_another_clients_batch_is_not_there(api):
    first = api.submit(["sleep 0"])
    body = {"tasks": ["sleep 0"], "after": [first]}
    answer = api.call("POST", "/batches", body, as_client="mallory")
    assert answer.status_code == 422
    assert answer.json_body["Message"] == f"after: no batch '{first}'"
    assert view(api, first)["followers"] == []
