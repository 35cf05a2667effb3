"""Completion in a shell: the scripts, and what is offered."""

# ruff: noqa: F811 - the fixtures are imported

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

import taskfleet
from taskfleet.cli import complete
from tests.support.stub_api import BATCH, BATCH_ID, Answer, StubApi
from tests.unit.test_cli import Run, api, run  # noqa: F401 - fixtures
from tests.unit.test_cli_kinds import KINDS

ROOT = Path(taskfleet.__file__).parent.parent
BATCHES = {"batches": [{**BATCH, "name": "night\nly: \x1b[31m" + "x" * 90}], "cursor": None}
SHELLS = ["bash", "zsh", "fish"]


@pytest.fixture
def environ(api: StubApi, tmp_path: Path) -> dict[str, str]:
    """An environment in which `taskfleet` is this checkout's."""
    program = tmp_path / "bin" / "taskfleet"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m taskfleet "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    path = f"{program.parent}:{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def shell(name: str, script: str, environ: dict[str, str]) -> str:
    words = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-fc"], "fish": ["fish", "-Nc"]}[name]
    done = subprocess.run(
        [*words, script], env=environ, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def in_bash(environ: dict[str, str], *words: str) -> list[str]:
    """Returns what bash offers for the last word."""
    typed = " ".join(("taskfleet", *(word or "''" for word in words)))
    script = (
        'eval "$(taskfleet completion bash)"\n'
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words)}\n"
        "_taskfleet_completion taskfleet\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    return shell("bash", script, environ).split()


def test_bash_completes_commands_options_and_statuses(environ: dict[str, str]) -> None:
    assert in_bash(environ, "st") == ["status"]
    assert in_bash(environ, "keys", "ro") == ["rotate"]
    assert in_bash(environ, "fleet", "--w") == ["--watch"]
    assert in_bash(environ, "results", "x", "--status", "f") == ["FAILED"]
    assert in_bash(environ, "token", "--role", "") == ["reader", "writer"]


def test_bash_completes_ids_and_kinds(api: StubApi, environ: dict[str, str]) -> None:
    api.answers(BATCHES)
    assert in_bash(environ, "results", BATCH_ID[:3]) == [BATCH_ID]
    api.answers(KINDS)
    assert in_bash(environ, "kinds", "") == ["sleep"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("zsh", ["plain", BATCH_ID, "RUNNING night ly:  [31m"]),
        ("fish", [f"plain,{BATCH_ID}\tRUNNING night ly:  [31m"]),
    ],
)
def test_names_stand_beside_the_ids_on_a_line_each(
    api: StubApi, environ: dict[str, str], name: str, said: list[str]
) -> None:
    api.answers(BATCHES)
    typed = {"COMP_WORDS": "taskfleet cancel ", "COMP_CWORD": "" if name == "fish" else "2"}
    done = subprocess.run(
        ["taskfleet"],
        env={**environ, **typed, "_TASKFLEET_COMPLETE": f"{name}_complete"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == len(said)
    assert all(line.startswith(start) for line, start in zip(lines, said, strict=True))
    assert len(lines[-1]) < 120
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("name", SHELLS)
def test_the_script_is_one_that_the_shell_takes(run: Run, name: str, tmp_path: Path) -> None:
    script = run("completion", name).stdout
    assert f"_TASKFLEET_COMPLETE={name}_complete" in script
    if shutil.which(name) is not None:  # else the shell is not here to be asked
        path = tmp_path / "script"
        path.write_text(script)
        subprocess.run([name, "-n", str(path)], check=True, timeout=60)


@pytest.mark.parametrize(
    "answer", [Answer(500, {"Message": "oops"}), Answer(200, b"<html>"), Answer(403, {})]
)
def test_an_api_in_trouble_offers_nothing(api: StubApi, answer: Answer) -> None:
    api.answers(answer)
    assert complete.batch_ids(None, None, "") == []  # type: ignore[arg-type]


def test_without_an_api_nothing_is_offered(api: StubApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKFLEET_URL")
    monkeypatch.delenv("TASKFLEET_TOKEN")
    assert complete.kind_names(None, None, "") == []  # type: ignore[arg-type]


def test_a_slow_api_is_not_waited_for(api: StubApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "PATIENCE_S", 0.2)
    api.answers(*[Answer(503, {}, {"Retry-After": "5"})])
    began = time.monotonic()
    assert complete.batch_ids(None, None, "") == []  # type: ignore[arg-type]
    assert time.monotonic() - began < 4
