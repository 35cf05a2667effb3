"""What the tests of the dashboard share: opening it, and the batches they look at."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from playwright.sync_api import Browser, Page

from tests.e2e.conftest import Cloud
from tests.support.browser import Watched, let_pass, watched
from tests.support.waiting import eventually

HOSTILE = (
    "<img src=x onerror=document.title='owned'>",
    "\u202egnp.exe <script>document.title='owned'</script>",
    "x" * 200,
    "مرحبا <b>bold</b> \u2066",
    "{{7*7}} ${7*7} '\"><svg/onload=document.title='owned'>",
)
"""Texts that a careless page would take for markup, or that would break its layout."""
VIEWS = (
    "",
    "batches",
    "fleet",
    "dead-letters",
    "schedules",
    "submit",
    "submit?way=command",
    "submit?way=movie",
)
"""Fragments of the views."""


@contextlib.contextmanager
def opened(
    browser: Browser,
    cloud: Cloud,
    view: str = "",
    token: str | None = None,
    *,
    own_clock: bool = False,
    **options: Any,
) -> Iterator[Watched]:
    """A watched page that shows a view and is signed in with `token`, the cloud's unless given.

    own_clock: the page has a clock that `let_pass` moves on, beside the time that passes.
    """
    with watched(browser, **options) as one:
        if own_clock:
            one.page.clock.install()
        one.page.goto(f"{cloud.url}/#token={token or cloud.token}&view={view}")
        one.page.wait_for_selector("main h1")
        yield one


def go(page: Page, view: str) -> None:
    """Go to another view of an open page."""
    page.evaluate("view => { location.hash = `#/${view}`; }", view)
    page.wait_for_selector("main h1")


def submit(cloud: Cloud, tasks: list[Any], **options: Any) -> str:
    """Submit a batch by the API. Returns its id."""
    answer = cloud.api("POST", "/batches", json={"tasks": tasks, **options})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


def ended(cloud: Cloud, batch_id: str) -> dict[str, Any]:
    """The batch, once it has ended."""

    def look() -> dict[str, Any] | None:
        batch: dict[str, Any] = cloud.api("GET", f"/batches/{batch_id}").json()
        return batch if batch["status"] in ("DONE", "CANCELLED") else None

    return eventually(look, what=f"batch {batch_id} ends")  # type: ignore[return-value]


def calls_a_second(one: Watched, seconds: float) -> float:
    """How many calls a page with a clock of its own makes a second of that clock, over at least so
    many seconds."""
    begun, before = one.page.evaluate("performance.now()"), len(one.calls())
    let_pass(one, seconds)
    took_ms: float = one.page.evaluate("performance.now()") - begun
    return (len(one.calls()) - before) / (took_ms / 1000)


def no_sideways_scroll(page: Page) -> bool:
    """Tells whether the page fits its window's width."""
    width: bool = page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    return width
