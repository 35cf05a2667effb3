"""A real browser for tests of the dashboard: Chromium, driven by Playwright. A watched page fails
its test when anything stands in its console, a script fails, the Content-Security-Policy stops
something, or a request leaves this machine. Owns that, and the check of accessibility by axe-core.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

from tests.support.once import once
from tests.support.tools import needs

FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage")
PATIENCE_MS = 30_000
"""Longest wait for an element. Only a test that fails waits so long."""
WIDE = (1280, 900)
PHONE = (360, 780)
"""Sizes of a window, in pixels."""
HOST = "127.0.0.1"
STEP_S = 0.25
"""Seconds of a step of a page's clock: short beside the second that lies between two calls."""
LOOKS: tuple[tuple[tuple[int, int], Literal["light", "dark"]], ...] = (
    (WIDE, "light"),
    (WIDE, "dark"),
    (PHONE, "dark"),
)
"""Widths and colour schemes in which a view is checked. The rules of the style sheets for a narrow
window set no colours, so that a phone in the light is not checked again."""
_QUIET = ("log", "info", "debug")
# A style or script that the policy stops is told in the console as well; this also tells of images.
_TELL_OF_POLICY = """document.addEventListener("securitypolicyviolation", event =>
  console.error(`policy: ${event.violatedDirective} stopped ${event.blockedURI}`));"""
AXE = "4.10.3"
_RUN_AXE = """async root => {
  const {violations, incomplete} = await axe.run(root ?? document, {resultTypes: ["violations"]});
  return violations.map(one => `${one.id} (${one.impact}): ${one.help}: ` +
    one.nodes.map(node => `${node.target} ${node.html.slice(0, 200)}`).join(" | "));
}"""


@dataclass
class Watched:
    """A page and what was wrong with it so far. `expected` are patterns of what a test provokes."""

    page: Page
    faults: list[str] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def expect(self, pattern: str) -> None:
        """Let faults that match pass, such as the browser's line about an answer that is 403."""
        self.expected.append(pattern)

    def check(self) -> None:
        """Raise AssertionError unless nothing was wrong."""
        wrong = [f for f in self.faults if not any(re.search(p, f) for p in self.expected)]
        assert not wrong, wrong

    def calls(self, method: str = "GET") -> list[str]:
        """The URLs of the API's calls so far, without those of the page's own parts."""
        found = [one.url for one in self.requests if one.method == method]
        return [
            url for url in found if "/ui/" not in url and not url.startswith(("blob:", "data:"))
        ]


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for the time of the block. Skips the test where there is none."""
    path = needs("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def watched(browser: Browser, size: tuple[int, int] = WIDE, **options: Any) -> Iterator[Watched]:
    """A new page in a context of its own, checked at the end of the block.

    size: width and height of the window. options: of Playwright's `new_context`.
    """
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, **options)  # type: ignore[arg-type]
    context.set_default_timeout(PATIENCE_MS)
    context.add_init_script(_TELL_OF_POLICY)
    page = context.new_page()
    one = Watched(page)

    def hear(message: ConsoleMessage) -> None:
        if message.type not in _QUIET:
            one.faults.append(f"console {message.type}: {message.text} ({message.location})")

    def see(request: Request) -> None:
        one.requests.append(request)
        url = urlsplit(request.url)
        if url.scheme not in ("blob", "data") and url.hostname != HOST:
            one.faults.append(f"a request leaves the host: {request.url}")

    page.on("console", hear)
    page.on("pageerror", lambda error: one.faults.append(f"error: {error}\n{error.stack}"))
    page.on("request", see)
    try:
        yield one
        one.check()
    finally:
        page.unroute_all(behavior="ignoreErrors")  # a test's answer may be under way
        context.close()


def let_pass(one: Watched, seconds: float, step_s: float = STEP_S) -> None:
    """Let seconds pass on the page's clock, which `page.clock.install()` has replaced, without
    waiting for them. Each step ends once the page has the answers to the calls that it made, so
    that it makes at most one call after another in a step."""
    for _ in range(round(seconds / step_s)):
        one.page.clock.run_for(round(step_s * 1000))
        answered = None
        while one.requests and one.requests[-1] is not answered:
            answered = one.requests[-1]
            answered.response()
            one.page.wait_for_timeout(10)  # the page plans its next call


def accessibility_faults(page: Page, selector: str | None = None) -> list[str]:
    """The faults that axe-core finds in a page, or with the elements of the selector. Transitions
    are waited for, since colours between two have another contrast."""
    settled = "() => document.getAnimations().every(one => one.playState !== 'running')"
    page.wait_for_function(settled)
    page.evaluate(_axe().read_text())
    faults: list[str] = page.evaluate(_RUN_AXE, selector)
    return faults


def faults_in_every_look(page: Page) -> list[str]:
    """The faults that axe-core finds in a page at the widths and in the colours of LOOKS, and which
    of them it is too wide for."""
    faults = []
    for (width, height), scheme in LOOKS:
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme=scheme)
        faults += [f"{width}, {scheme}: {fault}" for fault in accessibility_faults(page)]
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            faults.append(f"{width}, {scheme}: it scrolls sideways")
    return faults


@functools.cache
def _axe() -> Path:
    """The script of axe-core, installed at first use outside the checkout."""
    npm = needs("npm")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))

    def install(draft: Path) -> None:
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(draft)]
        subprocess.run([*command, f"axe-core@{AXE}"], check=True, capture_output=True, timeout=100)

    folder = once(cache / "taskfleet" / "axe-core" / AXE, install)
    return folder / "node_modules" / "axe-core" / "axe.min.js"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of a module. It ends with the module, since no test of another one
    could run an event loop of asyncio in this thread as long as Playwright does."""
    with chromium() as one:
        yield one
