"""One task over HTTP: what a client sees of it, and what it printed."""

import jsonschema
import pytest

from chalice_app.openapi import spec
from taskfleet.bundle import job_id
from taskfleet.options import Options
from taskfleet.registry import Registry, sleep
from taskfleet.task import Attempt, Task, TaskResult, TaskStatus
from taskfleet.wire.http.tasks import LOG_BYTES_HEADER, LOG_DROPPED_HEADER, LOG_END_HEADER
from tests.support.frontend import Frontend
from tests.support.worker import HandWorker, failing_kind


@pytest.fixture
def api():
    registry = Registry([sleep, failing_kind("bug", lambda: ValueError("oh"))])
    return Frontend(registry=registry)


def task(api, batch_id, index=0, **options):
    answer = api.call("GET", f"/batches/{batch_id}/tasks/{index}", **options)
    if answer.status_code == 200:
        document = spec()
        schema = {"$ref": "#/components/schemas/TaskView", "components": document["components"]}
        jsonschema.validate(answer.json_body, schema)
    return answer


def log(api, batch_id, index=0, query="", **options):
    return api.call("GET", f"/batches/{batch_id}/tasks/{index}/log{query}", **options)


def record(api, batch_id, *rows, tasks=None, done=True):
    """Record results of the batch's only bundle as a worker does."""
    monitor = api.cloud.monitor
    job = job_id(batch_id, 0)
    lease = monitor.claim(job, owner="w-9/abc", lease_s=60).lease
    tasks = tasks or [Task(row.index, "sleep", 1) for row in rows]
    if done:
        monitor.commit(job, lease, tasks=tasks, results=rows)
    else:
        monitor.release(job, lease, tasks=tasks, results=rows)


def printed(api, batch_id, data, *, name="x", dropped=0):
    """Store an output as a worker does. Returns the reference to it."""
    key = f"logs/{batch_id}/0/{name}"
    api.cloud.store.put(key, b"<" + data + b">", content_type="text/plain")
    return (key, 1, len(data), dropped)


def test_a_task_that_nobody_has_claimed_says_why_nothing_runs(api):
    batch_id = api.submit(["sleep 1"])
    body = task(api, batch_id).json_body
    assert body["status"] == "QUEUED"
    assert body["history"] == []
    assert body["task"] is None
    why = (
        "no worker has claimed it; it is on the queue; nothing runs now: the provisioner has never"
    )
    assert body["why"].startswith(why)


def test_a_task_that_is_held_names_its_worker(api):
    batch_id = api.submit(["sleep 1"])
    HandWorker(api.cloud, api.registry).poll()
    assert task(api, batch_id).json_body["why"].startswith("it is held by worker w-1, whose lease")


def test_a_task_that_is_done(api):
    batch_id = api.submit(
        ["sleep 1000", {"kind": "sleep", "params": 5, "timeout_s": 9}], max_attempts=2
    )
    api.run()
    body = task(api, batch_id, 1).json_body
    (attempt,) = body.pop("history")
    assert body == {
        "task_id": f"{batch_id}/1",
        "index": 1,
        "task": {"kind": "sleep", "params": 5, "timeout_s": 9},
        "status": "SUCCEEDED",
        "result": None,
        "error": None,
        "attempts": 1,
        "started_at": attempt["started_at"],
        "duration_s": body["duration_s"],
        "worker_id": "w-1",
        "progress": None,
        "limits": {
            "timeout_s": 9,
            "max_attempts": 2,
            "memory_mb": None,
            "retry_timeouts": False,
            "reuse": False,
        },
        "traceback": None,
        "reused_from": None,
        "log_tail": None,
        "log_bytes": 0,
        "log_dropped": 0,
        "why": "nothing: it is done",
    }
    assert (attempt["outcome"], attempt["worker_id"]) == ("SUCCEEDED", "w-1")
    assert attempt["ended_at"] >= attempt["started_at"]


def test_an_answer_that_is_not_counted_yet(api):
    batch_id = api.submit(["sleep 1"])
    HandWorker(api.cloud, api.registry).work()
    assert "the collector has not counted" in task(api, batch_id).json_body["why"]


def test_the_attempt_of_a_noted_task_is_shown_as_the_one_that_runs(api):
    batch_id = api.submit(["sleep 1"])
    record(api, batch_id, TaskResult(0, TaskStatus.RUNNING, None, None, 2, 100.0, None, "w-2"))
    history = task(api, batch_id).json_body["history"]
    assert [(each["attempt"], each["outcome"]) for each in history] == [(1, "LOST"), (2, "RUNNING")]


