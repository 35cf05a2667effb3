"""Dead letters through the API: who sees which, and what is moved back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskfleet.bundle import Bundle, Response, job_id
from taskfleet.memory import MemoryQueue
from taskfleet.ports import OutgoingMessage
from taskfleet.scheduler import letters as module
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.envelopes import pack
from taskfleet.wire.queues import encode_bundle, encode_response, encode_upload
from tests.support.frontend import Frontend

ID = "0123456789abcdefghjkmnpqrs"


@pytest.fixture
def api() -> Frontend:
    return Frontend()


def bundle(client_id: str, params: Any = 0) -> str:
    return encode_bundle(Bundle(job_id(ID, 3), client_id, ID, [Task(0, "sleep", params)]))


def response(client_id: str, number: int = 0) -> tuple[Response, str]:
    made = Response(job_id(ID, number), client_id, ID, [TaskResult(0, TaskStatus.SUCCEEDED)])
    return made, encode_response(made)


def bury(queue: MemoryQueue, *bodies: str, reason: str | None = "why") -> None:
    """Make dead letters of a queue."""
    for body in bodies:
        if reason is None:
            queue.dead_letters().send([OutgoingMessage(body)])
            continue
        queue.send([OutgoingMessage(body)])
        (message,) = queue.receive(1, wait_s=0, visibility_s=30)
        queue.dead_letter(message, reason)


def letters(api: Frontend, query: str = "", as_client: str = "alice") -> list[dict[str, Any]]:
    answer = api.call("GET", f"/dead-letters{query}", as_client=as_client)
    assert answer.status_code == 200, answer.body
    found: list[dict[str, Any]] = answer.json_body["letters"]
    return found


def redrive(api: Frontend, queue: str = "tasks", as_client: str = "alice") -> int:
    answer = api.call("POST", "/dead-letters/redrive", {"queue": queue}, as_client=as_client)
    assert answer.status_code == 202, answer.body
    return int(answer.json_body["moved"])


def test_one_s_own_are_shown_with_their_text(api: Frontend) -> None:
    bury(api.cloud.tasks, bundle("alice"), reason="no attempts left")
    (letter,) = letters(api)
    assert letter["reason"] == "no attempts left"
    assert (letter["queue"], letter["batch_id"], letter["job_id"]) == ("tasks", ID, f"{ID}:3")
    assert json.loads(letter["body"])["client_id"] == "alice"
    assert letter["sent_at"].endswith("Z")
    assert letters(api)[0]["message_id"] == letter["message_id"]  # it stays where it is


def test_a_long_text_is_cut(api: Frontend) -> None:
    bury(api.cloud.tasks, bundle("alice", "x" * 5_000))
    assert len(letters(api)[0]["body"]) == 1_000


def test_others_are_neither_shown_nor_moved(api: Frontend) -> None:
    bury(api.cloud.tasks, bundle("mallory"), bundle("alice"), '{"client_id": "mallory", "v": 9}')
    assert [letter["job_id"] for letter in letters(api)] == [f"{ID}:3"]
    assert redrive(api) == 1
    assert api.cloud.tasks.depth().backlog == 1
    assert letters(api) == []
    assert len(letters(api, as_client="mallory")) == 2


@pytest.mark.parametrize(
    "body",
    ["no JSON", "[]", "{}", '{"v": 7}', "[" * 10_000, '{"responses": 3}', '{"batch_id": "x"}'],
)
def test_a_letter_that_names_no_client_is_shown_without_its_text(api: Frontend, body: str) -> None:
    bury(api.cloud.tasks, body, reason="not a bundle")
    (letter,) = letters(api)
    assert (letter["reason"], letter["body"]) == ("not a bundle", None)
    assert (letter["batch_id"], letter["job_id"]) == (None, None)
    assert redrive(api) == 1


def test_one_that_sqs_moved_says_so(api: Frontend) -> None:
    bury(api.cloud.tasks, bundle("alice"), reason=None)
    assert letters(api)[0]["reason"] == "received too often"


def test_the_form_of_2014_is_its_client_s(api: Frontend) -> None:
    bury(api.cloud.tasks, '{"clientID": 56783, "jobID": 152, "task": "sleep 8000"}')
    assert letters(api) == []
    (letter,) = letters(api, as_client="56783")
    assert letter["job_id"] == "56783;152"


def test_responses_and_uploads_have_letters_too(api: Frontend) -> None:
    ((_, several),) = pack([response("alice", number) for number in range(2)])
    bury(api.cloud.responses, several, response("mallory")[1])
    upload_id = api.upload(b"sleep 0\n")
    batch_id = api.call("POST", "/batches", {"upload_id": upload_id}).json_body["batch_id"]
    bury(api.cloud.uploads, encode_upload(batch_id))
    (letter,) = letters(api, "?queue=responses")
    assert (letter["queue"], letter["job_id"]) == ("responses", f"{ID}:0")
    (letter,) = letters(api, "?queue=uploads")
    assert letter["batch_id"] == batch_id
    assert letters(api, "?queue=uploads", as_client="mallory") == []
    assert redrive(api, "uploads", as_client="mallory") == 0
    assert letters(api) == []
    before = api.cloud.responses.depth().backlog
    assert (redrive(api, "responses"), redrive(api, "uploads"), redrive(api)) == (1, 1, 0)
    assert api.cloud.responses.depth().backlog == before + 1
    api.run()
    assert api.call("GET", f"/batches/{batch_id}").json_body["succeeded"] == 1


def test_a_letter_of_several_clients_is_nobody_s(api: Frontend) -> None:
    heads = [json.loads(response(client)[1]) for client in ("alice", "mallory")]
    bury(api.cloud.responses, json.dumps({"v": 1, "responses": heads}))
    for client in ("alice", "mallory"):
        assert letters(api, "?queue=responses", as_client=client) == []
        assert redrive(api, "responses", as_client=client) == 0


def test_no_more_than_asked_for(api: Frontend) -> None:
    bury(api.cloud.tasks, *(bundle("alice", number) for number in range(25)))
    assert len(letters(api, "?limit=7")) == 7
    assert len(letters(api)) == 25
    assert redrive(api) == 25


def test_one_request_looks_at_so_many(api: Frontend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_MAX", 10)
    bury(api.cloud.tasks, *(bundle("alice", number) for number in range(25)))
    assert len(letters(api)) == 10
    assert [redrive(api) for _ in range(3)] == [10, 10, 5]


@pytest.mark.parametrize("query", ["queue=dead", "queue=", "limit=0", "limit=101", "x=1"])
def test_a_bad_query_is_refused(api: Frontend, query: str) -> None:
    assert api.call("GET", f"/dead-letters?{query}").status_code == 422


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"queue": "x"}, 422),
        ({"queue": "tasks", "limit": 1}, 422),
        (b"", 400),
        (b"[]", 400),
    ],
)
def test_a_bad_body_is_refused(api: Frontend, body: Any, status: int) -> None:
    assert api.call("POST", "/dead-letters/redrive", body).status_code == status
