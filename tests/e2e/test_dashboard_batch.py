"""The dashboard's view of a batch in a browser."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from taskfleet.wire import token
from tests.e2e.conftest import ROOT, Cloud
from tests.e2e.dashboard import HOSTILE, calls_a_second, ended, opened, submit
from tests.e2e.test_dashboard_stream import LIMIT_MS, Meter
from tests.support.browser import (
    PATIENCE_MS,
    Watched,
    accessibility_faults,
    browser,
    faults_in_every_look,
    let_pass,
)
from tests.support.streams import stream_pages

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.e2e
expect.set_options(timeout=PATIENCE_MS)

MOVIE = [ROOT / "examples/pictures" / name for name in ("coffee.jpg", "chelsea.jpg")]
NOT_OWNED = "document.title.includes('Taskfleet') && !document.querySelector('main img, main b')"


def command(shell: str, **params: Any) -> dict[str, Any]:
    return {"kind": "command", "params": {"shell": shell, **params}}


def printed(text: str) -> str:
    """A shell command that prints the text and fails with it."""
    quoted = text.replace("'", "'\\''")
    return f"printf '%s\\n' '{quoted}' >&2; printf '%s\\n' '{quoted}'; exit 3"


@pytest.fixture(scope="module")
def mixed(cloud: Cloud) -> str:
    """A batch that has ended: sleeps, failures of two errors, hostile texts, and files."""
    tasks: list[Any] = ["sleep 5"] * 120
    tasks += [command("exit 3")] * 3 + [command(printed(HOSTILE[0]))]
    tasks += [command(f"echo '{n}'; exit 4") for n in range(2)]
    tasks += [command("seq 3 > 'numbers <b>.csv'; echo é > b.txt", outputs=["*.csv", "*.txt"])]
    batch_id = submit(cloud, tasks, name=f"mixed {HOSTILE[0]}", timeout_s=60, max_attempts=1)
    ended(cloud, batch_id)
    return batch_id


@pytest.fixture(scope="module")
def movie(cloud: Cloud) -> str:
    """A batch with a movie that has been made."""
    images = []
    for path in MOVIE:
        form = cloud.api("POST", "/uploads", json={}).json()
        _send(form, path)
        images.append(f"upload:{form['upload_id']}")
    task = {"kind": "animoto", "params": {"images": images, "preset": "square", "duration": 1}}
    batch_id = submit(cloud, [task], name="movie")
    assert ended(cloud, batch_id)["succeeded"] == 1
    return batch_id


def _send(form: dict[str, Any], path: Path) -> None:
    import requests

    answer = requests.post(
        form["url"], data=form["fields"], files={"file": path.read_bytes()}, timeout=30
    )
    assert answer.ok, answer.text


@pytest.fixture
def shown(browser: Browser, cloud: Cloud, mixed: str) -> Iterator[Watched]:
    with opened(browser, cloud, f"batches/{mixed}") as one:
        yield one


def stream_summary(page: Page) -> Any:
    return page.locator(".stream-summary")


def results(page: Page) -> Any:
    return page.locator("section.results")


class TestAnEndedBatch:
    def test_it_tells_the_outcome_and_the_facts(self, shown: Watched, mixed: str) -> None:
        page = shown.page
        bar = page.get_by_role("img", name=re.compile("121 succeeded, 6 failed"))
        expect(bar).to_be_visible()
        facts = page.locator("dl.facts")
        for fact in ("Tasks\n127", "Cost\n", "time-out 1 min, tries 1", mixed, "Trace\n"):
            expect(facts).to_contain_text(fact.replace("\n", ""))
        expect(page.locator("main h1")).to_have_text(f"mixed {HOSTILE[0]}")

    def test_the_stream_has_every_task(self, shown: Watched) -> None:
        summary = stream_summary(shown.page)
        expect(summary).to_contain_text("127 tasks ended on 1 worker")
        expect(summary).to_contain_text("121 succeeded, 6 failed, 0 cancelled")

    def test_failures_are_grouped_and_lead_to_examples(self, shown: Watched) -> None:
        page = shown.page
        groups = page.locator(".failures li")
        expect(groups.first).to_contain_text("3 tasks")
        expect(groups.first.locator(".error")).to_have_text("exit status 3")
        expect(groups.filter(has_text="exit status 4")).to_contain_text("2 tasks")
        expect(groups.filter(has_text=HOSTILE[0])).to_contain_text("1 task")
        groups.filter(has_text=HOSTILE[0]).get_by_role("link").click()
        expect(page.locator("main h1")).to_have_text("Task 123")
        expect(page.locator(".state .error")).to_contain_text(HOSTILE[0])
        assert page.evaluate(NOT_OWNED)

    def test_results_page_and_filter_and_the_address_keeps_the_filter(
        self, browser: Browser, cloud: Cloud, shown: Watched
    ) -> None:
        page = shown.page
        table = results(page)
        rows = table.locator("tbody tr")
        expect(rows).to_have_count(100)
        table.get_by_role("button", name="Next page").click()
        expect(rows).to_have_count(27)
        expect(table.get_by_role("button", name="Next page")).to_be_disabled()
        expect(rows.first.get_by_role("link")).to_have_text("100")
        table.get_by_role("button", name="Previous page").click()
        expect(rows).to_have_count(100)
        table.get_by_label("Show").select_option("Failed")
        expect(rows).to_have_count(6)
        assert page.url.endswith("?status=FAILED")
        with opened(browser, cloud, page.url.split("#/")[1].replace("?", "%3F")) as again:
            expect(results(again.page).locator("tbody tr")).to_have_count(6)

    def test_files_are_links_to_the_store(self, shown: Watched) -> None:
        page = shown.page
        results(page).get_by_role("button", name="Next page").click()
        link = results(page).get_by_role("link", name="numbers <b>.csv")
        expect(link).to_have_attribute("href", re.compile(r"^http://127\.0\.0\.1:"))
        expect(link).to_have_attribute("rel", "noopener noreferrer")

    def test_a_click_in_the_stream_opens_the_task(self, shown: Watched) -> None:
        page = shown.page
        expect(stream_summary(page)).to_contain_text("127 tasks")
        plot = page.get_by_role("application", name="Task stream")
        plot.focus()
        page.keyboard.press("f")
        page.keyboard.press("Enter")
        expect(page.locator("main h1")).to_have_text(re.compile(r"^Task 12\d$"))

    def test_its_receipt_says_that_it_balances(
        self, shown: Watched, cloud: Cloud, mixed: str
    ) -> None:
        page = shown.page
        receipt = page.get_by_role("region", name="Receipt")
        receipt.get_by_role("button", name="Audit").click()
        expect(receipt).to_contain_text("It balances: every task has exactly one result.")
        expect(receipt).to_contain_text("127 tasks: 121 succeeded, 6 failed, 0 cancelled")
        digest = cloud.api("GET", f"/batches/{mixed}/audit").json()["sha256"]
        expect(receipt.locator("code")).to_have_text(digest)
        assert accessibility_faults(page) == []

    def test_axe_finds_nothing_and_it_fits(self, shown: Watched) -> None:
        expect(stream_summary(shown.page)).to_contain_text("127 tasks")
        expect(results(shown.page).locator("tbody tr")).to_have_count(100)
        assert faults_in_every_look(shown.page) == []


class TestMovies:
    def test_a_movie_plays_with_its_poster(
        self, browser: Browser, cloud: Cloud, movie: str
    ) -> None:
        with opened(browser, cloud, f"batches/{movie}") as one:
            page = one.page
            video = page.get_by_label("Movie of task 0")
            expect(video).to_have_attribute("poster", re.compile(r"\.jpg\?"))
            video.evaluate("video => { video.muted = true; return video.play(); }")
            page.wait_for_function("() => document.querySelector('video').currentTime > 0.2")
            expect(page.locator(".movies li")).to_contain_text("1080 × 1080")
            assert accessibility_faults(page) == []


class TestARunningBatch:
    def test_it_grows_in_place_and_can_be_cancelled_by_keys(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        batch_id = submit(cloud, ["sleep 300"] * 60 + ["sleep 12000"] * 40, name="to cancel")
        try:
            with opened(browser, cloud, f"batches/{batch_id}") as one:
                page = one.page
                expect(stream_summary(page)).to_contain_text(re.compile(r"^\d+ tasks? ended"))
                page.evaluate("window.row = document.querySelector('section.results tbody tr')")
                expect(stream_summary(page)).to_contain_text("60 tasks ended")
                expect(results(page).locator("tbody tr")).not_to_have_count(0)
                page.wait_for_function("() => row === null || row.isConnected")
                button = page.get_by_role("button", name="Cancel")
                button.focus()
                page.keyboard.press("Enter")
                dialog = page.get_by_role("dialog")
                expect(dialog).to_contain_text("to cancel")
                page.keyboard.press("Escape")
                expect(dialog).to_have_count(0)
                expect(button).to_be_focused()
                page.keyboard.press("Enter")
                for _ in range(5):
                    if "Cancel the batch" in str(
                        page.evaluate("document.activeElement.textContent")
                    ):
                        break
                    page.keyboard.press("Tab")
                page.keyboard.press("Enter")
                expect(page.locator(".head .tag")).to_have_text("cancelled")
                expect(button).to_be_hidden()
        finally:
            cloud.api("DELETE", f"/batches/{batch_id}")

    def test_it_says_so_while_the_service_does_not_answer(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        batch_id = submit(cloud, ["sleep 12000"])
        try:
            with opened(browser, cloud, f"batches/{batch_id}", own_clock=True) as one:
                one.expect("Failed to load resource")
                page = one.page
                told = page.get_by_role("alert").filter(has_text="may be out of date")
                calls = re.compile(rf"/batches/{batch_id}$")
                page.route(calls, lambda route: route.abort())
                let_pass(one, 3)
                expect(told).to_contain_text("The service does not answer")
                page.unroute(calls)
                let_pass(one, 60, step_s=5)  # the longest pause after failures
                expect(told).to_have_count(0)
        finally:
            cloud.api("DELETE", f"/batches/{batch_id}")

    def test_a_batch_that_waits_and_the_one_it_waits_for_lead_to_each_other(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        first = cloud.api("POST", "/batches", json={"open": True}).json()["batch_id"]
        second = submit(cloud, ["sleep 0"], after=[first])
        with opened(browser, cloud, f"batches/{second}") as one:
            page = one.page
            expect(page.locator(".head .tag")).to_have_text("waiting")
            expect(page.locator(".facts", has_text="Waits for")).to_be_visible()
            page.get_by_role("link", name=first).click()
            page.wait_for_url(f"**/#/batches/{first}")
            page.get_by_role("link", name=second).click()
            page.wait_for_url(f"**/#/batches/{second}")
            cloud.api("POST", f"/batches/{first}/close")
            expect(page.locator(".head .tag")).to_have_text("done")
            expect(page.get_by_role("link", name=first)).to_be_visible()

    def test_the_page_asks_once_a_second_at_most(self, browser: Browser, cloud: Cloud) -> None:
        batch_id = submit(cloud, ["sleep 12000"])
        try:
            with opened(browser, cloud, f"batches/{batch_id}", own_clock=True) as one:
                one.page.wait_for_selector("section.results tbody tr, section.results .pager")
                let_pass(one, 1.5)
                assert 0 < calls_a_second(one, 6) <= 1.2  # a call at each end of the time
        finally:
            cloud.api("DELETE", f"/batches/{batch_id}")

    def test_an_ended_batch_is_asked_for_no_more(
        self, browser: Browser, cloud: Cloud, mixed: str
    ) -> None:
        with opened(browser, cloud, f"batches/{mixed}", own_clock=True) as one:
            expect(stream_summary(one.page)).to_contain_text("127 tasks")
            expect(results(one.page).locator("tbody tr")).to_have_count(100)
            let_pass(one, 5)  # the last of its calls
            before = len(one.calls())
            let_pass(one, 120, step_s=10)
            assert len(one.calls()) == before


class TestWriters:
    def test_retry_makes_a_new_batch_that_leads_back(
        self, browser: Browser, cloud: Cloud, mixed: str
    ) -> None:
        with opened(browser, cloud, f"batches/{mixed}") as one:
            page = one.page
            page.get_by_role("button", name="Retry failed").focus()
            page.keyboard.press("Enter")
            dialog = page.get_by_role("dialog")
            expect(dialog.get_by_label("Failed (6)")).to_be_checked()
            assert accessibility_faults(page) == []
            page.keyboard.press("Enter")
            page.wait_for_url(lambda url: mixed not in url)
            link = page.locator("dl.facts").get_by_role("link", name=mixed)
            expect(link).to_be_visible()
            made = page.url.rsplit("/", 1)[1]
            view = cloud.api("GET", f"/batches/{made}").json()
            assert (view["total"], view["retry_of"]) == (6, mixed)

    def test_without_a_choice_nothing_can_be_retried(self, shown: Watched, mixed: str) -> None:
        page = shown.page
        page.get_by_role("button", name="Retry failed").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Failed (6)").uncheck()
        expect(dialog.get_by_role("button", name="Retry")).to_be_disabled()
        dialog.get_by_role("button", name="Back").click()
        expect(dialog).to_have_count(0)
        assert mixed in page.url

    def test_a_reader_has_no_buttons(self, browser: Browser, cloud: Cloud, mixed: str) -> None:
        secret = (cloud.directory / "token_secret").read_text()
        reader = token.make(secret, "local", 600, time.time(), role=token.Role.READER)
        with opened(browser, cloud, f"batches/{mixed}", reader) as one:
            expect(stream_summary(one.page)).to_contain_text("127 tasks")
            expect(one.page.get_by_role("button", name="Retry failed")).to_be_hidden()


def test_100_000_tasks_take_less_than_100_ms_of_script_an_interaction(
    browser: Browser, cloud: Cloud, mixed: str
) -> None:
    pages = stream_pages(100_000)
    asked: list[str] = []

    def answer(route: Route) -> None:
        found = re.search(r"cursor=(\d+)", route.request.url)
        number = int(found.group(1)) if found else 0
        asked.append(route.request.url)
        route.fulfill(body=json.dumps(pages[number]), content_type="application/json")

    with opened(browser, cloud, "batches") as one:
        page = one.page
        page.route(re.compile(r"/batches/\w+/stream"), answer)
        page.evaluate("view => { location.hash = view; }", f"#/batches/{mixed}")
        expect(stream_summary(page)).to_contain_text("100,000 tasks ended")
        assert len(asked) == len(pages)
        expect(page.locator(".failures li")).to_have_count(3)
        meter = Meter(page)
        box = page.get_by_role("application", name="Task stream").bounding_box()
        assert box is not None
        x, y = box["x"] + 400, box["y"] + 120
        page.mouse.move(x, y)
        took = {
            "hover": meter.best(lambda: page.mouse.move(x + 20, y + 20, steps=2)),
            "zoom": meter.best(lambda: page.get_by_role("button", name="Zoom in").click()),
            "fit": meter.best(lambda: page.get_by_role("button", name="Fit").click()),
        }
        assert {name: ms for name, ms in took.items() if ms >= LIMIT_MS} == {}
