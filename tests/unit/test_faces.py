"""What a person meets in a Python shell or a notebook: reprs, and progress."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

import taskfleet
from taskfleet import FleetExecutor
from taskfleet.client import Client, notebook
from taskfleet.client.progress import State, shown_progress
from taskfleet.executor.book import Counts
from taskfleet.executor.meter import left_s
from taskfleet.wire.http.batches import Accepted, BatchView
from taskfleet.wire.http.fleet import FleetView
from taskfleet.wire.http.results import ResultPage, ResultView
from tests.support.pty_run import in_terminal
from tests.support.stub_api import BATCH, BATCH_ID, DONE, ROW, StubApi, accepted, serving
from tests.unit.test_cli_fleet import FLEET

ROOT = Path(taskfleet.__file__).parent.parent
HOSTILE = "<script>alert(1)</script>&\"'\n\x1b[2J"


def batch(**fields: object) -> BatchView:
    return msgspec.convert({**BATCH, **fields}, BatchView)


def row(**fields: object) -> ResultView:
    return msgspec.convert({**ROW, **fields}, ResultView)


class Page(HTMLParser):
    """The tags and the text of a piece of HTML. Raises AssertionError if its tags do not pair."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


# --- reprs ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shown", "text"),
    [
        (batch(), f"<batch {BATCH_ID} RUNNING: 0 succeeded of 3>"),
        (
            batch(name="night\nly", total=2000, succeeded=1, failed=2, eta_s=61.2),
            f"<batch {BATCH_ID} 'night ly' RUNNING: 1 succeeded, 2 failed of 2,000, 0:01:01 left>",
        ),
        (
            msgspec.convert({**DONE, "error": "line 7: no"}, BatchView),
            f"<batch {BATCH_ID} DONE: 3 succeeded of 3 in 5.5 s: line 7: no>",
        ),
        (msgspec.convert(accepted(), Accepted), f"<batch {BATCH_ID} QUEUED: 3 tasks>"),
        (row(result={"a": [1]}), f'<task {BATCH_ID}/0 SUCCEEDED in 1 s: {{"a": [1]}}>'),
        (
            row(status="FAILED", error="broke\x1b[2J" + "x" * 200, duration_s=None),
            f"<task {BATCH_ID}/0 FAILED: broke [2J" + "x" * 70 + "…>",
        ),
        (ResultPage([row()], None), "<1 results>"),
        (ResultPage([row()] * 2, "c"), "<2 results, and more on the next page>"),
        (
            msgspec.convert(FLEET, FleetView),
            "<fleet: 1,200 messages wait, 0 tasks run in 16 slots of 1 workers, 3 machines wanted; "
            "nothing runs: 2 machines are booting, the first since 31 s>",
        ),
        (Client("http://127.0.0.1:1", "secret"), "<Client of http://127.0.0.1:1>"),
    ],
)
def test_a_repr_is_a_line(shown: object, text: str) -> None:
    assert repr(shown) == text


@pytest.mark.parametrize(
    "shown",
    [
        batch(name=HOSTILE, error=HOSTILE),
        row(task=HOSTILE, result=HOSTILE, status="SUCCEEDED"),
        row(task={"kind": HOSTILE}, error=HOSTILE, status="FAILED"),
        ResultPage([row(result={HOSTILE: HOSTILE})], "c"),
        msgspec.convert({**accepted(), "batch_id": HOSTILE, "url": HOSTILE}, Accepted),
        msgspec.convert(
            {**accepted(), "batch_id": HOSTILE, "url": f"http://x/batches/{HOSTILE}"}, Accepted
        ),
        msgspec.convert({**accepted(), "url": f"javascript:x/batches/{BATCH_ID}"}, Accepted),
    ],
)
def test_text_of_users_is_text_in_html(shown: Any) -> None:
    page = Page(shown._repr_html_())
    assert {tag for tag, _ in page.tags} <= {
        *("div", "span", "b", "code", "table", "thead", "tbody", "tr", "th", "td", "a"),
    }
    attributes = [name for _, found in page.tags for name in found]
    assert set(attributes) <= {"style", "role", "aria-label", "href", "target", "rel"}
    assert all(found.get("href", "http://").startswith("http://") for _, found in page.tags)
    assert "\x1b" not in page.text


def test_a_batch_has_a_bar_of_its_outcomes() -> None:
    page = Page(batch(total=10, succeeded=6, failed=1, eta_s=3.0)._repr_html_())
    flex = [re.search(r"flex:(\d+)", found.get("style") or "") for _, found in page.tags]
    assert [each[1] for each in flex if each] == ["6", "1", "3"]
    assert "6 succeeded, 1 failed of 10, 0:00:03 left" in page.text


def test_a_submitted_batch_links_to_its_page() -> None:
    given = {**accepted(), "url": f"https://x/api/batches/{BATCH_ID}"}
    page = Page(msgspec.convert(given, Accepted)._repr_html_())
    (link,) = [found["href"] for tag, found in page.tags if tag == "a"]
    assert link == f"https://x/api/#/batches/{BATCH_ID}"


def test_a_long_page_shows_its_first_rows_and_counts_the_rest() -> None:
    page = Page(ResultPage([row(index=n) for n in range(1000)], "c")._repr_html_())
    assert len([tag for tag, _ in page.tags if tag == "tr"]) == 21
    assert "980 more on this page" in page.text
    assert "and more on the next page" in page.text


