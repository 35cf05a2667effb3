"""Options of batches and tasks: how a client sends them, and what becomes of them."""

import json

import pytest

from taskfleet.options import BatchOptions, Options
from taskfleet.registry import Registry, TaskKind, sleep
from taskfleet.wire.queues import decode_bundle
from tests.support.frontend import Frontend
from tests.support.worker import run_nothing

FIELDS = {"timeout_s": 60, "max_attempts": 3, "memory_mb": 512, "retry_timeouts": True}
OPTIONS = BatchOptions(timeout_s=60, max_attempts=3, memory_mb=512, retry_timeouts=True)
QUERY = "timeout_s=60&max_attempts=3&memory_mb=512&retry_timeouts=true"


@pytest.fixture
def api():
    return Frontend()


def sent(api):
    """Returns the bundles on the queue."""
    messages = api.cloud.tasks.receive(10, wait_s=0, visibility_s=0)
    return [decode_bundle(message.body) for message in messages]


def test_a_json_batch_has_options(api):
    batch_id = api.submit(["sleep 1", {"kind": "sleep", "params": 1, "timeout_s": 5}], **FIELDS)
    assert api.cloud.monitor.batch(batch_id).options == OPTIONS
    (bundle,) = sent(api)
    assert bundle.options == OPTIONS.own
    assert [task.options for task in bundle.tasks] == [None, Options(timeout_s=5)]
    assert api.call("GET", f"/batches/{batch_id}").json_body["options"] == FIELDS


def test_a_whole_number_is_an_integer_however_it_is_written(api):
    task = '{"kind": "sleep", "params": 1, "max_attempts": 9.0}'
    body = f'{{"max_attempts": 3.0, "tasks": [{task}]}}'
    answer = api.call("POST", "/batches", body)
    assert answer.status_code == 202, answer.body
    (bundle,) = sent(api)
    assert bundle.options == Options(max_attempts=3)
    assert bundle.tasks[0].options == Options(max_attempts=9)
    refused = api.call("POST", "/batches", body.replace("3.0", "3.5"))
    assert refused.status_code == 422
    assert "got `float` - at `$.max_attempts`" in refused.json_body["Message"]


def test_a_text_batch_has_options_in_its_query(api):
    text = 'sleep 1\n{"kind": "sleep", "params": 1, "max_attempts": 9}'
    answer = api.call("POST", f"/batches?{QUERY}", text, content_type="text/plain")
    assert answer.status_code == 202, answer.body
    (bundle,) = sent(api)
    assert bundle.options == OPTIONS.own
    assert bundle.tasks[1].options == Options(max_attempts=9)


def test_an_upload_has_options_and_so_have_its_lines():
    work = TaskKind("work", run_nothing, expected_s=lambda _: 0.0)
    api = Frontend(registry=Registry([sleep, work]))
    lines = b'sleep 1\n{"kind": "work", "memory_mb": 64}\n'
    body = {"upload_id": api.upload(lines), **FIELDS}
    batch_id = api.call("POST", "/batches", body).json_body["batch_id"]
    api.feed(api.cloud.uploads, "expand_upload", 1)
    assert api.cloud.monitor.batch(batch_id).options == OPTIONS
    (bundle,) = sent(api)
    assert bundle.options == OPTIONS.own
    assert [task.options for task in bundle.tasks] == [None, Options(memory_mb=64)]


def test_results_show_a_task_with_its_own_options(api):
    task = {"kind": "sleep", "params": 1, "timeout_s": 5}
    batch_id = api.submit([task, "sleep 1"])
    api.run()
    rows = api.call("GET", f"/batches/{batch_id}/results").json_body["results"]
    assert [row["task"] for row in rows] == [task, "sleep 1"]
    assert api.call("GET", f"/batches/{batch_id}").json_body["options"] is None


def test_the_same_key_with_other_options_is_a_conflict(api):
    def send(**fields):
        body = {"tasks": ["sleep 1"], "idempotency_key": "k", **fields}
        return api.call("POST", "/batches", body)

    first = send(timeout_s=5)
    assert first.status_code == 202
    assert send(timeout_s=5).json_body == first.json_body
    assert send(timeout_s=6).status_code == 409
    assert send().status_code == 409


def test_the_same_key_of_an_upload_with_other_options_is_a_conflict(api):
    upload_id = api.upload(b"sleep 1")

    def send(**fields):
        return api.call("POST", "/batches", {"upload_id": upload_id, **fields})

    assert send(timeout_s=5).status_code == 202
    assert send(timeout_s=5).status_code == 202
    assert send().status_code == 409


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"timeout_s": 0}, "timeout_s"),
        ({"timeout_s": 86_401}, "timeout_s"),
        ({"timeout_s": "5"}, "timeout_s"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"memory_mb": 1}, "memory_mb"),
        ({"retry_timeouts": "yes"}, "retry_timeouts"),
    ],
)
def test_a_bad_option_is_a_422_that_names_the_field(api, fields, named):
    answer = api.call("POST", "/batches", {"tasks": ["sleep 1"], **fields})
    assert answer.status_code == 422
    assert named in answer.json_body["Message"]
    task = {"kind": "sleep", "params": 1, **fields}
    answer = api.call("POST", "/batches", {"tasks": ["sleep 1", task]})
    assert answer.status_code == 422
    assert answer.json_body["Message"].startswith(f"task 1: {named}: ")
    query = "&".join(f"{name}={value}" for name, value in fields.items())
    if fields != {"timeout_s": "5"}:  # in a query every value is text
        answer = api.call("POST", f"/batches?{query}", "sleep 1", content_type="text/plain")
        assert answer.status_code == 422
        assert named in answer.json_body["Message"]


def test_an_unknown_field_of_a_task_stays_refused(api):
    answer = api.call("POST", "/batches", {"tasks": [{"kind": "sleep", "timeout": 5}]})
    assert answer.status_code == 422
    assert "unknown field 'timeout'; known: kind, params, timeout_s" in answer.json_body["Message"]


def test_a_message_without_options_has_no_trace_of_them(api):
    api.submit(["sleep 1"])
    (message,) = api.cloud.tasks.receive(10, wait_s=0, visibility_s=0)
    assert json.loads(message.body)["tasks"] == [[0, "sleep", 1]]
    assert "options" not in message.body