def test_every_attempt_is_shown(api):
    batch_id = api.submit(["sleep 1"])
    first = Attempt(1, "w-1", 100.0, 2.5, "503", ("logs/x", 0, 5, 0))
    row = TaskResult(
        0,
        TaskStatus.FAILED,
        error="ValueError: oh",
        attempts=3,
        started_at=200.0,
        duration_s=1.0,
        worker_id="w-3",
        traceback="File kind.py",
        earlier=[first],
    )
    record(api, batch_id, row)
    body = task(api, batch_id).json_body
    assert body["traceback"] == "File kind.py"
    assert body["history"] == [
        {
            "attempt": 1,
            "outcome": "FAILED",
            "worker_id": "w-1",
            "started_at": "1970-01-01T00:01:40.000Z",
            "ended_at": "1970-01-01T00:01:42.500Z",
            "error": "503",
            "log_bytes": 5,
        },
        {
            "attempt": 2,
            "outcome": "LOST",
            "worker_id": None,
            "started_at": None,
            "ended_at": None,
            "error": None,
            "log_bytes": 0,
        },
        {
            "attempt": 3,
            "outcome": "FAILED",
            "worker_id": "w-3",
            "started_at": "1970-01-01T00:03:20.000Z",
            "ended_at": "1970-01-01T00:03:21.000Z",
            "error": "ValueError: oh",
            "log_bytes": 0,
        },
    ]


def test_a_task_that_failed_and_waits_for_another_attempt(api):
    batch_id = api.submit(["sleep 1"])
    now = api.cloud.clock.now()
    row = TaskResult(0, TaskStatus.QUEUED, error="503", attempts=1, started_at=now, duration_s=1.0)
    record(api, batch_id, row, done=False)
    body = task(api, batch_id).json_body
    assert body["status"] == "QUEUED"
    assert [each["outcome"] for each in body["history"]] == ["FAILED"]
    assert body["why"].startswith("attempt 2 is due before about ")


def test_a_task_of_a_file_that_is_not_read_yet(api):
    body = {"upload_id": api.upload(b"sleep 1\n" * 3)}
    batch_id = api.call("POST", "/batches", body).json_body["batch_id"]
    assert task(api, batch_id, 2).json_body["why"].startswith("the batch is open")
    api.feed(api.cloud.uploads, "expand_upload", 1)
    assert task(api, batch_id, 2).json_body["why"].startswith("no worker has claimed it")
    assert task(api, batch_id, 3).status_code == 404


@pytest.mark.parametrize("index", ["1", "99999999999", "9" * 30, "-1", "x", "1.0", "%20"])
@pytest.mark.parametrize("rest", ["", "/log"])
def test_a_task_that_is_not_there_is_a_404(api, index, rest):
    batch_id = api.submit(["sleep 1"])
    answer = api.call("GET", f"/batches/{batch_id}/tasks/{index}{rest}")
    assert answer.status_code == 404
    assert answer.json_body["Message"].startswith("no task")


@pytest.mark.parametrize("rest", ["", "/log"])
def test_another_clients_task_is_a_404_like_no_task(api, rest):
    batch_id = api.submit(["sleep 1"])
    api.run()
    answer = api.call("GET", f"/batches/{batch_id}/tasks/0{rest}", as_client="bob")
    assert answer.status_code == 404
    assert answer.json_body["Message"] == f"no batch '{batch_id}'"
    assert api.call("GET", f"/batches/{'z' * 26}/tasks/0{rest}").status_code == 404
    assert api.call("GET", f"/batches/{batch_id}/tasks/0{rest}", as_client=None).status_code == 401


# --- output ---------------------------------------------------------------------------------


def done(index=0, **fields):
    fields = {"attempts": 1, "started_at": 1.0, "duration_s": 1.0, **fields}
    return TaskResult(index, TaskStatus.SUCCEEDED, **fields)


