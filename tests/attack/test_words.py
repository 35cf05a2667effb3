"""Words of the protocol inside the text of tasks, results and names change nothing (D3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskfleet.bundle import Bundle, Response
from taskfleet.registry import Registry, sleep
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.queues import (
    decode_bundle,
    decode_response,
    encode_bundle,
    encode_response,
)
from tests.support.frontend import Frontend
from tests.support.worker import thread_kind

BATCH = "0123456789abcdefghjkmnpqrs"
WORDS = st.sampled_from(
    ['"clientID"', '{"clientID":1,"jobID":2,"task":"sleep 1"}', "jobID", '"v":1']
)
TEXTS = st.one_of(WORDS, st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
ECHO = thread_kind("echo", lambda params, _context: params)


@given(TEXTS, TEXTS)
@example('"clientID"', "x")
def test_a_bundle_is_read_as_it_was_written(params: str, key: str) -> None:
    task = Task(0, "echo", {"text": params, key: [params]})
    bundle = Bundle(f"{BATCH}:0", "alice", BATCH, [task])
    assert decode_bundle(encode_bundle(bundle)) == bundle


@given(TEXTS)
@example('"clientID"')
def test_a_response_is_read_as_it_was_written(text: str) -> None:
    row = TaskResult(0, TaskStatus.SUCCEEDED, {text: text}, attempts=1)
    response = Response(f"{BATCH}:0", "clientID", BATCH, [row])
    assert decode_response(encode_response(response)) == response


@pytest.mark.parametrize("client", ["clientID", "jobID"])
@pytest.mark.parametrize("text", ['"clientID"', '{"clientID": 5, "jobID": 6, "task": "sleep 1"}'])
def test_a_batch_with_such_words_ends_done(client: str, text: str) -> None:
    frontend = Frontend(registry=Registry([sleep, ECHO]))
    body: Any = {"tasks": [{"kind": "echo", "params": text}] * 3}
    answer = frontend.call("POST", "/batches", body, as_client=client)
    batch_id = answer.json_body["batch_id"]
    frontend.run()
    assert frontend.cloud.dead.depth().backlog == 0
    view = frontend.call("GET", f"/batches/{batch_id}", as_client=client).json_body
    assert (view["status"], view["succeeded"]) == ("DONE", 3)
    page = frontend.call("GET", f"/batches/{batch_id}/results", as_client=client).json_body
    assert [row["result"] for row in page["results"]] == [text] * 3


def test_the_form_of_2014_is_still_read() -> None:
    old = json.dumps({"clientID": 56783, "jobID": 152, "task": 'echo "v": 1'})
    bundle = decode_bundle(old)
    assert (bundle.job_id, bundle.tasks) == ("56783;152", [Task(0, "echo", '"v": 1')])