# --- progress ---------------------------------------------------------------------------------


@pytest.fixture
def api() -> Iterator[StubApi]:
    with serving() as stub:
        yield stub
    assert stub.left == 0


class Notebook:
    """Stands in for IPython in the kernel of a notebook, with the calls that Taskfleet makes of
    it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kernel: object = "kernel") -> None:
        self.shown: list[list[Any]] = []
        ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        ipython.get_ipython = lambda: types.SimpleNamespace(kernel=kernel)  # type: ignore[attr-defined]
        display.display = self._display  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "IPython", ipython)
        monkeypatch.setitem(sys.modules, "IPython.display", display)

    def _display(self, shown: Any, *, display_id: bool) -> object:
        assert display_id
        block = [shown]
        self.shown.append(block)
        return types.SimpleNamespace(update=block.append)


def test_a_notebook_gets_one_block_that_is_drawn_over(
    api: StubApi, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = Notebook(monkeypatch)
    monkeypatch.setattr("taskfleet.clock.SystemClock.sleep", lambda *_: None)
    api.answers({**BATCH, "name": HOSTILE, "eta_s": 9.0}, {**DONE, "succeeded": 2, "failed": 1})
    states: list[BatchView] = []
    with Client(api.url, "t") as client:
        client.wait(BATCH_ID, on_progress=states.append, progress=True)
    (block,) = seen.shown
    first, last = (Page(picture._repr_html_()) for picture in block)
    assert repr(block[1]) == f"{BATCH_ID}: 3 of 3, 1 failed"
    assert "0 of 3, 0 failed, 0:00:09 left" in first.text
    assert "alert(1)" in first.text
    assert {tag for tag, _ in first.tags} == {"div", "b", "progress"}
    assert "1 failed" in last.text
    assert dict(last.tags)["progress"]["max"] == "3"
    assert len(states) == 2
    assert capfd.readouterr() == ("", "")


def test_ipython_in_a_terminal_is_no_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    Notebook(monkeypatch, kernel=None)
    assert not notebook.is_here()


def test_a_log_stays_clean(capfd: pytest.CaptureFixture[str]) -> None:
    with shown_progress() as show:
        show(State("x", 1, 0, 2))
    assert capfd.readouterr() == ("", "")


SCRIPT = """
import sys, time
from taskfleet import FleetExecutor

def double(number):
    if number == 3:
        raise ValueError("three")
    return 2 * number

with FleetExecutor(name="doubles", local=True, slots=2, progress=PROGRESS) as pool:
    found = list(pool.map(double, range(9), return_exceptions=True))
    print("the sum is", sum(x for x in found if isinstance(x, int)))
print(repr(pool.submit) and len(found), "calls", file=sys.stderr)
"""


def script_of(progress: bool) -> list[str]:
    return [sys.executable, "-c", SCRIPT.replace("PROGRESS", str(progress))]


def environ() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def test_an_executor_shows_its_calls_on_a_terminal_and_leaves_the_last_state() -> None:
    with in_terminal(script_of(True), environ()) as terminal:
        assert terminal.end() == 0
    assert "doubles" in terminal.text
    assert "9/9 1 failed" in terminal.text
    assert "the sum is 66" in terminal.text
    assert terminal.raw.count("\x1b[?25h") >= terminal.raw.count("\x1b[?25l") > 0  # the cursor


@pytest.mark.parametrize("progress", [True, False])
def test_an_executor_is_quiet_in_a_log(progress: bool) -> None:
    done = subprocess.run(
        script_of(progress), env=environ(), capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("the sum is 66\n", "9 calls\n")


def test_what_a_script_prints_into_a_file_goes_there_while_a_bar_is_drawn(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = ["sh", "-c", f'exec "$@" > {out}', "sh", *script_of(True)]
    with in_terminal(command, environ()) as terminal:
        assert terminal.end() == 0
    assert out.read_text() == "the sum is 66\n"
    assert "9/9" in terminal.text


def test_without_being_asked_an_executor_shows_nothing_on_a_terminal() -> None:
    with in_terminal(script_of(False), environ()) as terminal:
        assert terminal.end() == 0
    assert terminal.text.splitlines() == ["the sum is 66", "9 calls"]


def test_an_executor_and_its_futures_say_how_they_are() -> None:
    def fail() -> None:
        raise ValueError("<b>no</b>\n")

    with FleetExecutor(local=True, slots=1) as pool:
        futures = [pool.submit(len, "abc"), pool.submit(fail)]
        futures[0].result()
        futures[1].exception()
    assert repr(futures[0]) == f"<FleetFuture {futures[0].task_id}: returned int>"
    assert repr(futures[1]).endswith("raised ValueError: <b>no</b>>")
    assert Page(futures[1]._repr_html_()).text == repr(futures[1])
    page = Page(pool._repr_html_())
    assert "2 of 2, 1 failed" in page.text
    assert dict(page.tags)["progress"]["value"] == "2"


@pytest.mark.parametrize(
    ("counts", "left"),
    [
        (Counts(5, 3, 0), None),
        (Counts(0, 0, 9), None),
        (Counts(5, 1, 3), 20.0),
    ],
)
def test_the_time_left_is_the_rest_at_the_pace_so_far(counts: Counts, left: float | None) -> None:
    assert left_s(counts, 10.0) == left
