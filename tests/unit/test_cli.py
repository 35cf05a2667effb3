"""The command line: its output, its errors and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import taskfleet
from taskfleet.cli.main import main
from taskfleet.client import body, client
from taskfleet.wire import token
from tests.support.ports import free_port
from tests.support.stub_api import BATCH, BATCH_ID, DONE, ROW, Answer, StubApi, accepted, serving

ROOT = Path(taskfleet.__file__).parent.parent
SECRET = "a secret of more than thirty-two characters"
SOME_FAILED = {**DONE, "succeeded": 2, "failed": 1}
FAILED_ROW = {**ROW, "index": 1, "status": "FAILED", "error": "it broke"}

Run = Callable[..., Result]


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubApi]:
    for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with serving() as stub:
        monkeypatch.setenv("TASKFLEET_URL", stub.url)
        monkeypatch.setenv("TASKFLEET_TOKEN", "t")
        yield stub
    assert stub.left == 0, "the command asked for less than the test laid out"


@pytest.fixture
def run(api: StubApi) -> Run:
    """Runs a command; its errors must be one line each, and no exception may leave it."""

    def invoke(*args: str, stdin: str | None = None) -> Result:
        result = CliRunner().invoke(main, args, input=stdin)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        if result.exit_code:
            assert all(line.startswith("taskfleet: ") for line in result.stderr.splitlines())
        return result

    return invoke


@pytest.fixture
def tasks(tmp_path: Path) -> Callable[[str], str]:
    def write(text: str) -> str:
        path = tmp_path / "tasks.txt"
        path.write_text(text)
        return path.name

    return write


Tasks = Callable[[str], str]


# --- submit -----------------------------------------------------------------------------------


def test_a_file_is_handed_in_and_waited_for(api: StubApi, run: Run, tasks: Tasks) -> None:
    api.answers(Answer(202, accepted()), BATCH, DONE)
    file = tasks('# three\nsleep 1\n\n  sleep 2  \n{"kind": "x", "params": [1]}\n')
    result = run("submit", file, "--name", "n", "--key", "k")
    assert (result.exit_code, result.stdout) == (0, f"{BATCH_ID}\n")
    assert result.stderr == f"taskfleet: batch {BATCH_ID}: 3 succeeded of 3 in 5.5 s\n"
    assert api.asked[0].json == {
        "tasks": ["sleep 1", "sleep 2", {"kind": "x", "params": [1]}],
        "name": "n",
        "idempotency_key": "k",
    }


def test_a_dash_is_standard_input(api: StubApi, run: Run) -> None:
    api.answers(Answer(202, accepted()), DONE)
    assert run("submit", "-", stdin="\ufeffsleep 1\r\nsleep 2\r\n").exit_code == 0
    assert api.asked[0].json["tasks"] == ["sleep 1", "sleep 2"]


def test_one_failed_task_makes_the_exit_code_1_and_says_how_to_see_it(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(Answer(202, accepted()), SOME_FAILED)
    result = run("submit", tasks("sleep 1"))
    assert result.exit_code == 1
    assert "2 succeeded, 1 failed of 3" in result.stderr
    assert f"taskfleet results {BATCH_ID} --status FAILED" in result.stderr
    assert f"taskfleet retry {BATCH_ID}" in result.stderr


def test_a_batch_that_somebody_cancels_makes_the_exit_code_1(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(Answer(202, accepted()), {**DONE, "status": "CANCELLED", "cancelled": 1})
    assert run("submit", tasks("sleep 1")).exit_code == 1


def test_without_waiting_only_the_id_is_on_standard_output(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(Answer(202, accepted()))
    result = run("submit", "--no-wait", tasks("sleep 1"))
    assert (result.exit_code, result.stdout) == (0, f"{BATCH_ID}\n")
    assert f"taskfleet status {BATCH_ID} --wait" in result.stderr
    assert api.lines == ["POST /batches"]


def test_without_waiting_json_is_what_the_api_answered(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(Answer(202, accepted()))
    result = run("submit", "--no-wait", "--json", tasks("sleep 1"))
    assert json.loads(result.stdout) == accepted()


def test_json_is_the_results_and_nothing_else_on_standard_output(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(
        Answer(202, accepted()), SOME_FAILED, {"results": [ROW, FAILED_ROW], "cursor": None}
    )
    result = run("submit", "--json", tasks("sleep 1"))
    assert result.exit_code == 1
    assert [json.loads(line) for line in result.stdout.splitlines()] == [ROW, FAILED_ROW]


def test_without_a_key_each_run_gets_one_of_its_own(api: StubApi, run: Run, tasks: Tasks) -> None:
    api.answers(Answer(202, accepted()), Answer(202, accepted()))
    for _ in range(2):
        run("submit", "--no-wait", tasks("sleep 1"))
    assert len({asked.json["idempotency_key"] for asked in api.asked}) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('sleep 1\n# x\n{"kind": \n', "tasks.txt, line 3: malformed JSON"),
        ('{"kind": "x", "params": NaN}\n', "tasks.txt, line 1: NaN is not JSON"),
        ('{"kind": "x", "kind": "y"}\n', "tasks.txt, line 1: the key 'kind' occurs twice"),
    ],
)
def test_a_line_that_cannot_be_read_is_named_before_anything_is_sent(
    api: StubApi, run: Run, tasks: Tasks, text: str, message: str
) -> None:
    result = run("submit", tasks(text))
    assert result.exit_code == 2
    assert message in result.stderr
    assert api.asked == []


def test_a_task_that_the_api_refuses_is_named_by_its_line(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(Answer(422, {"Code": "x", "Message": "task 1: unknown kind 'nap'"}))
    result = run("submit", tasks("# first\nsleep 1\n\n# second\nnap 1\n"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "taskfleet: tasks.txt, line 5: unknown kind 'nap'\n"


def test_options_go_with_the_batch(api: StubApi, run: Run, tasks: Tasks) -> None:
    api.answers(Answer(202, accepted()))
    options = ["--timeout", "15m", "--max-attempts", "3", "--memory-mb", "512", "--retry-timeouts"]
    options += ["--priority", "high"]
    line = '{"kind":"x","params":1,"timeout_s":5}'
    assert run("submit", "--no-wait", tasks(line), "--key", "k", *options).exit_code == 0
    assert api.asked[0].json == {
        "tasks": [json.loads(line)],
        "idempotency_key": "k",
        "timeout_s": 900,
        "max_attempts": 3,
        "memory_mb": 512,
        "retry_timeouts": True,
        "priority": "high",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--timeout", "2d"), "timeout_s: Expected `float` <= 86400"),
        (("--timeout", "soon"), "'soon' is not a duration"),
        (("--max-attempts", "0"), "0 is not in the range 1<=x<=100"),
        (("--memory-mb", "1"), "1 is not in the range 32<=x"),
        (("--priority", "urgent"), "'urgent' is not one of 'normal', 'high'"),
    ],
)
def test_a_bad_option_is_named_before_anything_is_sent(
    api: StubApi, run: Run, tasks: Tasks, options: tuple[str, str], message: str
) -> None:
    result = run("submit", tasks("sleep 1"), *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert api.asked == []


def refused(error: str) -> dict[str, Any]:
    return {**DONE, "status": "CANCELLED", "total": 0, "succeeded": 0, "error": error}


def upload(api: StubApi) -> list[Answer]:
    form = {"upload_id": "u1", "url": f"{api.url}/store", "fields": {}}
    return [Answer(201, form), Answer(204, b""), Answer(202, accepted(0))]


def test_a_large_file_is_sent_as_it_is(api: StubApi, run: Run, tasks: Tasks) -> None:
    text = "# comment\r\n" + "sleep 1\n" * 700_000
    api.answers(*upload(api), DONE)
    result = run("submit", tasks(text), "--name", "n", "--key", "k")
    assert result.exit_code == 0
    assert text.encode() in api.asked[1].body
    assert api.asked[2].json == {"upload_id": "u1", "name": "n", "idempotency_key": "k"}


def test_a_fault_in_a_large_file_is_named_by_its_line(api: StubApi, run: Run, tasks: Tasks) -> None:
    api.answers(*upload(api), refused("line 7: unknown kind 'nap'"))
    result = run("submit", tasks("# \n" + "sleep 1\n" * 700_000))
    assert result.exit_code == 2
    assert result.stderr == "taskfleet: tasks.txt, line 7: unknown kind 'nap'\n"


@pytest.mark.parametrize("source", ["tasks.txt", "-"])
def test_a_fault_in_a_file_of_very_many_tasks_is_named_by_its_line(
    api: StubApi, run: Run, tasks: Tasks, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    monkeypatch.setitem(body.pack.__kwdefaults__, "max_tasks", 2)
    api.answers(*upload(api), refused("line 4: unknown kind 'nap'"))
    text = "sleep 1\nsleep 1\n# x\nsleep 1\nnap 1\n"
    tasks(text)
    result = run("submit", source, stdin=text)
    name = "standard input" if source == "-" else source
    assert result.exit_code == 2
    assert result.stderr == f"taskfleet: {name}, line 5: unknown kind 'nap'\n"
    assert b"sleep 1\nsleep 1\nsleep 1\nnap 1\n" in api.asked[1].body


def test_why_a_file_was_refused_shows_in_its_status(api: StubApi, run: Run) -> None:
    api.answers(refused("line 7: unknown kind 'nap'"))
    result = run("status", BATCH_ID)
    assert result.exit_code == 1
    assert f"batch {BATCH_ID} was cancelled: line 7: unknown kind 'nap'" in result.stderr


def test_without_waiting_a_file_is_handed_in_with_no_count(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(*upload(api))
    result = run("submit", "--no-wait", tasks("sleep 1\n" * 700_000))
    assert (result.exit_code, result.stdout) == (0, f"{BATCH_ID}\n")
    assert result.stderr.startswith("taskfleet: the file was submitted; ")


def test_a_file_without_tasks_is_refused_in_the_apis_words(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(Answer(422, {"Code": "x", "Message": "a batch needs at least one task"}))
    result = run("submit", tasks("# nothing\n"))
    assert result.exit_code == 2
    assert "a batch needs at least one task" in result.stderr


def test_a_file_that_is_not_text_is_refused(api: StubApi, run: Run, tmp_path: Path) -> None:
    (tmp_path / "movie.mp4").write_bytes(b"\xff\xfe\x00sleep")
    result = run("submit", "movie.mp4")
    assert result.exit_code == 2
    assert "movie.mp4 is not UTF-8" in result.stderr


def test_a_name_that_is_not_text_is_refused(api: StubApi, run: Run, tasks: Tasks) -> None:
    result = run("submit", tasks("sleep 1"), "--name", "\udcff")
    assert result.exit_code == 2
    assert "--name and --key must be text" in result.stderr


def test_a_busy_api_is_given_up_with_the_key_to_go_on_with(
    api: StubApi, run: Run, tasks: Tasks
) -> None:
    api.answers(Answer(500, {"Code": "x", "Message": "oops"}))
    result = run("submit", tasks("sleep 1"))
    assert result.exit_code == 2
    key = api.asked[0].json["idempotency_key"]
    assert f"oops (HTTP 500); to try again without running anything twice, add --key {key}" in (
        result.stderr
    )


# --- status, results, cancel ------------------------------------------------------------------


def test_status_shows_the_batch(api: StubApi, run: Run) -> None:
    api.answers({**BATCH, "name": "[red]n[/x]", "succeeded": 1, "total": 2000, "eta_s": 7.2})
    result = run("status", BATCH_ID)
    assert result.exit_code == 0
    header, row = result.stdout.splitlines()
    assert header.split()[:3] == ["batch", "status", "tasks"]
    assert row.split() == [
        *(BATCH_ID, "RUNNING", "2,000", "1", "0", "0", "7"),
        *("2026-11-22", "12:00:00", "[red]n[/x]"),
    ]


def test_status_shows_the_cost_on_request(api: StubApi, run: Run) -> None:
    api.answers({**DONE, "total": 2000, "aws_calls": 1012, "cost_usd": 0.0005})
    result = run("status", BATCH_ID, "--cost")
    header, row = result.stdout.splitlines()
    assert "AWS calls" in header
    assert "$ a million" in header
    assert row.split()[7:11] == ["1,012", "0.5060", "0.000500", "0.250"]


def test_the_cost_of_a_batch_without_tasks_has_no_price_a_task(api: StubApi, run: Run) -> None:
    api.answers({**BATCH, "total": 0, "aws_calls": 12, "cost_usd": 0.0005})
    _, row = run("status", BATCH_ID, "--cost").stdout.splitlines()
    assert row.split()[6:8] == ["12", "0.000500"]


@pytest.mark.parametrize(("batch", "code"), [(BATCH, 0), (DONE, 0), (SOME_FAILED, 1)])
def test_statuss_exit_code_tells_whether_something_failed(
    api: StubApi, run: Run, batch: dict[str, Any], code: int
) -> None:
    api.answers(batch)
    result = run("status", BATCH_ID, "--json")
    assert result.exit_code == code
    assert json.loads(result.stdout) == batch


def test_a_batch_at_risk_is_told_once_while_it_is_waited_for(api: StubApi, run: Run) -> None:
    risky = {**BATCH, "at_risk": "12 machines would do"}
    api.answers(risky, {**risky, "succeeded": 1}, DONE)
    result = run("status", BATCH_ID, "--wait", "--json")
    assert result.exit_code == 0
    assert result.stderr.count("is at risk: 12 machines would do") == 1
    api.answers(risky)
    result = run("status", BATCH_ID)
    assert "RUNNING at risk" in result.stdout
    api.answers({**DONE, "at_risk": "it ended 9 s after its deadline"})
    late = run("status", BATCH_ID)
    assert "at risk" not in late.stdout + late.stderr
    assert f"batch {BATCH_ID}: it ended 9 s after its deadline" in late.stderr
    assert f"batch {BATCH_ID} is at risk: 12 machines would do" in result.stderr


def test_status_can_wait(api: StubApi, run: Run) -> None:
    api.answers(BATCH, SOME_FAILED)
    result = run("status", BATCH_ID, "--wait", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == SOME_FAILED
    assert "1 failed" in result.stderr


def test_status_without_a_batch_lists_the_latest_and_reads_no_further(
    api: StubApi, run: Run
) -> None:
    many = [{**SOME_FAILED, "batch_id": f"b{n}"} for n in range(30)]
    api.answers({"batches": many, "cursor": "more"})
    result = run("status", "--json")
    assert result.exit_code == 0
    ids = [json.loads(line)["batch_id"] for line in result.stdout.splitlines()]
    assert ids == [f"b{n}" for n in range(20)]


@pytest.mark.parametrize(
    ("options", "asked", "shown"),
    [
        (["--search", "nigh", "--kind", "sleep"], "&name=nigh&kind=sleep", 3),
        (["--status", "running"], "&status=RUNNING", 2),
        (["--status", "DONE,CANCELLED"], "", 1),
        (["--limit", "2"], "", 2),
    ],
)
def test_batches_are_searched(
    api: StubApi, run: Run, options: list[str], asked: str, shown: int
) -> None:
    api.answers({"batches": [BATCH, DONE, BATCH], "cursor": None})
    result = run("status", *options, "--json")
    assert len(result.stdout.splitlines()) == shown
    assert api.lines == [f"GET /batches?limit=100{asked}"]


@pytest.mark.parametrize("options", [["--search", "x"], ["--status", "DONE"], ["--kind", "x"]])
def test_one_batch_is_not_searched_for(run: Run, options: list[str]) -> None:
    result = run("status", BATCH_ID, *options)
    assert result.exit_code == 2
    assert "--search, --status and --kind go without BATCH" in result.stderr


def test_a_watched_batch_in_a_pipe_is_printed_whenever_it_changes(
    api: StubApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client.SystemClock, "sleep", lambda *_: None)
    api.answers(BATCH, BATCH, DONE)
    result = run("status", BATCH_ID, "--watch")
    assert result.exit_code == 0
    assert result.stdout.count("RUNNING") == 1
    assert result.stdout.count("DONE") == 1
    api.answers(BATCH, DONE)
    lines = run("status", BATCH_ID, "--watch", "--json").stdout.splitlines()
    assert [json.loads(line)["status"] for line in lines] == ["RUNNING", "DONE"]


def test_status_cannot_wait_for_no_batch(run: Run) -> None:
    result = run("status", "--wait")
    assert result.exit_code == 2
    assert "--wait needs a BATCH" in result.stderr


def test_results_are_a_table_that_no_result_can_disfigure(api: StubApi, run: Run) -> None:
    rows = [
        {**ROW, "result": {"n": 1}},
        {**FAILED_ROW, "error": "\x1b[2Jline one\nline two [/red] :smile:"},
        {**ROW, "index": 2, "status": "RUNNING", "duration_s": None, "progress": [3, 9]},
    ]
    api.answers(BATCH, {"results": rows, "cursor": None})
    result = run("results", BATCH_ID)
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["index", "status", "task", "tries", "seconds", "result"]
    assert lines[1].split() == ["0", "SUCCEEDED", "sleep", "1000", "1", "1.000", '{"n":', "1}"]
    assert lines[2].rstrip().endswith("[2Jline one line two [/red] :smile:")
    assert "\x1b" not in result.stdout
    assert lines[3].rstrip().endswith("progress [3, 9]")
    assert f"not finished yet: batch {BATCH_ID}" in result.stderr


def test_a_long_table_has_one_header_and_straight_columns(api: StubApi, run: Run) -> None:
    rows = [{**ROW, "index": n} for n in range(510)]
    api.answers({**DONE, "total": 510}, {"results": rows, "cursor": None})
    lines = run("results", BATCH_ID).stdout.splitlines()
    assert len(lines) == 511
    assert len({line.index("SUCCEEDED") for line in lines[1:]}) == 1


def test_results_as_json_are_the_rows(api: StubApi, run: Run) -> None:
    api.answers(DONE, {"results": [ROW], "cursor": "x"}, {"results": [ROW], "cursor": None})
    result = run("results", BATCH_ID, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [ROW, ROW]


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--status", "FAILED"], "FAILED"),
        (["--status", "failed, CANCELLED"], "FAILED%2CCANCELLED"),
        (["--failed"], "FAILED"),
    ],
)
def test_results_of_some_statuses_on_request(
    api: StubApi, run: Run, options: list[str], asked: str
) -> None:
    api.answers(SOME_FAILED, {"results": [FAILED_ROW], "cursor": None})
    result = run("results", BATCH_ID, *options, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == FAILED_ROW
    assert f"&status={asked}" in api.lines[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--status", "BROKEN"], "'broken' is none of QUEUED, RUNNING, SUCCEEDED"),
        (["--status", ""], "'' is none of"),
        (["--failed", "--status", "FAILED"], "--failed or --status, not both"),
    ],
)
def test_a_status_that_is_none_is_told(run: Run, options: list[str], message: str) -> None:
    result = run("results", BATCH_ID, *options)
    assert result.exit_code == 2
    assert message in result.stderr


def test_failed_tasks_are_run_again_and_waited_for(api: StubApi, run: Run) -> None:
    api.answers(Answer(202, accepted()), BATCH, DONE)
    result = run("retry", BATCH_ID, "--key", "k")
    assert (result.exit_code, result.stdout) == (0, f"{BATCH_ID}\n")
    assert api.lines[0] == f"POST /batches/{BATCH_ID}/retry"
    assert api.asked[0].json == {"status": ["FAILED"], "idempotency_key": "k"}
    assert "3 succeeded of 3" in result.stderr


def test_tasks_run_again_need_not_be_waited_for(api: StubApi, run: Run) -> None:
    api.answers(Answer(202, accepted()))
    result = run("retry", BATCH_ID, "--status", "FAILED,CANCELLED", "--no-wait", "--json")
    assert json.loads(result.stdout) == accepted()
    assert api.asked[0].json["status"] == ["FAILED", "CANCELLED"]
    assert f"3 tasks of {BATCH_ID} are submitted again; to wait: taskfleet" in result.stderr


def test_cancel_says_how_the_batch_stands(api: StubApi, run: Run) -> None:
    api.answers(Answer(202, {**BATCH, "status": "CANCELLED", "succeeded": 1, "cancelled": 1}))
    result = run("cancel", BATCH_ID)
    assert (result.exit_code, result.stdout) == (0, "")
    assert f"cancelled: batch {BATCH_ID}: 1 succeeded, 1 cancelled of 3" in result.stderr


def test_cancelling_a_finished_batch_says_that_it_was_too_late(api: StubApi, run: Run) -> None:
    api.answers(Answer(202, DONE))
    assert "already finished" in run("cancel", BATCH_ID).stderr


@pytest.mark.parametrize("command", ["status", "results", "cancel", "retry"])
def test_an_unknown_batch_is_one_line_and_exit_code_2(api: StubApi, run: Run, command: str) -> None:
    api.answers(Answer(404, {"Code": "NotFoundError", "Message": f"no batch '{BATCH_ID}'"}))
    result = run(command, BATCH_ID)
    assert result.exit_code == 2
    assert result.stderr == f"taskfleet: no batch '{BATCH_ID}' (HTTP 404)\n"


@pytest.mark.parametrize("command", ["status", "results", "cancel", "retry"])
def test_what_cannot_be_an_id_is_one_line_that_says_why(run: Run, command: str) -> None:
    result = run(command, "WRONG")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "taskfleet: no batch 'WRONG': an id has 26 digits and lower-case letters (HTTP 404)\n"
    )


# --- token ------------------------------------------------------------------------------------


def test_a_token_is_made_that_the_api_can_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKFLEET_TOKEN_SECRET", SECRET)
    made = run("token", "--client-id", "ann", "--ttl", "15m").stdout.strip()
    assert token.read(made, SECRET, time.time()).client_id == "ann"
    assert token.read(made, SECRET, time.time() + 890).client_id == "ann"
    with pytest.raises(token.InvalidToken, match="expired"):
        token.read(made, SECRET, time.time() + 902)


def test_the_secret_of_the_local_cloud_here_is_found(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "env").write_text(f"export TASKFLEET_TOKEN_SECRET='{SECRET}'\n")
    made = run("token", "--client-id", "ann").stdout.strip()
    assert token.read(made, SECRET, time.time()).client_id == "ann"


@pytest.mark.parametrize(
    ("args", "secret", "message"),
    [
        (["--client-id", "a"], None, "TASKFLEET_TOKEN_SECRET is not set"),
        (["--client-id", "a"], "short", "at least 32"),
        ([], SECRET, "Missing option '--client-id'"),
        (["--client-id", ""], SECRET, "--client-id"),
        (["--client-id", "a", "--ttl", "soon"], SECRET, "'soon' is not a duration"),
        (["--client-id", "a", "--ttl", "0d"], SECRET, "'0d' is not a duration"),
        (["--client-id", "a", "--ttl", "9999999d"], SECRET, "--ttl: the token would expire after"),
    ],
)
def test_a_token_that_cannot_be_made_is_refused_with_the_reason(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    args: list[str],
    secret: str | None,
    message: str,
) -> None:
    if secret is not None:
        monkeypatch.setenv("TASKFLEET_TOKEN_SECRET", secret)
    result = run("token", *args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


# --- usage ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "args",
    [
        ["submit"],
        ["submit", "no-such-file"],
        ["submit", "."],
        ["submit", "x", "--frob"],
        ["frob"],
        ["results"],
        ["--frob"],
    ],
)
def test_wrong_usage_is_one_line_that_says_where_help_is(run: Run, args: list[str]) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert len(result.stderr.splitlines()) == 1
    assert "--help" in result.stderr


def test_help_and_version_are_for_standard_output(run: Run) -> None:
    assert run("--version").stdout.strip().endswith(taskfleet.__version__)
    assert "Submit the tasks in FILE" in run("submit", "-h").stdout


@pytest.mark.parametrize(
    ("url", "token_", "message"),
    [
        ("", "", "start a local cloud here: python -m localcloud"),
        ("http://x", "", "no TASKFLEET_TOKEN"),
        ("x:8000", "t", "'x:8000' is not the URL of an API"),
        ("http://x", "a b", "the token is empty, or has"),
    ],
)
def test_without_a_place_to_go_the_error_says_what_to_do(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, token_: str, message: str
) -> None:
    monkeypatch.setenv("TASKFLEET_URL", url)
    monkeypatch.setenv("TASKFLEET_TOKEN", token_)
    result = run("status")
    assert result.exit_code == 2
    assert message in result.stderr


# --- interruptions ----------------------------------------------------------------------------


def test_ctrl_c_while_waiting_leaves_the_batch_and_says_so(
    api: StubApi, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(client.Client, "wait", interrupt)
    result = run("status", BATCH_ID, "--wait")
    assert result.exit_code == 130
    assert "the batch goes on" in result.stderr
    assert f"taskfleet cancel {BATCH_ID}" in result.stderr
    assert api.asked == []


def test_an_api_that_breaks_while_waiting_leaves_the_batch_and_says_so(
    api: StubApi, run: Run
) -> None:
    api.answers(BATCH, Answer(500, {"Message": "oops"}))
    result = run("status", BATCH_ID, "--wait")
    assert result.exit_code == 2
    assert "oops (HTTP 500); the batch goes on" in result.stderr


# --- as a process -----------------------------------------------------------------------------


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "taskfleet", *args]


@pytest.fixture
def environ(api: StubApi) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def test_it_runs_as_a_module(api: StubApi, environ: dict[str, str]) -> None:
    api.answers(SOME_FAILED)
    done = subprocess.run(
        command("status", BATCH_ID, "--json"),
        env=environ,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout) == SOME_FAILED


def test_an_api_that_is_not_running_is_one_line(environ: dict[str, str]) -> None:
    environ["TASKFLEET_URL"] = url = f"http://127.0.0.1:{free_port()}"
    done = subprocess.run(
        command("status"), env=environ, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"taskfleet: cannot reach {url}: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_reader_that_has_seen_enough_is_no_error(
    api: StubApi, environ: dict[str, str], form: list[str]
) -> None:
    rows = [{**ROW, "index": n} for n in range(900)]
    api.answers(DONE, {"results": rows, "cursor": None})
    with subprocess.Popen(
        command("results", BATCH_ID, *form),
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(30) == 141


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Lets processes that the test starts be interrupted. They inherit an ignored SIGINT, as where
    the tests run in the background of a script."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_real_ctrl_c_while_waiting_ends_with_130(
    api: StubApi, environ: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "tasks.txt").write_text("sleep 1\n")
    api.answers(Answer(202, accepted()), *[BATCH] * 10_000)
    with subprocess.Popen(
        command("submit", "tasks.txt"),
        env=environ,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert process.stdout.readline() == f"{BATCH_ID}\n"
            while len(api.asked) < 3:
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
            assert process.returncode == 130
        finally:
            process.kill()
    api._answers.clear()
    assert "the batch goes on" in said
    assert "Traceback" not in said
    assert not any(line.startswith("DELETE") for line in api.lines)
