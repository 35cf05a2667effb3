"""The trace of a batch: from the header of its POST through record, message and answer, to lines
of logs. It is bound wherever a request, a bundle or a response is handled."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from taskfleet.bundle import Bundle, job_id
from taskfleet.errors import PermanentError
from taskfleet.log import JsonFormatter
from taskfleet.ports import OutgoingMessage
from taskfleet.registry import Registry, sleep
from taskfleet.task import Task
from taskfleet.wire.queues import encode_bundle
from tests.support.frontend import Frontend
from tests.support.worker import LEASE_S, HandWorker, failing_kind

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = f"00-{TRACE}-{PARENT}-00"


@pytest.fixture
def lines() -> Iterator[Any]:
    """A function that returns the lines logged so far, of one action if given."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)

    def read(action: str | None = None) -> list[dict[str, Any]]:
        found = [json.loads(line) for line in stream.getvalue().splitlines()]
        return [line for line in found if action in (None, line.get("action"))]

    yield read
    root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture
def front() -> Frontend:
    broken = failing_kind("gone", lambda: PermanentError("no"), expected_s=lambda _params: 0.0)
    return Frontend(registry=Registry([sleep, broken]))


def submit(front: Frontend, tasks: list[Any], **headers: str) -> str:
    response = front.call("POST", "/batches", {"tasks": tasks}, headers=headers)
    assert response.status_code == 202, response.body
    return str(response.json_body["batch_id"])


def message(front: Frontend) -> dict[str, Any]:
    (received,) = front.cloud.tasks.receive(10, wait_s=0, visibility_s=0)
    return dict(json.loads(received.body))


def test_the_header_of_a_post_is_recorded_and_goes_with_bundle_and_response(
    front: Frontend,
) -> None:
    batch_id = submit(front, ["sleep 0"], traceparent=HEADER)
    record = front.cloud.monitor.batch(batch_id)
    assert record is not None
    assert record.traceparent == HEADER
    assert message(front)["traceparent"] == HEADER
    HandWorker(front.cloud, front.registry).work()
    (answer,) = front.cloud.responses.receive(10, wait_s=0, visibility_s=0)
    assert json.loads(answer.body)["traceparent"] == HEADER
    front.feed(front.cloud.responses, "collect_responses", 10)
    view = front.call("GET", f"/batches/{batch_id}").json_body
    assert view["status"] == "DONE"
    assert view["trace_id"] == TRACE


@pytest.mark.parametrize(
    "header", [None, "", "hello", f"00-{'0' * 32}-{PARENT}-01", f"ff{HEADER[2:]}"]
)
def test_without_a_valid_header_a_trace_begins(front: Frontend, header: str | None) -> None:
    headers = {} if header is None else {"traceparent": header}
    batch_id = submit(front, ["sleep 0"], **headers)
    made = message(front)["traceparent"]
    assert made != header
    assert made.startswith("00-")
    view = front.call("GET", f"/batches/{batch_id}").json_body
    assert view["trace_id"] == made[3:35] != "0" * 32


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"Traceparent": [HEADER]}, True),
        ({"traceparent": [HEADER, HEADER]}, False),
        ({"traceparent": [HEADER], "TraceParent": [HEADER]}, False),
        ({}, False),
    ],
)
def test_a_header_that_is_sent_twice_is_ignored(
    front: Frontend, sent: dict[str, list[str]], kept: bool
) -> None:
    path = {"resourcePath": "/batches", "path": "/batches", "httpMethod": "POST"}
    event = {
        "body": '{"tasks": ["sleep 0"]}',
        "headers": {name: values[-1] for name, values in sent.items()},
        "multiValueHeaders": {"content-type": ["application/json"], **sent},
        "multiValueQueryStringParameters": None,
        "pathParameters": None,
        "stageVariables": None,
        "requestContext": {**path, "authorizer": {"principalId": "alice"}},
    }
    assert front.app(event, None)["statusCode"] == 202
    assert (message(front)["traceparent"] == HEADER) is kept


