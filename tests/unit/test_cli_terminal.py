"""What a person sees in a terminal: colour, the pager, a picture that is drawn over, Ctrl-C."""

# ruff: noqa: F811 - the fixture `api` is imported

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import taskfleet
from taskfleet.cli.terminal import pager
from taskfleet.client.terminal import can_redraw, wants_colour
from tests.support.pty_run import Terminal, in_terminal
from tests.support.stub_api import BATCH, BATCH_ID, DONE, ROW, Answer, StubApi, printed
from tests.unit.test_cli import api  # noqa: F401 - a fixture
from tests.unit.test_cli_fleet import FLEET

ROOT = Path(taskfleet.__file__).parent.parent
RED, GREEN = "\x1b[31m", "\x1b[32m"
ROWS = {"results": [{**ROW, "index": n} for n in range(3)], "cursor": None}
FAILED = {**ROW, "status": "FAILED", "error": "broke"}
DRAWN_OVER = "\x1b[2K"


class Tty(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("terminal", "environ", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"TERM": "dumb"}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (False, {"FORCE_COLOR": "1"}, True),
        (False, {"FORCE_COLOR": "0"}, False),
        (False, {"FORCE_COLOR": ""}, False),
        (False, {"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
    ],
)
def test_colour_is_for_terminals_and_for_whom_asks(
    terminal: bool, environ: dict[str, str], colour: bool
) -> None:
    assert wants_colour(Tty() if terminal else io.StringIO(), environ) is colour


def test_force_color_makes_nothing_a_terminal() -> None:
    assert not can_redraw(io.StringIO(), {"FORCE_COLOR": "1"})


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ("", None),
        ("cat", None),
        ("no-such-pager -x", None),
        (f"{sys.executable} -c 'a b'", [sys.executable, "-c", "a b"]),
    ],
)
def test_the_pager_is_that_of_the_environment(named: str, words: list[str] | None) -> None:
    assert pager({"PAGER": named, "PATH": os.environ["PATH"]}) == words


@pytest.fixture
def environ(api: StubApi, tmp_path: Path) -> Iterator[dict[str, str]]:
    unset = {"NO_COLOR", "FORCE_COLOR", "PAGER", "LESS"}
    environ = {k: v for k, v in os.environ.items() if k not in unset}
    # Programs inherit an ignored SIGINT where tests run in the background of a script.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield {**environ, "PYTHONPATH": str(ROOT), "PAGER": ""}
    signal.signal(signal.SIGINT, before)


def taskfleet_in(
    environ: dict[str, str], *words: str, columns: int = 120
) -> AbstractContextManager[Terminal]:
    return in_terminal([sys.executable, "-m", "taskfleet", *words], environ, columns=columns)


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_table_in_a_terminal_has_colour_unless_no_color(
    api: StubApi,
    environ: dict[str, str],
    no_color: str,
    coloured: bool,
) -> None:
    api.answers(DONE, {"results": [ROW, FAILED], "cursor": None})
    with taskfleet_in({**environ, "NO_COLOR": no_color}, "results", BATCH_ID) as terminal:
        assert terminal.end() == 0
    assert "broke" in terminal.text
    assert (RED in terminal.raw) is coloured
    assert (GREEN in terminal.raw) is coloured


@pytest.mark.parametrize(
    ("columns", "shown", "hidden"),
    [
        (80, {"succeeded", "failed", "seconds"}, {"cancelled", "eta", "created"}),
        (130, {"succeeded", "cancelled", "eta", "created"}, set()),
    ],
)
def test_a_batch_has_its_name_also_on_a_narrow_terminal(
    api: StubApi, environ: dict[str, str], columns: int, shown: set[str], hidden: set[str]
) -> None:
    api.answers({**DONE, "name": "mine"})
    with taskfleet_in(environ, "status", BATCH_ID, columns=columns) as terminal:
        assert terminal.end() == 0
    header, row = terminal.text.strip().splitlines()
    assert shown <= set(header.split())
    assert not hidden & set(header.split())
    assert row.split()[0] == BATCH_ID
    assert row.split()[-1] == "mine"


def test_no_number_is_hidden_on_a_narrow_terminal(api: StubApi, environ: dict[str, str]) -> None:
    api.answers({**BATCH, "cancelled": 2, "eta_s": 7.0})
    with taskfleet_in(environ, "status", BATCH_ID, columns=95) as terminal:
        assert terminal.end() == 1
    header, row = terminal.text.strip().splitlines()
    assert {"cancelled", "eta"} <= set(header.split())
    assert row.split()[2:] == ["3", "0", "0", "2", "7"]


def test_a_table_fits_the_terminal(api: StubApi, environ: dict[str, str]) -> None:
    api.answers(DONE, {"results": [{**ROW, "result": "x" * 300}], "cursor": None})
    with taskfleet_in(environ, "results", BATCH_ID, columns=70) as terminal:
        assert terminal.end() == 0
    assert max(map(len, terminal.text.splitlines())) == 70


