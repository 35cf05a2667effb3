"""The helpers of the tests themselves: a helper that cannot fail would hide what it waits for."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.once import once
from tests.support.ports import free_port
from tests.support.tools import needs
from tests.support.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]


def test_eventually_returns_what_came_true() -> None:
    answers = iter([0, 0, 7])
    assert eventually(lambda: next(answers), poll_s=0) == 7


def test_eventually_says_what_did_not_come_and_what_was_seen_last() -> None:
    with pytest.raises(AssertionError, match=r"^not within 0 s: the log ends \(last seen: \[\]\)$"):
        eventually(lambda: [], 0, lambda: "the log ends")


@pytest.mark.parametrize(
    ("ci", "outcome"),
    [("true", pytest.fail.Exception), ("1", pytest.fail.Exception), ("", pytest.skip.Exception)],
)
def test_a_missing_tool_is_an_error_in_ci_and_else_a_skip(
    monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="no-such-tool is not installed"):
        needs("no-such-tool")


def test_a_tool_is_found_by_any_of_its_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "google-chrome"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert needs("chromium") == str(program)


def test_another_process_gets_other_ports() -> None:
    own = {free_port() for _ in range(3)}
    script = "from tests.support.ports import free_port; print(free_port())"
    other = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert len({*own, int(other.stdout)}) == 4


def test_a_port_that_something_listens_on_is_not_given() -> None:
    with socket.socket() as listener:
        first = free_port() + 1
        for port in range(first, first + 100):  # tests in other processes have some of them
            with contextlib.suppress(OSError):
                listener.bind(("127.0.0.1", port))
                break
        listener.listen()
        assert free_port() != listener.getsockname()[1]


def test_work_is_done_once_and_again_when_it_failed(tmp_path: Path) -> None:
    def fail(draft: Path) -> None:
        (draft / "half").touch()
        raise OSError("the network is down")

    with pytest.raises(OSError, match="network"):
        once(tmp_path / "made", fail)
    made = once(tmp_path / "made", lambda draft: (draft / "whole").touch())
    assert [path.name for path in made.iterdir()] == ["whole"]
    once(made, fail)  # it is there: nothing is done
