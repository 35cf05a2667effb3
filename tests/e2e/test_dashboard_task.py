"""The dashboard's view of a task in a browser."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.e2e.conftest import Cloud
from tests.e2e.dashboard import HOSTILE, ended, go, no_sideways_scroll, opened, submit
from tests.e2e.test_dashboard_batch import NOT_OWNED, command, printed
from tests.support.browser import PATIENCE_MS, Watched, browser, faults_in_every_look

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.e2e
expect.set_options(timeout=PATIENCE_MS)

LONG = "seq 1 20000"


@pytest.fixture(scope="module")
def batch(cloud: Cloud) -> str:
    """Tasks that have ended: hostile texts, retried, long output, files, none of it."""
    tasks = [
        command(printed(HOSTILE[0]), env={"A": HOSTILE[4]}),
        {**command("echo once; kill -9 $$"), "max_attempts": 2},
        command(LONG),
        command("seq 3 > numbers.csv", outputs=["*.csv"]),
        "sleep 1",
    ]
    batch_id = submit(cloud, tasks, name=HOSTILE[1])
    ended(cloud, batch_id)
    return batch_id


@pytest.fixture
def shown(browser: Browser, cloud: Cloud, batch: str) -> Iterator[Watched]:
    with opened(browser, cloud, f"batches/{batch}/tasks/0") as one:
        yield one


def panel(page: Page, name: str) -> Any:
    return page.get_by_role("region", name=name, exact=True).first


class TestAnEndedTask:
    def test_a_failure_shows_error_params_output_and_attempts_as_text(self, shown: Watched) -> None:
        page = shown.page
        expect(page.locator("main h1")).to_have_text("Task 0")
        expect(page.locator(".head .tag")).to_have_text("failed")
        expect(page.locator(".state .error")).to_contain_text(HOSTILE[0])
        expect(panel(page, "Params")).to_contain_text("svg/onload")
        expect(page.locator(".output")).to_contain_text(HOSTILE[0])
        expect(page.locator(".crumbs")).to_contain_text(HOSTILE[1])
        row = panel(page, "Attempts").locator("tbody tr")
        expect(row).to_contain_text("failed")
        assert page.evaluate(NOT_OWNED)

    def test_attempts_stand_on_a_line_of_time_and_have_outputs(
        self, cloud: Cloud, batch: str, shown: Watched
    ) -> None:
        page = shown.page
        go(page, f"batches/{batch}/tasks/1")
        expect(page.locator(".attempts-bar")).to_have_count(2)
        lefts = [bar.bounding_box()["x"] for bar in page.locator(".attempts-bar").all()]  # type: ignore[index]
        assert lefts == sorted(lefts)
        assert lefts[0] < lefts[1]
        page.get_by_role("combobox", name="Attempt").select_option("1")
        expect(page.locator(".output")).to_have_text("once\n")

    def test_a_long_output_is_read_to_its_end(self, batch: str, shown: Watched) -> None:
        page = shown.page
        go(page, f"batches/{batch}/tasks/2")
        expect(page.locator(".output")).to_contain_text("20000")
        text = page.locator(".output").inner_text()
        assert text.split() == [str(n) for n in range(1, 20_001)]
        page.get_by_role("button", name="Jump to the end").click()
        end = "node => node.scrollHeight - node.scrollTop - node.clientHeight"
        assert page.locator(".output").evaluate(end) <= 1

    def test_a_long_result_is_folded(self, batch: str, shown: Watched) -> None:
        page = shown.page
        go(page, f"batches/{batch}/tasks/2")
        page.get_by_text("End of stdout").click()
        folded = page.locator(".folded").first
        short = len(folded.locator("pre").inner_text())
        folded.get_by_role("button", name="Show all").click()
        expect(folded.get_by_role("button", name="Show less")).to_be_visible()
        assert len(folded.locator("pre").inner_text()) > short

    def test_files_are_links(self, batch: str, shown: Watched) -> None:
        page = shown.page
        go(page, f"batches/{batch}/tasks/3")
        link = page.get_by_role("link", name="numbers.csv")
        expect(link).to_have_attribute("href", re.compile(r"^http://127\.0\.0\.1:"))
        assert page.request.get(str(link.get_attribute("href"))).text() == "1\n2\n3\n"

    def test_tasks_before_and_after_are_one_step_away(self, batch: str, shown: Watched) -> None:
        page = shown.page
        page.get_by_role("link", name="Task after").click()
        expect(page.locator("main h1")).to_have_text("Task 1")
        page.get_by_role("link", name="Task before").click()
        expect(page.locator("main h1")).to_have_text("Task 0")
        go(page, f"batches/{batch}/tasks/4")
        expect(page.locator(".crumbs")).to_contain_text(HOSTILE[1])
        expect(page.get_by_role("link", name="Task after")).to_be_hidden()

    def test_axe_finds_nothing_and_it_fits(self, shown: Watched) -> None:
        expect(shown.page.locator(".output")).to_contain_text(HOSTILE[0])
        assert faults_in_every_look(shown.page) == []


HOSTILE_TASK = {
    "status": "FAILED",
    "task": {"kind": "python", "params": {"<b>": HOSTILE[0]}},
    "result": {
        "outputs": [
            {"name": "a<b>.txt", "bytes": 3, "url": "javascript:document.title='owned'"},
            {"name": HOSTILE[4], "bytes": -1, "url": "data:text/html,<script>1</script>"},
        ],
        "stdout": HOSTILE[0],
        "stderr": HOSTILE[1],
        "exit_status": HOSTILE[2],
    },
    "error": HOSTILE[0],
    "traceback": HOSTILE[0] * 3,
    "why": HOSTILE[0],
    "worker_id": HOSTILE[4],
}


def test_hostile_strings_in_every_field_are_text(
    browser: Browser, cloud: Cloud, batch: str
) -> None:
    """The answers are altered on their way, for fields whose form the service itself checks."""

    def alter(route: Route) -> None:
        answer = route.fetch()
        view = {**answer.json(), **HOSTILE_TASK}
        view["history"] = [
            {**one, "error": HOSTILE[0], "worker_id": HOSTILE[1]} for one in view["history"]
        ]
        route.fulfill(response=answer, body=json.dumps(view))

    with opened(browser, cloud, "batches") as one:
        page = one.page
        page.route(f"**/batches/{batch}/tasks/0", alter)
        go(page, f"batches/{batch}/tasks/0")
        expect(page.locator(".state .error")).to_have_text(HOSTILE[0])
        expect(panel(page, "Traceback")).to_contain_text(HOSTILE[0])
        expect(page.locator(".files")).to_contain_text("a<b>.txt")
        assert page.locator(".files a").count() == 0
        assert page.evaluate(NOT_OWNED)
        assert no_sideways_scroll(page)
