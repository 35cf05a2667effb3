"""Submitting in a browser: tasks, a command over files, a movie; with the mouse, and by keyboard
alone."""

from __future__ import annotations

import hashlib
import io
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from taskfleet.cli import template
from tests.e2e.conftest import Cloud
from tests.e2e.dashboard import HOSTILE, ended, opened, submit
from tests.support.browser import Watched, accessibility_faults, browser

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.e2e

COLOURS = ((200, 40, 40), (40, 160, 60), (40, 60, 200))


@pytest.fixture
def form(browser: Browser, cloud: Cloud) -> Iterator[Watched]:
    with opened(browser, cloud, "submit") as one:
        yield one


def press(page: Page) -> str:
    """Press the button and wait for the view of the new batch. Returns the batch's id."""
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(r"#/batches/[0-9a-z]{26}$"))
    return page.url.rpartition("/")[2]


def rows(cloud: Cloud, batch_id: str) -> list[dict[str, Any]]:
    ended(cloud, batch_id)
    found: list[dict[str, Any]] = cloud.api("GET", f"/batches/{batch_id}/results").json()["results"]
    return found


def picture(folder: Path, name: str, colour: tuple[int, int, int]) -> Path:
    path = folder / name
    content = io.BytesIO()
    Image.new("RGB", (320, 180), colour).save(content, "PNG")
    path.write_bytes(content.getvalue())
    return path


