"""Every command: its help, its JSON, its error and its success. A command that is added must get a
row here, examples and `--json`."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from taskfleet import __version__
from taskfleet.cli import keys as keys_module
from taskfleet.cli import redrive as redrive_module
from taskfleet.cli.command import Command
from taskfleet.cli.main import main
from taskfleet.memory import ManualClock, MemoryQueue
from taskfleet.ports import OutgoingMessage
from tests.support.stub_api import (
    BATCH_ID,
    DONE,
    ROW,
    TASK,
    Answer,
    StubApi,
    accepted,
    printed,
    serving,
)
from tests.unit.test_cli_fleet import FLEET
from tests.unit.test_cli_kinds import KINDS

SECRET = "a secret of more than thirty-two characters"
PAGE = {"results": [ROW], "cursor": None}
RECEIPT = {
    "batch_id": BATCH_ID,
    "at": "2026-01-01T00:00:00.000Z",
    "finished": True,
    "balanced": True,
    "total": 3,
    "succeeded": 3,
    "failed": 0,
    "cancelled": 0,
    "attempts": 3,
    "bundles": 1,
    "bundles_done": 1,
    "sha256": "0" * 64,
    "faults": [],
    "fault_count": 0,
}
QUOTE = {
    "tasks": 300,
    "p50_s": 89.4,
    "p90_s": 115.7,
    "usd": 0.0006302,
    "idle_usd": 0.002329,
    "machines": 1,
    "launches": 1,
    "rests_on": [{"name": "sleep", "tasks": 300, "mean_s": 1.0, "learned": None}],
    "fleet": "0 slots are ready; 16 more come in about 70 s",
}
UNKNOWN = Answer(404, {"Code": "NotFoundError", "Message": "there is no such batch"})
WRITTEN = {"shell": {"exit_status": 0}, "stdout": "hello\n", "stderr": "", "outputs": []}


def leaves(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from leaves(command, (*path, name))
        else:
            assert isinstance(command, Command), f"{name} is not made by taskfleet.cli.command"
            yield " ".join((*path, name)), command


COMMANDS = dict(leaves())


@dataclass(frozen=True)
class Case:
    """How a command is called, what the API answers, and what is expected.

    args: the words after the command.
    answers: those of the API, once for the text and once for JSON.
    shows: a text in what it prints, on either stream.
    json: the keys of each JSON document.
    wrong: words that make it fail; its answers are `wrong_answers`.
    message: a text in the error's line.
    """

    args: tuple[str, ...]
    answers: tuple[Any, ...]
    shows: str
    json: set[str]
    wrong: tuple[str, ...]
    message: str
    wrong_answers: tuple[Any, ...] = ()


ACCEPTED = Answer(202, accepted())
ROW_KEYS, BATCH_KEYS = {"index", "status", "result"}, {"batch_id", "status", "total"}
SCHEDULE = {
    "name": "nightly",
    "every_s": 5400,
    "cron": None,
    "missed": "skip",
    "total": 2,
    "options": None,
    "created_at": "2030-01-30T12:00:00.000Z",
    "next_at": "2030-01-31T03:00:00.000Z",
    "last_at": None,
    "last_batch_id": None,
    "last_error": None,
}
SCHEDULE_KEYS = {"name", "every_s", "cron", "next_at", "last_batch_id", "last_error"}
KEYS_KEYS = {"keys", "revoked"}

CASES = {
    "submit": Case(
        ("tasks.txt",),
        (ACCEPTED, DONE),
        "3 succeeded of 3",
        ROW_KEYS,
        ("no-such-file",),
        "no-such-file",
    ),
    "quote": Case(
        ("tasks.txt",),
        (QUOTE,),
        "89.4 s expected, 116 s at most in nine of ten cases",
        {"p50_s", "p90_s", "usd", "idle_usd", "machines", "rests_on", "fleet"},
        ("no-such-file",),
        "no-such-file",
    ),
    "map": Case(
        ("echo", "one", "--no-files"),
        (ACCEPTED, DONE, {"results": [{**ROW, "result": WRITTEN}], "cursor": None}),
        "hello",
        ROW_KEYS,
        ("echo '{}'", "one", "--no-files"),
        "single quotes",
    ),
    "status": Case((BATCH_ID,), (DONE,), "DONE", BATCH_KEYS, (BATCH_ID,), "no such", (UNKNOWN,)),
    "results": Case(
        (BATCH_ID,), (DONE, PAGE), "sleep 1000", ROW_KEYS, (BATCH_ID,), "no such", (UNKNOWN,)
    ),
    "log": Case(
        (BATCH_ID, "0"),
        (printed("said so\n"),),
        "said so",
        {"offset", "text", "dropped"},
        (BATCH_ID, "minus"),
        "is not a valid integer",
    ),
    "explain": Case(
        (BATCH_ID, "0"),
        (TASK,),
        "it is done",
        {"why", "history"},
        (BATCH_ID, "0"),
        "no such",
        (UNKNOWN,),
    ),
    "audit": Case(
        (BATCH_ID,),
        (RECEIPT,),
        "it balances: every task has exactly one result",
        {"balanced", "sha256", "faults"},
        (BATCH_ID,),
        "no such",
        (UNKNOWN,),
    ),
    "retry": Case(
        (BATCH_ID,),
        (ACCEPTED, DONE),
        "3 succeeded of 3",
        ROW_KEYS,
        (BATCH_ID,),
        "has not ended",
        (Answer(409, {"Code": "ConflictError", "Message": "the batch has not ended"}),),
    ),
    "cancel": Case((BATCH_ID,), (DONE,), "already finished", BATCH_KEYS, ("..",), "no batch '..'"),
    "schedule add": Case(
        ("nightly", "tasks.txt", "--cron", "0 3 * * *"),
        (Answer(201, SCHEDULE),),
        "schedule nightly: 2 tasks, first at 2030-01-31 03:00:00 UTC",
        SCHEDULE_KEYS,
        ("nightly", "tasks.txt"),
        "either --every or --cron",
    ),
    "schedule list": Case(
        (),
        ({"schedules": [SCHEDULE]},),
        "every 90m",
        SCHEDULE_KEYS,
        (),
        "refused",
        (Answer(403, {"Code": "AccessDeniedError", "Message": "refused"}),),
    ),
    "schedule remove": Case(
        ("nightly",),
        (SCHEDULE,),
        "schedule nightly is removed",
        SCHEDULE_KEYS,
        ("nightly",),
        "no schedule",
        (Answer(404, {"Code": "NotFoundError", "Message": "no schedule 'nightly'"}),),
    ),
    "fleet": Case(
        (),
        (FLEET,),
        "2 machines are booting",
        {"backlog", "workers", "decisions"},
        (),
        "refused",
        (Answer(403, {"Code": "AccessDeniedError", "Message": "refused"}),),
    ),
    "kinds": Case((), (KINDS,), "sleep", {"kinds", "workers"}, ("nap",), "there are:", (KINDS,)),
    "token": Case(
        ("--client-id", "ann", "--role", "reader"),
        (),
        ".",
        {"token", "client_id", "role", "expires_at"},
        ("--client-id", "ann", "--role", "king"),
        "'king' is not one of 'reader', 'writer'",
    ),
    "keys show": Case(("--stage", "prod"), (), "signs", KEYS_KEYS, (), "Missing option '--stage'"),
    "keys rotate": Case(("--stage", "prod"), (), "rotated", KEYS_KEYS, (), "--stage"),
    "keys retire": Case(("--stage", "two"), (), "one key is left", KEYS_KEYS, (), "--stage"),
    "keys revoke": Case(
        ("ann", "--stage", "prod"),
        (),
        "of ann",
        KEYS_KEYS,
        ("a b", "--stage", "prod"),
        "'a b' is not a client id",
    ),
    "redrive": Case(
        ("--list",),
        (),
        "because",
        {"message_id", "queue", "reason", "body", "moved"},
        ("--responses", "--uploads"),
        "not both",
    ),
    "doctor": Case(
        (),
        (Answer(200, {"status": "ok", "version": __version__}), Answer(200, {"batches": []})),
        "the API takes the token",
        {"level", "subject", "found", "advice"},
        ("--stage",),
        "'--stage' requires an argument",
    ),
    "completion": Case(
        ("bash",), (), "_TASKFLEET_COMPLETE", {"shell", "script"}, ("csh",), "'csh' is not one of"
    ),
}


class _Stages:
    """The secrets of the stages `prod`, with one key, and `two`, with two."""

    def __init__(self, stage: str) -> None:
        keys = [SECRET] if stage == "prod" else [SECRET, SECRET + "2"]
        self._text = json.dumps({"keys": keys})

    def secret(self, _name: str) -> str:
        return self._text

    def change_secret(self, _name: str, change: Any) -> None:
        self._text = change(self._text)


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubApi]:
    for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.txt").write_text("sleep 1\n")
    monkeypatch.setenv("TASKFLEET_TOKEN_SECRET", SECRET)
    stages: dict[str, _Stages] = {}
    monkeypatch.setattr(
        keys_module, "_parameter", lambda stage: (stages.setdefault(stage, _Stages(stage)), "name")
    )
    queue = MemoryQueue(ManualClock(), dead=MemoryQueue(ManualClock(), name="dead"))
    queue.send([OutgoingMessage("body")])
    queue.dead_letter(queue.receive(1, wait_s=0, visibility_s=30)[0], "because")
    monkeypatch.setattr(redrive_module, "open_queue", lambda *_: queue)
    with serving() as stub:
        monkeypatch.setenv("TASKFLEET_URL", stub.url)
        monkeypatch.setenv(
            "TASKFLEET_TOKEN",
            CliRunner().invoke(main, ["token", "--client-id", "ann"]).stdout.strip(),
        )
        yield stub
    assert stub.left == 0


def call(*words: str) -> Result:
    result = CliRunner().invoke(main, words)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output
    return result


def test_every_command_has_its_row() -> None:
    assert set(COMMANDS) == set(CASES)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_what_it_does_and_has_examples_that_can_be_typed(name: str) -> None:
    command = COMMANDS[name]
    result = call(*name.split(), "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: taskfleet {name} ")
    assert "--json" in result.stdout
    assert command.examples
    assert all(f"\n    {example}\n" in result.stdout for example in command.examples)
    assert command.help
    assert command.help.split("\n\n")[0].endswith(".")
    for example in command.examples:
        typed = re.search(r"\btaskfleet ([^|>)#]*)", example)
        assert typed is not None
        words = shlex.split(typed[1])
        assert words[: len(name.split())] == name.split()
        command.make_parser(click.Context(command)).parse_args(words[len(name.split()) :])


def test_the_help_of_every_option_is_a_sentence() -> None:
    for name, command in COMMANDS.items():
        for option in command.params:
            if isinstance(option, click.Option):
                assert option.help, (name, option.name)
                assert option.help[0].isupper(), (name, option.name)
                assert option.help.endswith("."), (name, option.name)


def test_an_option_has_one_form_everywhere() -> None:
    forms: dict[str, set[tuple[object, ...]]] = {}
    for command in COMMANDS.values():
        for option in command.params:
            if isinstance(option, click.Option):
                form = (
                    option.is_flag,
                    option.multiple,
                    option.metavar,
                    option.name,
                    option.type.name,
                )
                for written in [*option.opts, *option.secondary_opts]:
                    forms.setdefault(written, set()).add(form)
    assert {written: each for written, each in forms.items() if len(each) > 1} == {}


@pytest.mark.parametrize("name", CASES)
def test_it_does_what_it_is_for(api: StubApi, name: str) -> None:
    case = CASES[name]
    api.answers(*case.answers)
    result = call(*name.split(), *case.args)
    assert result.exit_code == 0, result.output
    assert case.shows in result.output


@pytest.mark.parametrize("name", CASES)
def test_json_is_a_document_a_line_and_nothing_else(api: StubApi, name: str) -> None:
    case = CASES[name]
    api.answers(*case.answers)
    if name in ("submit", "retry"):  # which read the results only for JSON
        api.answers(PAGE)
    result = call(*name.split(), *case.args, "--json")
    assert result.exit_code == 0, result.output
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    assert documents
    for document in documents:
        assert case.json <= set(document)


@pytest.mark.parametrize("name", CASES)
def test_an_error_is_one_line_and_the_exit_code_2(api: StubApi, name: str) -> None:
    case = CASES[name]
    for form in ((), ("--json",)):
        api.answers(*case.wrong_answers)
        result = call(*name.split(), *form, *case.wrong)
        assert (result.exit_code, result.stdout) == (2, ""), result.output
        assert result.stderr.startswith("taskfleet: ")
        assert len(result.stderr.splitlines()) == 1
        assert case.message in result.stderr
