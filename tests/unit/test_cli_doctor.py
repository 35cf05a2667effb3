"""`taskfleet doctor` on broken set-ups, as a process: each is named, with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import taskfleet
from taskfleet import __version__
from taskfleet.wire import token
from tests.support.pty_run import in_terminal
from tests.support.stub_api import Answer, StubApi, serving

ROOT = Path(taskfleet.__file__).parent.parent
SECRET = "a secret of more than thirty-two characters"
HEALTH = Answer(200, {"status": "ok", "version": __version__})
EMPTY = Answer(200, {"batches": [], "cursor": None})

Environ = dict[str, str]


def made(ttl_s: float = 86_400.0, ago_s: float = 0.0) -> str:
    return token.make(SECRET, "ann", ttl_s, time.time() - ago_s)


def nothing_named(_api: StubApi, _folder: Path) -> Environ:
    return {}


def a_local_cloud_that_ended(_api: StubApi, folder: Path) -> Environ:
    with serving() as gone:
        url = gone.url
    (folder / ".local").mkdir()
    (folder / ".local" / "env").write_text(
        f"export TASKFLEET_URL='{url}'\nexport TASKFLEET_TOKEN='{made()}'\n"
    )
    return {}


def a_url_of_something_else(api: StubApi, _folder: Path) -> Environ:
    api.answers(Answer(200, b"<html>hello</html>"), Answer(200, b"<html>hello</html>"))
    return {"TASKFLEET_URL": api.url, "TASKFLEET_TOKEN": made()}


def a_token_that_expired(api: StubApi, _folder: Path) -> Environ:
    api.answers(HEALTH, Answer(401, {"Code": "UnauthorizedError", "Message": "expired"}))
    return {"TASKFLEET_URL": api.url, "TASKFLEET_TOKEN": made(60.0, ago_s=3_600.0)}


def a_token_of_another_stage(api: StubApi, _folder: Path) -> Environ:
    api.answers(HEALTH, Answer(403, {"Code": "AccessDeniedError", "Message": "no"}))
    return {"TASKFLEET_URL": api.url, "TASKFLEET_TOKEN": made()}


def a_word_for_a_token(api: StubApi, _folder: Path) -> Environ:
    api.answers(HEALTH, Answer(401, {}))
    return {"TASKFLEET_URL": api.url, "TASKFLEET_TOKEN": "password"}


def a_client_that_is_too_old(api: StubApi, _folder: Path) -> Environ:
    api.answers(Answer(200, {"status": "ok", "version": "99.0.0"}), EMPTY)
    return {"TASKFLEET_URL": api.url, "TASKFLEET_TOKEN": made()}


def a_file_that_is_no_env_file(_api: StubApi, folder: Path) -> Environ:
    (folder / ".local" / "env").mkdir(parents=True)
    return {}


BROKEN: list[tuple[Callable[[StubApi, Path], Environ], str, str, str]] = [
    (nothing_named, "API", "neither TASKFLEET_URL", "start a local cloud here"),
    (a_local_cloud_that_ended, "API", "cannot reach", "start it again: python -m localcloud"),
    (a_url_of_something_else, "API", "does not answer as Taskfleet does", "is the URL right?"),
    (a_token_that_expired, "token", "it expired at", "make another: taskfleet token"),
    (a_token_of_another_stage, "access", "status 403", "it is of another stage"),
    (a_word_for_a_token, "token", "is no token of Taskfleet", "make another: taskfleet token"),
    (a_client_that_is_too_old, "version", "the API has 99.0.0", "install the client"),
    (a_file_that_is_no_env_file, "API", "cannot read .local/env", "Is a directory"),
]


@pytest.mark.parametrize(("setup", "subject", "found", "advice"), BROKEN)
def test_a_broken_setup_is_named_with_what_to_do(
    tmp_path: Path,
    setup: Callable[[StubApi, Path], Environ],
    subject: str,
    found: str,
    advice: str,
) -> None:
    lines: list[str] = []
    for form in ([], ["--json"]):
        folder = tmp_path / ("json" if form else "text")
        folder.mkdir()
        with serving() as api:
            named = setup(api, folder)
            clean = {k: v for k, v in os.environ.items() if not k.startswith("TASKFLEET_")}
            done = subprocess.run(
                [sys.executable, "-m", "taskfleet", "doctor", *form],
                cwd=folder,
                env={**clean, **named, "PYTHONPATH": str(ROOT)},
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
        assert (done.returncode, done.stderr) == (1, "")
        lines = done.stdout.splitlines()
        if not form:
            (line,) = [line for line in lines if line.startswith(f"fault    {subject}: ")]
            assert found in line
            assert advice in line
    told = {finding["subject"]: finding for finding in map(json.loads, lines)}
    assert told[subject]["level"] == "fault"
    assert found in told[subject]["found"]
    assert advice in told[subject]["advice"] + told[subject]["found"]


def test_levels_have_colours_on_a_terminal(tmp_path: Path) -> None:
    with serving() as api:
        environ = {**os.environ, **a_token_of_another_stage(api, tmp_path), "NO_COLOR": ""}
        words = [sys.executable, "-m", "taskfleet", "doctor"]
        with in_terminal(words, {**environ, "PYTHONPATH": str(ROOT)}) as terminal:
            assert terminal.end() == 1
    assert "\x1b[31mfault" in terminal.raw
    assert "\x1b[32mok" in terminal.raw