class TestTasks:
    def test_what_is_pasted_runs_with_its_options(self, form: Watched, cloud: Cloud) -> None:
        page = form.page
        page.get_by_role("textbox", name="Tasks").fill("sleep 1\n# none\n\nsleep 2\n")
        expect(page.get_by_text("2 tasks")).to_be_visible()
        page.get_by_label("Name of the batch").fill(HOSTILE[0])
        page.get_by_label("Most attempts").fill("3")
        page.get_by_label("Priority").select_option("high")
        before = submit(cloud, ["sleep 1"], name="before")
        page.get_by_label("After these batches").fill(before)
        batch_id = press(page)
        expect(page.get_by_text("tries 3, priority high")).to_be_visible()
        batch = ended(cloud, batch_id)
        assert (batch["name"], batch["total"], batch["succeeded"]) == (HOSTILE[0], 2, 2)
        wanted = {"max_attempts": 3, "priority": "high", "after": [before]}
        assert batch["options"] == wanted

    def test_a_small_file_is_shown_and_a_large_one_is_sent(
        self, form: Watched, cloud: Cloud, tmp_path: Path
    ) -> None:
        page = form.page
        small, large = tmp_path / "small.txt", tmp_path / "large.txt"
        small.write_text("sleep 1\nsleep 2\nsleep 3\n")
        large.write_text("sleep 0\n" + f"# {'x' * 98}\n" * 11_000)
        choose = page.locator("#way-tasks input[type=file]")
        choose.set_input_files(small)
        expect(page.get_by_role("textbox", name="Tasks")).to_have_value(small.read_text())
        expect(page.get_by_text("3 tasks")).to_be_visible()
        choose.set_input_files(large)
        expect(page.get_by_text("large.txt, 1.1 MB")).to_be_visible()
        assert ended(cloud, press(page))["total"] == 1

    def test_a_dropped_file_is_read(self, form: Watched) -> None:
        page = form.page
        transfer = page.evaluate_handle(
            """() => { const transfer = new DataTransfer();
            transfer.items.add(new File(["sleep 7"], "a.txt", {type: "text/plain"}));
            return transfer; }"""
        )
        page.dispatch_event("textarea", "drop", {"dataTransfer": transfer})
        expect(page.get_by_role("textbox", name="Tasks")).to_have_value("sleep 7")

    def test_faults_are_told_where_they_are(self, form: Watched) -> None:
        page = form.page
        fault = page.get_by_role("alert")
        submit = page.get_by_role("button", name="Submit", exact=True)
        submit.click()
        expect(fault).to_contain_text("There is no task")
        page.get_by_role("textbox", name="Tasks").fill("sleep 1\nsleep -1")
        page.get_by_label("Time-out").fill("-1")
        submit.click()
        expect(fault).to_contain_text("Time-out of a task, in seconds:")
        page.get_by_label("Time-out").fill("")
        form.expect("status of 422")
        submit.click()
        expect(fault).to_contain_text("task 1")
        assert accessibility_faults(page) == []

    def test_a_quote_is_shown_and_nothing_is_submitted(self, form: Watched, cloud: Cloud) -> None:
        page = form.page
        before = cloud.api("GET", "/batches?limit=1").json()["batches"]
        page.get_by_role("textbox", name="Tasks").fill("sleep 1000\nsleep 1000")
        page.get_by_role("button", name="Quote").click()
        shown = page.get_by_role("region", name="Quote")
        expect(shown).to_contain_text("in nine of ten cases for 2 tasks")
        expect(shown).to_contain_text("sleep: 2 tasks of 1 s on average, as the kind says")
        assert accessibility_faults(page) == []
        assert cloud.api("GET", "/batches?limit=1").json()["batches"] == before
        page.get_by_role("textbox", name="Tasks").fill("sleep 1")
        expect(shown).to_have_count(0)

    def test_a_lost_answer_makes_no_second_batch(self, form: Watched, cloud: Cloud) -> None:
        page = form.page
        form.expect("net::ERR_FAILED")
        sent: list[str] = []

        def lose(route: Any) -> None:
            if route.request.method != "POST":
                route.continue_()
                return
            sent.append(route.fetch().json()["batch_id"])
            route.abort()

        page.route(re.compile(r"/batches\?"), lose)
        page.get_by_role("textbox", name="Tasks").fill("sleep 1")
        page.get_by_role("button", name="Submit", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("does not answer")
        page.unroute(re.compile(r"/batches\?"))
        assert [press(page)] == sent

    def test_by_keyboard_alone_from_the_bar_to_the_cancelled_batch(
        self, browser: Browser, cloud: Cloud
    ) -> None:
        with opened(browser, cloud) as one:
            page = one.page

            def tab_to(name: str) -> None:
                """Press Tab until the focus is on what has this name."""
                for _ in range(60):
                    page.keyboard.press("Tab")
                    told = page.evaluate(
                        "(e => e.getAttribute('aria-label') || e.textContent ||"
                        " e.labels?.[0]?.firstChild.textContent)(document.activeElement)"
                    )
                    if told == name:
                        return
                raise AssertionError(f"no way to {name!r} by Tab")

            tab_to("Submit")
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_have_text("Submit")
            tab_to("Tasks")
            tab_to("Tasks")  # the tab is followed by the text
            page.keyboard.type("sleep 15000")
            tab_to("Name of the batch")
            page.keyboard.type("by keys")
            tab_to("Submit")
            page.keyboard.press("Enter")
            page.wait_for_url(re.compile(r"#/batches/[0-9a-z]{26}$"))
            batch_id = page.url.rpartition("/")[2]
            tab_to("Batches")
            page.keyboard.press("Enter")
            expect(page.get_by_role("link", name="by keys").first).to_be_visible()
            tab_to("Cancel by keys")
            page.keyboard.press("Enter")
            dialog = page.get_by_role("dialog", name="Cancel by keys?")
            expect(dialog).to_be_visible()
            page.keyboard.press("Escape")
            expect(dialog).to_have_count(0)
            assert page.evaluate("document.activeElement.ariaLabel") == "Cancel by keys"
            page.keyboard.press("Enter")
            tab_to("Cancel the batch")
            page.keyboard.press("Enter")
            row = page.get_by_role("row", name=re.compile("by keys"))
            expect(row.get_by_text("cancelled", exact=True)).to_be_visible()
            assert ended(cloud, batch_id)["status"] == "CANCELLED"


class TestCommand:
    def test_it_runs_once_for_each_file(
        self, browser: Browser, cloud: Cloud, tmp_path: Path
    ) -> None:
        names = ["a b.txt", "it's.txt", "$(touch owned).txt"]
        for n, name in enumerate(names):
            (tmp_path / name).write_text("x" * (n + 1))
        with opened(browser, cloud, "submit?way=command") as one:
            page = one.page
            page.locator("#way-command input[type=file]").set_input_files(
                [tmp_path / name for name in names]
            )
            page.get_by_role("textbox", name="Command").fill("cat {} > {.}.out; wc -c")
            expect(page.locator(".preview")).to_contain_text("and 2 more commands")
            page.get_by_label("Files to keep").fill("*.out")
            found = rows(cloud, press(page))
        assert [row["status"] for row in found] == ["SUCCEEDED"] * 3, found
        assert [list(row["task"]["params"]["inputs"]) for row in found] == [[n] for n in names]
        outputs = [row["result"]["outputs"] for row in found]
        assert all(len(one) == 1 for one in outputs), outputs

    def test_it_runs_once_with_all_files(
        self, browser: Browser, cloud: Cloud, tmp_path: Path
    ) -> None:
        for name in ("one.txt", "two.txt"):
            (tmp_path / name).write_text(name)
        with opened(browser, cloud, "submit?way=command") as one:
            page = one.page
            page.locator("#way-command input[type=file]").set_input_files(
                [tmp_path / "one.txt", tmp_path / "two.txt"]
            )
            page.get_by_role("textbox", name="Command").fill("cat *.txt")
            page.get_by_label("once, with all files").check()
            (row,) = rows(cloud, press(page))
        assert row["result"]["stdout"] == "one.txttwo.txt"

    def test_templates_are_those_of_the_command_line(self, browser: Browser, cloud: Cloud) -> None:
        """The page has the rules in JavaScript, `taskfleet map` in Python: the same cases."""
        items = ["f.txt", "d/f.tar.gz", ".hidden", "a b", "it's", "d/", "..x", "-n", "", "é.png"]
        texts = ["x", "x {}", "x {.} {/} {/.} {//}", "x '{}'", 'x "{}"', "x `{}`", "x # {}"]
        texts += ["x $(y {})", 'x "$(y {})"', "x \\{}", "x <<A {}", "x <<< {}", "(x {})", "x\\\\{}"]
        cases = [(text, item) for text in texts for item in items]
        with opened(browser, cloud, "submit?way=command") as one:
            made = one.page.evaluate(
                """async cases => {
                  const src = document.querySelector("script[type=module]").src;
                  const {command, pattern} = await import(new URL("lib/template.js", src));
                  return cases.map(([text, item]) => {
                    try { return [command(text, item), pattern(text, item)]; }
                    catch { return [null, pattern(text, item)]; }
                  });
                }""",
                cases,
            )

        def ours(text: str, item: str) -> str | None:
            try:
                return template.command(text, item)
            except template.QuotedPlaceholder:
                return None

        for (text, item), (command, pattern) in zip(cases, made, strict=True):
            assert command == ours(text, item), (text, item)
            assert pattern == template.pattern(text, item), (text, item)
            if command is not None and text == "x {}":
                assert shlex.split(command) == ["x", item]


class TestMovie:
    def test_pictures_are_ordered_and_become_a_movie(
        self, browser: Browser, cloud: Cloud, tmp_path: Path
    ) -> None:
        names = ["red.png", "green.png", "blue.png"]
        paths = [picture(tmp_path, n, c) for n, c in zip(names, COLOURS, strict=True)]
        with opened(browser, cloud, "submit?way=movie") as one:
            page = one.page
            page.locator("#way-movie input[type=file]").first.set_input_files(
                [*paths, picture(tmp_path, "gone.png", (0, 0, 0))]
            )
            cards = page.locator(".pictures li")
            expect(cards).to_have_count(4)
            expect(page.get_by_text("4 pictures, a movie of 9.6 s")).to_be_visible()

            def order() -> list[str]:
                return page.locator(".pictures .caption").all_inner_texts()

            page.get_by_role("button", name="Remove gone.png").click()
            assert order() == names
            cards.nth(2).drag_to(cards.nth(0))
            assert order() == ["blue.png", "red.png", "green.png"]
            page.get_by_role("button", name="Move later: red.png").click()
            assert order() == ["blue.png", "green.png", "red.png"]
            page.get_by_role("button", name="blue.png, 1 of 3").focus()
            page.keyboard.press("ArrowRight")
            expect(page.locator("#live")).to_have_text("blue.png is now 2 of 3")
            page.keyboard.press("End")
            assert order() == ["green.png", "red.png", "blue.png"]
            assert page.evaluate("document.activeElement.ariaLabel") == "blue.png, 3 of 3"
            assert accessibility_faults(page) == []
            page.get_by_label("Seconds a picture").fill("0.4")
            page.get_by_label("Between pictures").select_option("cut")
            (row,) = rows(cloud, press(page))
        assert row["status"] == "SUCCEEDED", row
        assert row["result"]["pictures"] == 3
        params = row["task"]["params"]
        assert (params["transition"], params["duration"]) == ("cut", 0.4)
        ids = [image.removeprefix("upload:") for image in params["images"]]
        assert ids == [sha256(paths[n]) for n in (1, 0, 2)]

    def test_what_is_no_picture_is_left_out(
        self, browser: Browser, cloud: Cloud, tmp_path: Path
    ) -> None:
        (tmp_path / "notes.txt").write_text("no picture")
        with opened(browser, cloud, "submit?way=movie") as one:
            page = one.page
            choose = page.locator("#way-movie input[type=file]").first
            choose.set_input_files([tmp_path / "notes.txt", picture(tmp_path, "a.png", (1, 2, 3))])
            expect(page.get_by_role("alert")).to_contain_text("1 file left out")
            expect(page.locator(".pictures li")).to_have_count(1)
            page.get_by_label("Seconds a picture").fill("99")
            page.get_by_role("button", name="Submit", exact=True).click()
            expect(page.get_by_role("alert")).to_contain_text("a number from 0.2 to 60")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