def test_what_a_task_printed_is_text(api):
    batch_id = api.submit(["sleep 1"])
    data = "häßlich\n".encode() + b"\xff\x1b[31m</script>\n"
    record(api, batch_id, done(log=printed(api, batch_id, data, dropped=70)))
    answer = log(api, batch_id)
    assert answer.status_code == 200
    assert answer.body.decode() == "häßlich\n\ufffd\x1b[31m</script>\n"
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers[LOG_DROPPED_HEADER] == "70"
    assert answer.headers[LOG_END_HEADER] == answer.headers[LOG_BYTES_HEADER] == str(len(data))
    body = task(api, batch_id).json_body
    assert body["log_tail"] == "häßlich\n\ufffd\x1b[31m</script>\n"
    assert (body["log_bytes"], body["log_dropped"]) == (len(data), 70)


def test_a_large_output_comes_in_pages(api):
    batch_id = api.submit(["sleep 1"])
    data = b"0123456789abcde\n" * 140_000
    record(api, batch_id, done(log=printed(api, batch_id, data)))
    parts, offset = [], "0"
    while offset != str(len(data)):
        answer = log(api, batch_id, query=f"?offset={offset}")
        assert answer.headers[LOG_BYTES_HEADER] == str(len(data))
        parts.append(answer.body)
        offset = answer.headers[LOG_END_HEADER]
    assert b"".join(parts) == data
    assert len(parts) == 3
    tail = task(api, batch_id).json_body["log_tail"]
    assert data.decode().endswith(tail)
    assert len(tail) == 4096


def test_the_output_of_an_earlier_attempt(api):
    batch_id = api.submit(["sleep 1"])
    first = Attempt(1, "w", 1.0, 1.0, "oh", printed(api, batch_id, b"first", name="a"))
    last = printed(api, batch_id, b"third", name="b")
    record(api, batch_id, done(attempts=3, log=last, earlier=[first, Attempt(2, "w", 1.0, 1.0)]))
    assert log(api, batch_id).body == b"third"
    assert log(api, batch_id, query="?attempt=3").body == b"third"
    assert log(api, batch_id, query="?attempt=1").body == b"first"
    answer = log(api, batch_id, query="?attempt=2")
    assert answer.status_code == 404
    assert answer.json_body["Message"] == "task 0 in attempt 2 printed nothing"
    answer = log(api, batch_id, query="?attempt=4")
    assert answer.status_code == 404
    assert answer.json_body["Message"] == "no attempt 4 of task 0 is recorded"


def test_no_output_is_a_404_that_says_so(api):
    batch_id = api.submit(["sleep 1"])
    answer = log(api, batch_id)
    assert (answer.status_code, answer.json_body["Message"]) == (404, "task 0 has no output yet")
    api.run()
    answer = log(api, batch_id)
    assert (answer.status_code, answer.json_body["Message"]) == (404, "task 0 printed nothing")


def test_output_that_is_gone_is_a_404_and_the_task_is_still_shown(api):
    batch_id = api.submit(["sleep 1"])
    ref = printed(api, batch_id, b"text")
    record(api, batch_id, done(log=ref))
    api.cloud.store.delete(ref[0])
    answer = log(api, batch_id)
    assert answer.status_code == 404
    assert answer.json_body["Message"].startswith("what task 0 printed is gone")
    assert task(api, batch_id).json_body["log_tail"] is None


def test_a_row_cannot_show_another_clients_file(api):
    batch_id = api.submit(["sleep 1"])
    api.cloud.store.put("uploads/bob/secret", b"secret", content_type="text/plain")
    record(api, batch_id, done(log=("uploads/bob/secret", 0, 6, 0)))
    assert log(api, batch_id).status_code == 404
    assert task(api, batch_id).json_body["log_tail"] is None


@pytest.mark.parametrize(
    "query",
    ["?offset=-1", "?offset=x", "?attempt=0", "?attempt=x", "?atempt=1", "?offset=1&offset=2"],
)
def test_a_bad_query_is_a_422(api, query):
    batch_id = api.submit(["sleep 1"])
    assert log(api, batch_id, query=query).status_code == 422
    assert task(api, batch_id, "0?wait=1").status_code == 422


def test_the_options_of_a_batch_are_its_limits(api):
    batch_id = api.submit(["sleep 1"], timeout_s=60)
    own = Task(0, "sleep", 1, Options(retry_timeouts=True))
    record(api, batch_id, done(), tasks=[own])
    assert task(api, batch_id).json_body["limits"] == {
        "timeout_s": 60,
        "max_attempts": 5,
        "memory_mb": None,
        "retry_timeouts": True,
        "reuse": False,
    }