def recording_pager(folder: Path, then: str = "") -> str:
    """Returns a pager that writes what it gets to the file `paged`, and the variable LESS."""
    script = folder / "pager.py"
    script.write_text(
        "import os, sys\n"
        f"text = {then or 'sys.stdin.read()'}\n"
        f"open({str(folder / 'paged')!r}, 'w').write(os.environ['LESS'] + '|' + text)\n"
    )
    return f"{sys.executable} {script}"


def test_long_output_goes_to_the_pager(
    api: StubApi,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    api.answers(BATCH, ROWS)
    environ["PAGER"] = recording_pager(tmp_path)
    with taskfleet_in(environ, "results", BATCH_ID) as terminal:
        assert terminal.end() == 0
    paged = (tmp_path / "paged").read_text()
    assert paged.startswith("FRX|")
    assert paged.count("sleep 1000") == 3
    assert GREEN in paged
    assert "sleep 1000" not in terminal.text
    assert "not finished yet" in terminal.text


def test_the_pager_can_be_left_early(
    api: StubApi,
    environ: dict[str, str],
    tmp_path: Path,
) -> None:
    many = [{**ROW, "index": n, "result": "x" * 100} for n in range(4_000)]
    api.answers(DONE, {"results": many, "cursor": None})
    environ |= {"PAGER": recording_pager(tmp_path, "sys.stdin.readline()"), "LESS": "R"}
    with taskfleet_in(environ, "results", BATCH_ID) as terminal:
        assert terminal.end() == 0
    assert terminal.text == ""
    assert (tmp_path / "paged").read_text().startswith("R|")


def test_an_error_needs_no_pager(api: StubApi, environ: dict[str, str], tmp_path: Path) -> None:
    api.answers(Answer(404, {"Code": "NotFoundError", "Message": "task 0 printed nothing"}))
    environ["PAGER"] = recording_pager(tmp_path)
    with taskfleet_in(environ, "log", BATCH_ID, "0") as terminal:
        assert terminal.end() == 2
    assert terminal.text == "taskfleet: task 0 printed nothing (HTTP 404)\n"
    assert not (tmp_path / "paged").exists()


@pytest.mark.parametrize("words", [["--no-pager"], ["--json"]])
def test_the_pager_can_be_done_without(
    api: StubApi,
    environ: dict[str, str],
    tmp_path: Path,
    words: list[str],
) -> None:
    api.answers(printed("a line\n"))
    environ["PAGER"] = recording_pager(tmp_path)
    with taskfleet_in(environ, "log", BATCH_ID, "0", *words) as terminal:
        assert terminal.end() == 0
    assert "a line" in terminal.text
    assert not (tmp_path / "paged").exists()


def test_a_real_less_leaves_a_short_text_on_the_screen(
    api: StubApi,
    environ: dict[str, str],
) -> None:
    api.answers(printed("a line\n"))
    environ["PAGER"] = "less"
    with taskfleet_in(environ, "log", BATCH_ID, "0") as terminal:
        assert terminal.end() == 0
    assert "a line" in terminal.text


def interrupt_after(terminal: Terminal, text: str) -> int:
    terminal.read_until(lambda: text in terminal.text)
    terminal.type(b"\x03")
    return terminal.end()


def test_a_watched_batch_is_drawn_over_until_it_is_finished(
    api: StubApi,
    environ: dict[str, str],
) -> None:
    running = {**BATCH, "total": 9, "succeeded": 2, "failed": 1, "eta_s": 61.0, "name": "mine"}
    later = {**running, "succeeded": 5}
    api.answers(running, later, {**DONE, "total": 9, "succeeded": 8, "failed": 1})
    with taskfleet_in(environ, "status", BATCH_ID, "--watch") as terminal:
        assert terminal.end() == 1
    assert DRAWN_OVER in terminal.raw
    assert "3/9 1 failed" in terminal.text
    assert "0:01:01 left" in terminal.text
    assert "8 succeeded, 1 failed of 9" in terminal.text


def test_the_progress_of_a_wait_has_failures_rate_and_time_left(
    api: StubApi,
    environ: dict[str, str],
) -> None:
    states = [
        {**BATCH, "total": 99, "succeeded": 9 * n, "failed": 1, "eta_s": 61.0} for n in range(5)
    ]
    api.answers(*states, *[states[-1]] * 3, DONE)  # the bar is drawn ten times a second
    with taskfleet_in(environ, "status", BATCH_ID, "--wait") as terminal:
        assert terminal.end() == 0
    for shown in ("37/99", "1 failed", "/s", "0:01:01 left"):
        assert shown in terminal.text


def test_a_watched_fleet_goes_on_through_an_outage_until_ctrl_c(
    api: StubApi,
    environ: dict[str, str],
) -> None:
    down = Answer(500, {"Code": "InternalError", "Message": "down for a while"})
    api.answers(FLEET, down, {**FLEET, "backlog": 777})
    with taskfleet_in(environ, "fleet", "--watch") as terminal:
        assert interrupt_after(terminal, "777 messages wait") == 130
    assert "no answer, trying again: down for a while" in terminal.text
    assert "Traceback" not in terminal.text
