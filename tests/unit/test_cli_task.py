"""`taskfleet explain` and `taskfleet log`: what a task waits for, and what it printed."""

from __future__ import annotations

import json

import pytest

from taskfleet.cli import task as command
from taskfleet.client import ApiError, Client
from tests.support.stub_api import BATCH_ID, TASK, Answer, StubApi, printed
from tests.unit.test_cli import Run, api, run  # noqa: F401 - fixtures

NOTHING = Answer(404, {"Code": "NotFoundError", "Message": "task 0 printed nothing"})


def attempt(number: int, outcome: str) -> dict[str, object]:
    return {"attempt": number, "outcome": outcome}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "POLL_S", 0.0)


def test_a_task_is_explained_in_a_line_or_in_full(api: StubApi, run: Run) -> None:  # noqa: F811
    waiting = {**TASK, "status": "QUEUED", "why": "no worker\x1b has claimed it"}
    api.answers(waiting, waiting)
    result = run("explain", BATCH_ID, "7")
    assert (result.exit_code, result.stdout) == (0, "QUEUED: no worker  has claimed it\n")
    assert json.loads(run("explain", BATCH_ID, "7", "--json").stdout) == waiting
    assert api.lines == [f"GET /batches/{BATCH_ID}/tasks/7"] * 2


def test_what_a_task_printed_goes_to_standard_output(api: StubApi, run: Run) -> None:  # noqa: F811
    api.answers(printed("häß\nx"))
    result = run("log", BATCH_ID, "7")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "häß\nx", "")
    assert api.lines == [f"GET /batches/{BATCH_ID}/tasks/7/log?offset=0"]


def test_all_pages_are_printed_and_what_is_missing_is_told(api: StubApi, run: Run) -> None:  # noqa: F811
    api.answers(printed("one", total=6, dropped=1234), printed("two", 3, dropped=1234))
    result = run("log", BATCH_ID, "0", "--attempt", "2")
    assert result.stdout == "onetwo"
    assert result.stderr == "taskfleet: 1,234 more bytes were printed and not kept\n"
    assert api.lines[1] == f"GET /batches/{BATCH_ID}/tasks/0/log?offset=3&attempt=2"


def test_a_task_that_printed_nothing_is_one_line(api: StubApi, run: Run) -> None:  # noqa: F811
    api.answers(NOTHING)
    result = run("log", BATCH_ID, "0")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "task 0 printed nothing" in result.stderr


def test_following_prints_what_comes_and_says_what_the_task_waits_for(
    api: StubApi,  # noqa: F811
    run: Run,  # noqa: F811
) -> None:
    running = {**TASK, "status": "RUNNING", "history": [attempt(1, "RUNNING")], "why": "it runs"}
    done = {**TASK, "history": [attempt(1, "SUCCEEDED")], "log_bytes": 6}
    waiting = {**TASK, "status": "QUEUED", "why": "it is on the queue"}
    api.answers(waiting, waiting, {**running, "log_bytes": 3}, printed("one"))
    api.answers({**running, "log_bytes": 3}, done, printed("two", 3))
    result = run("log", BATCH_ID, "0", "--follow")
    assert (result.exit_code, result.stdout) == (0, "onetwo")
    assert result.stderr.splitlines() == [
        "taskfleet: it is on the queue",
        "taskfleet: it runs",
        "taskfleet: task 0 SUCCEEDED",
    ]


def test_following_begins_anew_with_each_attempt(api: StubApi, run: Run) -> None:  # noqa: F811
    first = {**TASK, "status": "QUEUED", "history": [attempt(1, "FAILED")], "log_bytes": 3}
    second = {
        **TASK,
        "status": "FAILED",
        "error": "oh",
        "history": [attempt(1, "FAILED"), attempt(2, "FAILED")],
        "log_bytes": 3,
        "log_dropped": 9,
    }
    api.answers(first, printed("one"), second, printed("two"))
    result = run("log", BATCH_ID, "0", "--follow")
    assert (result.exit_code, result.stdout) == (1, "onetwo")
    assert result.stderr.splitlines()[1:] == [
        "taskfleet: attempt 2",
        "taskfleet: 9 more bytes were printed and not kept",
        "taskfleet: task 0 FAILED: oh",
    ]


def test_following_prints_again_what_a_lost_worker_ran_first(
    api: StubApi,  # noqa: F811
    run: Run,  # noqa: F811
) -> None:
    """The attempt's number stays, since nobody was charged."""

    def running(second: int, printed: int) -> dict[str, object]:
        one = {**attempt(1, "RUNNING"), "started_at": f"2026-01-01T00:00:{second:02}.000Z"}
        return {**TASK, "status": "RUNNING", "history": [one], "log_bytes": printed}

    done = {**running(40, 4), "status": "SUCCEEDED"}
    api.answers(running(1, 3), printed("one"), {**running(1, 3), "status": "QUEUED", "history": []})
    api.answers(running(30, 3), printed("ONE"), running(40, 0), done, printed("four"))
    result = run("log", BATCH_ID, "0", "--follow")
    assert (result.exit_code, result.stdout) == (0, "oneONEfour")
    assert result.stderr.count("its worker was lost, it begins anew") == 2


def test_following_goes_with_the_last_attempt_only(run: Run) -> None:  # noqa: F811
    result = run("log", BATCH_ID, "0", "--follow", "--attempt", "1")
    assert result.exit_code == 2
    assert "--follow goes with the last attempt" in result.stderr


def test_the_client_reads_a_task_and_its_output(api: StubApi) -> None:  # noqa: F811
    api.answers({**TASK, "history": [attempt(1, "SUCCEEDED")]}, printed("two", 3, total=9))
    with Client(api.url, "t") as client:
        task = client.task(BATCH_ID, 0)
        assert (task.index, task.why) == (0, "nothing: it is done")
        assert task.history[0].outcome == "SUCCEEDED"
        page = client.log(BATCH_ID, 0, offset=3)
        assert (page.text, page.end, page.length, page.is_last) == ("two", 6, 9, False)
        for index in (-1, "0/../1", 1.5):
            with pytest.raises(ApiError, match="no task"):
                client.task(BATCH_ID, index)  # type: ignore[arg-type]