def test_a_batch_of_a_file_has_the_trace_of_its_post(front: Frontend, lines: Any) -> None:
    upload_id = front.upload(b"sleep 0\nnonsense\n")
    headers = {"traceparent": HEADER}
    made = front.call("POST", "/batches", {"upload_id": upload_id}, headers=headers).json_body
    record = front.cloud.monitor.batch(made["batch_id"])
    assert record is not None
    assert record.traceparent == HEADER
    front.run()
    (refused,) = lines("upload_refused")
    assert refused["trace_id"] == TRACE


def test_a_batch_that_is_sent_again_keeps_its_trace(front: Frontend) -> None:
    body = {"tasks": ["sleep 0"], "idempotency_key": "k"}
    first = front.call("POST", "/batches", body, headers={"traceparent": HEADER}).json_body
    again = front.call("POST", "/batches", body).json_body
    assert again == first
    view = front.call("GET", f"/batches/{first['batch_id']}").json_body
    assert view["trace_id"] == TRACE


def test_messages_of_earlier_versions_are_executed_and_answered(front: Frontend) -> None:
    batch_id = submit(front, ["sleep 0"])
    (received,) = front.cloud.tasks.receive(10, wait_s=0, visibility_s=30)
    front.cloud.tasks.delete([received])
    old = Bundle(job_id(batch_id, 0), "alice", batch_id, [Task(0, "sleep", 0)])
    assert "traceparent" not in encode_bundle(old)
    legacy = '{"clientID": 7, "jobID": 1, "task": "sleep 0"}'
    front.cloud.tasks.send([OutgoingMessage(encode_bundle(old)), OutgoingMessage(legacy)])
    HandWorker(front.cloud, front.registry).work()
    answers = front.cloud.responses.receive(10, wait_s=0, visibility_s=0)
    assert len(answers) == 2
    assert not any("traceparent" in answer.body for answer in answers)


# --- lines ----------------------------------------------------------------------------------


def test_the_lines_of_a_request_have_its_trace(lines: Any) -> None:
    front = Frontend(fault=lambda name: "before" if name == "create_batch" else None)
    headers = {"traceparent": HEADER}
    assert (
        front.call("POST", "/batches", {"tasks": ["sleep 0"]}, headers=headers).status_code == 503
    )
    (refused,) = lines("turned_away")
    assert refused["trace_id"] == TRACE


def test_the_lines_of_a_task_have_the_trace_of_its_batch(front: Frontend, lines: Any) -> None:
    submit(front, ["gone"], traceparent=HEADER)
    submit(front, ["gone"])
    HandWorker(front.cloud, front.registry).work()
    first, second = lines("task_failed")
    assert first["trace_id"] == TRACE
    assert second["trace_id"] != TRACE
    logging.getLogger("after").warning("between two bundles")
    assert "trace_id" not in lines()[-1]


def test_the_line_of_a_lost_lease_has_the_trace(front: Frontend, lines: Any) -> None:
    submit(front, ["sleep 5"], traceparent=HEADER)
    worker = HandWorker(front.cloud, front.registry)
    worker.poll()
    front.cloud.clock.sleep(LEASE_S + 1)
    assert HandWorker(front.cloud, front.registry, worker_id="w-2").poll()
    worker.heartbeat.beat()
    (lost,) = lines("lease_lost")
    assert lost["trace_id"] == TRACE


def test_the_line_of_a_message_that_cannot_be_claimed_has_the_trace(
    front: Frontend, lines: Any
) -> None:
    submit(front, ["sleep 0"], traceparent=HEADER)
    down = HandWorker(
        front.cloud, front.registry, fault=lambda name: "before" if name == "claim" else None
    )
    down.poll()
    (failed,) = lines("claim_failed")
    assert failed["trace_id"] == TRACE


def test_the_line_of_a_response_that_is_dropped_has_the_trace(front: Frontend, lines: Any) -> None:
    submit(front, ["sleep 0"], traceparent=HEADER)
    HandWorker(front.cloud, front.registry).work()
    front.cloud.monitor.record_progress = lambda *_args, **_kwargs: None  # type: ignore[method-assign]
    front.cloud.collect()
    (dropped,) = lines("batch_unknown")
    assert dropped["trace_id"] == TRACE
