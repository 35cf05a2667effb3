"""The dashboard's views of work in a browser: the overview, batches, the fleet, dead letters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Cloud, StartCloud
from tests.e2e.dashboard import HOSTILE, ended, go, no_sideways_scroll, opened, submit
from tests.e2e.test_dashboard_batch import command
from tests.support.browser import PHONE, accessibility_faults, browser, let_pass
from tests.support.waiting import eventually

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.e2e

DATED = re.compile(r"20\d\d-\d\d-\d\dT[\d:.]+Z")
SLOWLY = """n=0; until [ -e '{stop}' ]; do n=$((n + 1)); echo "line $n <b>"; sleep 0.2; done
echo the end"""


def row(page: Page, name: str) -> Any:
    return page.get_by_role("row", name=re.compile(re.escape(name)))


@pytest.fixture(scope="module")
def elastic(start_cloud: StartCloud, tmp_path_factory: pytest.TempPathFactory) -> Cloud:
    """A local cloud whose provisioner starts all workers, and ends them soon. With such a lease, a
    worker tells every two seconds what its tasks have printed."""
    folder = tmp_path_factory.mktemp("elastic")
    options = ("--workers", "0", "--max-capacity", "2", "--threads", "4", "--boot-s", "0.5")
    return start_cloud(
        folder, *options, TASKFLEET_IDLE_S="2", TASKFLEET_LOOK_S="1", TASKFLEET_LEASE_S="6"
    )


@pytest.fixture
def long_one(cloud: Cloud) -> Iterator[str]:
    """A batch that runs until it is cancelled; a task that runs comes to its end."""
    batch_id = submit(cloud, ["sleep 6000"] * 60, name="the long one")
    yield batch_id
    cloud.api("DELETE", f"/batches/{batch_id}")


class TestOverview:
    def test_it_shows_what_runs_and_keeps_its_elements(
        self, browser: Browser, cloud: Cloud, long_one: str
    ) -> None:
        with opened(browser, cloud) as one:
            page = one.page
            busy = page.get_by_role("region", name="Slots busy")
            expect(busy).to_contain_text("16 of 16", timeout=30_000)
            expect(busy.get_by_role("img")).to_have_attribute(
                "aria-label", re.compile(r"Slots busy, over 60 minutes\. .*now 16, least .*most 16")
            )
            link = page.get_by_role("link", name="the long one").first
            link.focus()
            page.evaluate("window.was = document.activeElement")
            quick = submit(cloud, ["sleep 1"], name="a newer one")
            expect(page.get_by_role("link", name="a newer one").first).to_be_visible()
            assert page.evaluate("document.activeElement === window.was")
            cloud.api("DELETE", f"/batches/{quick}")
            bar = page.get_by_role("progressbar", name="Progress of the long one").first
            expect(bar).to_have_attribute("aria-valuetext", re.compile("of 60 tasks"))

    def test_a_banner_says_why_nothing_runs(self, browser: Browser, cloud: Cloud) -> None:
        why = f"no worker, since {HOSTILE[0]}"

        def stuck(route: Any) -> None:
            answer = route.fetch()
            route.fulfill(response=answer, json={**answer.json(), "why": why})

        with opened(browser, cloud, "submit") as one:
            one.page.route(re.compile("/fleet$"), stuck)
            for view in ("", "fleet"):
                go(one.page, view)
                expect(one.page.locator(".banner")).to_have_text(why)
                assert accessibility_faults(one.page) == [], view


class TestBatches:
    def test_they_are_searched_and_filtered_by_the_address(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        ids = [submit(cloud, [f"sleep {n}"], name=f"searched {n}") for n in range(3)]
        for batch_id in ids:
            ended(cloud, batch_id)
        submit(cloud, [{"kind": "command", "params": "true"}], name="searched by kind")
        with opened(browser, cloud, "batches") as one:
            page = one.page
            page.get_by_role("searchbox").fill("SEARCHED 1")
            expect(page.locator("tbody tr")).to_have_count(1)
            expect(row(page, "searched 1")).to_be_visible()
            page.get_by_role("searchbox").fill("searched")
            expect(page.locator("tbody tr")).to_have_count(4)
            page.get_by_role("combobox", name="Kind").select_option("command")
            expect(page.locator("tbody tr")).to_have_count(1)
            assert page.url.endswith("#/batches?name=searched&kind=command")
            page.reload()
            expect(page.locator("tbody tr")).to_have_count(1)
            expect(page.get_by_role("combobox", name="Kind")).to_have_value("command")
            page.get_by_role("searchbox").fill("no batch has this name")
            expect(page.get_by_text("No batch is like this.")).to_be_visible()

    def test_older_ones_are_shown_on_demand(self, browser: Browser, cloud: Cloud) -> None:
        ids = [submit(cloud, ["sleep 0"], name=f"paged {n}") for n in range(53)]
        ended(cloud, ids[-1])
        with opened(browser, cloud, "batches?name=paged", own_clock=True) as one:
            rows = one.page.locator("tbody tr")
            expect(rows).to_have_count(50)
            one.page.get_by_role("button", name="Show older ones").click()
            expect(rows).to_have_count(53)
            let_pass(one, 3.5)  # over the next look
            expect(rows).to_have_count(53)

    def test_one_is_cancelled_after_a_question(
        self, browser: Browser, cloud: Cloud, long_one: str
    ) -> None:
        with opened(browser, cloud, "batches") as one:
            page = one.page
            button = row(page, long_one).get_by_role("button", name="Cancel the long one")
            button.click()
            dialog = page.get_by_role("dialog", name="Cancel the long one?")
            assert accessibility_faults(page) == []
            dialog.get_by_role("button", name="Back").click()
            assert cloud.api("GET", f"/batches/{long_one}").json()["status"] != "CANCELLED"
            button.click()
            dialog.get_by_role("button", name="Cancel the batch").click()
            expect(row(page, long_one).get_by_text("cancelled", exact=True)).to_be_visible()
        assert cloud.api("GET", f"/batches/{long_one}").json()["status"] == "CANCELLED"

    def test_failed_tasks_are_run_again(self, browser: Browser, cloud: Cloud) -> None:
        tasks = [{"kind": "command", "params": text} for text in ("exit 3", "true")]
        old = submit(cloud, tasks, name="to retry")
        ended(cloud, old)
        with opened(browser, cloud, "batches?name=to retry") as one:
            page = one.page
            page.get_by_role("button", name="Retry the failed tasks of to retry").click()
            page.wait_for_url(re.compile(r"#/batches/(?!" + old + ")[0-9a-z]{26}$"))
            again = ended(cloud, page.url.rpartition("/")[2])
        assert (again["total"], again["retry_of"]) == (1, old)

    def test_hostile_texts_stay_texts(self, browser: Browser, cloud: Cloud) -> None:
        for text in HOSTILE:
            submit(cloud, [{"kind": "command", "params": {"argv": ["echo", text]}}], name=text)
        with opened(browser, cloud, "batches", size=PHONE) as one:
            page = one.page
            for view in ("batches", ""):
                go(page, view)
                for text in HOSTILE:
                    links = page.locator("main a.name").all_text_contents
                    eventually(lambda text=text, links=links: text in links(), what=text)
                assert page.title() != "owned"
                assert page.locator("main img, main script, main svg[onload]").count() == 0
                assert no_sideways_scroll(page), view
                assert accessibility_faults(page) == [], view
            go(page, "batches?name=" + "%22%3E%3Cimg%20src=x%20onerror=document.title='owned'%3E")
            expect(page.get_by_text("No batch is like this.")).to_be_visible()
            expect(page.get_by_role("searchbox")).to_have_value(re.compile("<img src=x"))


class TestFleet:
    def test_it_grows_and_drains(self, browser: Browser, elastic: Cloud) -> None:
        with opened(browser, elastic, "fleet") as one:
            page = one.page
            expect(page.get_by_text("No worker reports.")).to_be_visible()
            batch_id = submit(elastic, ["sleep 1500"] * 16)
            expect(page.locator(".workers strong.mono").first).to_be_visible(timeout=60_000)
            expect(page.locator(".slots .busy").first).to_be_visible()
            expect(page.locator(".decisions li").first).to_contain_text("wanted")
            assert accessibility_faults(page) == []
            ended(elastic, batch_id)
            expect(page.get_by_text("No worker reports.")).to_be_visible(timeout=60_000)

            def tells_the_decisions() -> bool:
                decisions = elastic.api("GET", "/fleet").json()["decisions"]
                told = page.locator(".decisions").inner_text()
                return bool(decisions) and all(one["reason"] in told for one in decisions[:3])

            eventually(tells_the_decisions, what="the page tells the newest decisions")
            page.get_by_role("button", name="15 min").click()
            drawn = page.get_by_role("img", name=re.compile("^Machines, over 15 minutes"))
            expect(drawn).to_have_attribute("aria-label", re.compile("there: now 0, .*most [12]"))
            page.get_by_text("Show the values").click()
            table = page.get_by_role("table", name="The fleet over the last hour")
            expect(table.get_by_role("row").nth(1)).to_be_visible()


class TestARunningTask:
    def test_its_output_is_followed_as_it_grows_and_waits_while_paused(
        self, browser: Browser, elastic: Cloud, tmp_path: Path
    ) -> None:
        batch_id = submit(elastic, [command(SLOWLY.format(stop=tmp_path / "stop"))])
        with opened(browser, elastic, f"batches/{batch_id}/tasks/0") as one:
            page = one.page
            output = page.locator(".output")
            expect(page.locator(".why")).to_contain_text("worker")
            expect(output).to_contain_text("line 1 <b>")
            first = len(output.inner_text())
            page.wait_for_function(
                "length => document.querySelector('.output').textContent.length > length", arg=first
            )
            page.get_by_role("button", name="Pause").click()
            expect(page.get_by_role("status").filter(has_text="Paused")).to_be_visible()
            held = output.inner_text()
            page.wait_for_timeout(3000)
            assert output.inner_text() == held
            (tmp_path / "stop").touch()
            page.get_by_role("button", name="Pause").click()
            expect(output).to_contain_text("the end")
            *lines, last = output.inner_text().removesuffix("\n").split("\n")
            assert lines == [f"line {n} <b>" for n in range(1, len(lines) + 1)]
            assert last == "the end"
            expect(page.locator(".head .tag")).to_have_text("succeeded")
            expect(page.get_by_role("status").filter(has_text="Complete")).to_be_visible()


class TestDeadLetters:
    def test_they_are_shown_with_their_reason_and_sent_back(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        sqs = cloud.client("sqs")
        tasks = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
        dead = sqs.get_queue_url(QueueName="Task_to_process_dead")["QueueUrl"]
        batch_id = submit(cloud, ["sleep 1"])
        ended(cloud, batch_id)
        bad = {
            "v": 1,
            "job_id": f"{batch_id}:9",
            "client_id": "local",
            "batch_id": batch_id,
            "tasks": [[0, HOSTILE[0], 1]],
            "why": HOSTILE[4],
        }
        sqs.send_message(QueueUrl=tasks, MessageBody="this is no bundle")
        sqs.send_message(QueueUrl=dead, MessageBody=json.dumps(bad))
        with opened(browser, cloud, "dead-letters") as one:
            page = one.page
            expect(page.locator(".letters li")).to_have_count(2, timeout=60_000)
            mine = page.locator(".letters li", has=page.get_by_role("link", name=batch_id))
            mine.get_by_text("Show the message").click()
            expect(mine.locator("pre")).to_contain_text(HOSTILE[0])
            assert page.locator("main img").count() == 0
            assert accessibility_faults(page) == []
            page.get_by_role("button", name="Responses").click()
            expect(page.get_by_text("None. Everything that was sent")).to_be_visible()
            page.get_by_role("button", name="Tasks").click()
            page.get_by_role("button", name="Redrive all").click()
            dialog = page.get_by_role("dialog", name="Redrive the dead letters?")
            dialog.get_by_role("button", name="Redrive").click()
            expect(page.get_by_text(re.compile(r"[12] letters? moved back\."))).to_be_visible()
        eventually(lambda: drained(sqs, dead), what="dead letters are cleared away")


class TestSchedules:
    def test_they_are_listed_with_the_next_time_and_can_be_removed(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        for name, times in (("poll", {"every": "90m"}), ("nightly", {"cron": "0 3 * * *"})):
            made = {"name": name, "tasks": ["sleep 1"] * 3, **times}
            assert cloud.api("POST", "/schedules", json=made).status_code == 201
        with opened(browser, cloud, "schedules") as one:
            page = one.page
            listed = page.locator(".letters li")
            expect(listed).to_have_count(2)
            expect(listed.nth(0)).to_contain_text("nightly3 tasks, cron 0 3 * * *, UTC")
            expect(listed.nth(1)).to_contain_text("3 tasks, every 1 h 30 min")
            expect(listed.nth(1).locator("time").first).to_have_attribute("datetime", DATED)
            assert accessibility_faults(page) == []
            page.get_by_role("button", name="Remove the schedule poll").click()
            dialog = page.get_by_role("dialog", name="Remove the schedule poll?")
            dialog.get_by_role("button", name="Remove").click()
            expect(listed).to_have_count(1)
            assert cloud.api("DELETE", "/schedules/nightly").status_code == 200
            expect(page.get_by_text("None. A schedule submits")).to_be_visible(timeout=30_000)


def drained(sqs: Any, url: str) -> bool:
    """Deletes what waits on the queue; tells whether it is empty after that. The cloud is shared
    with other tests."""
    messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
    for message in messages:
        sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    counts = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return int(counts["ApproximateNumberOfMessages"]) == 0
