"""The dashboard's shell in a browser: the token, the theme, the navigation, what it costs."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from taskfleet.wire import token
from tests.e2e.conftest import Cloud
from tests.e2e.dashboard import (
    HOSTILE,
    VIEWS,
    calls_a_second,
    ended,
    go,
    opened,
    submit,
)
from tests.support.browser import (
    Watched,
    accessibility_faults,
    browser,
    faults_in_every_look,
    let_pass,
    watched,
)

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.e2e

REFUSED = r"Failed to load resource: .* 403"
"""The browser's own line about an answer that the test provokes."""
LOOK_S = 8.0
"""Seconds of the page's clock for which calls are counted."""
HIDE = """hidden => {
  Object.defineProperty(document, "hidden", {configurable: true, get: () => hidden});
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture(scope="module")
def failing(cloud: Cloud) -> str:
    """A batch that has ended, with failures and a hostile name."""
    tasks = ["sleep 1", {"kind": "command", "params": "exit 3"}]
    batch_id = submit(cloud, tasks, name=HOSTILE[0])
    ended(cloud, batch_id)
    return batch_id


@pytest.fixture
def shown(browser: Browser, cloud: Cloud) -> Iterator[Watched]:
    with opened(browser, cloud) as one:
        yield one


def bar(page: Page) -> Any:
    return page.get_by_role("navigation", name="Views")


def reader(cloud: Cloud) -> str:
    secret = (cloud.directory / "token_secret").read_text()
    return token.make(secret, "local", 600, time.time(), role=token.Role.READER)


class TestToken:
    def test_it_is_taken_out_of_the_address_and_kept_for_the_tab(
        self, browser: Browser, cloud: Cloud, shown: Watched
    ) -> None:
        page = shown.page
        assert page.url == f"{cloud.url}/#/"
        expect(page.get_by_text("local", exact=True)).to_be_visible()
        page.reload()
        expect(page.get_by_text("local", exact=True)).to_be_visible()
        stored = page.evaluate("[Object.values(localStorage), document.cookie]")
        assert stored == [[], ""]
        assert all(cloud.token not in one.url for one in shown.requests)

    def test_without_one_it_is_asked_for_once(self, browser: Browser, cloud: Cloud) -> None:
        with watched(browser) as one:
            one.page.goto(f"{cloud.url}/#/batches")
            dialog = one.page.get_by_role("dialog", name="Sign in")
            expect(dialog).to_have_count(1)
            assert not one.calls()[1:], "no call before there is a token"
            dialog.get_by_role("button").click()
            expect(dialog.get_by_role("alert")).to_have_text("Paste a token first.")
            assert accessibility_faults(one.page) == []
            dialog.get_by_label("Token").fill(f"Bearer {cloud.token}\n")
            dialog.get_by_role("button").click()
            expect(one.page.get_by_role("heading", level=1)).to_have_text("Batches")
            expect(dialog).to_have_count(0)

    @pytest.mark.parametrize("age_s", [None, 3600], ids=["wrong", "expired"])
    def test_a_bad_one_is_told(self, browser: Browser, cloud: Cloud, age_s: float | None) -> None:
        secret = (cloud.directory / "token_secret").read_text()
        bad = "x.y.z" if age_s is None else token.make(secret, "local", 60, time.time() - age_s)
        with watched(browser) as one:
            one.expect(REFUSED)
            one.page.goto(f"{cloud.url}/#token={bad}")
            dialog = one.page.get_by_role("dialog", name="Sign in")
            expect(dialog.get_by_role("alert")).to_contain_text("does not accept this token")
            dialog.get_by_label("Token").fill(cloud.token)
            one.page.keyboard.press("Enter")
            expect(one.page.get_by_role("heading", name="Newest batches")).to_be_visible()

    def test_signing_out_forgets_it(self, browser: Browser, cloud: Cloud) -> None:
        with opened(browser, cloud, own_clock=True) as one:
            page = one.page
            page.get_by_role("button", name="Sign out").click()
            expect(page.get_by_role("heading", level=1)).to_have_text("Signed out")
            assert page.evaluate("Object.values(sessionStorage)") == []
            calls = len(one.calls())
            let_pass(one, 60, step_s=10)
            assert len(one.calls()) == calls
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("dialog", name="Sign in")).to_be_visible()

    def test_a_reader_is_offered_no_change(
        self, browser: Browser, cloud: Cloud, failing: str
    ) -> None:
        running = submit(cloud, ["sleep 10000"])
        with opened(browser, cloud, "batches", reader(cloud)) as one:
            page = one.page
            expect(page.get_by_text("reads only")).to_be_visible()
            expect(page.locator("tbody tr").first).to_be_visible()
            expect(bar(page).get_by_role("link", name="Submit")).to_be_hidden()
            for view in ("", "batches", "fleet", "dead-letters", "schedules", "submit"):
                go(page, view)
                found = page.locator("main button:visible").all_inner_texts()
                words = re.compile("cancel|retry|redrive|remove|submit", re.IGNORECASE)
                assert [text for text in found if words.search(text)] == [], view
            expect(page.get_by_text("This token may only read")).to_be_visible()
        cloud.api("DELETE", f"/batches/{running}")


class TestShell:
    def test_the_theme_goes_round_and_is_kept(self, shown: Watched) -> None:
        page = shown.page
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        button = page.get_by_role("button", name="Theme:")
        button.click()
        assert page.evaluate(ground) == light
        button.click()
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        assert page.evaluate(ground) == dark
        button.click()
        assert page.evaluate(ground) == light

    def test_views_have_addresses_titles_and_the_focus(self, shown: Watched) -> None:
        page = shown.page
        for name in ("Batches", "Fleet", "Dead letters", "Submit", "Overview"):
            bar(page).get_by_role("link", name=name).click()
            expect(page.get_by_role("heading", level=1)).to_have_text(name)
            expect(page).to_have_title(f"{name} · Taskfleet")
            current = bar(page).locator("[aria-current=page]")
            expect(current).to_have_text(name)
            assert page.evaluate("document.activeElement.id") == "main"
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text("Submit")

    def test_an_unknown_address_says_so(self, shown: Watched) -> None:
        go(shown.page, "no/such/view")
        expect(shown.page.get_by_role("heading", level=1)).to_have_text("No such view")

    def test_the_keyboard_skips_the_bar(self, shown: Watched) -> None:
        shown.page.keyboard.press("Tab")
        shown.page.keyboard.press("Enter")
        assert shown.page.evaluate("document.activeElement.id") == "main"

    def test_an_open_view_makes_at_most_a_call_a_second(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        with contextlib.ExitStack() as pages:
            views = ("", "batches", "fleet")
            for view in views:
                one = pages.enter_context(opened(browser, cloud, view, own_clock=True))
                let_pass(one, 2)  # the first calls, which fill the view, come at once
                assert 0 < calls_a_second(one, LOOK_S) <= 1.2, view

    def test_a_hidden_tab_makes_no_call(self, browser: Browser, cloud: Cloud) -> None:
        with opened(browser, cloud, own_clock=True) as one:
            let_pass(one, 1.5)
            one.page.evaluate(HIDE, True)
            before = len(one.calls())
            let_pass(one, 60, step_s=10)
            assert len(one.calls()) == before
            one.page.evaluate(HIDE, False)
            let_pass(one, 2.5)
            assert len(one.calls()) > before

    def test_axe_finds_nothing_and_every_view_fits(
        self, browser: Browser, cloud: Cloud, failing: str
    ) -> None:
        with opened(browser, cloud) as one:
            for view in VIEWS:
                go(one.page, view)
                one.page.wait_for_load_state("networkidle")
                assert faults_in_every_look(one.page) == [], view
