"""Pictures of the dashboard's views: light, dark, on a phone. They are drawn where PICTURES names a
folder, and are skipped elsewhere:

    PICTURES=docs/img pytest tests/e2e/test_dashboard_pictures.py
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect

from tests.e2e.conftest import Cloud, StartCloud
from tests.e2e.dashboard import ended, go, no_sideways_scroll, opened, submit
from tests.support.browser import PHONE, browser

__all__ = ["browser"]  # a fixture

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PICTURE_MAX_BYTES = 150_000
TALLEST = 1600
"""Most CSS pixels of a picture's height."""
COLOURS = 200
"""Colours of a picture's palette: enough for a page, at a third of the size."""
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"color_scheme": "light", "size": PHONE, "device_scale_factor": 2},
}
KEPT = os.environ.get("PICTURES")
VIEWS = {
    "overview": "",
    "batches": "batches",
    "batch": "batches/{sweep}",
    "batch-failures": "batches/{photographs}",
    "task": "batches/{photographs}/tasks/4",
    "fleet": "fleet",
    "schedules": "schedules",
    "dead-letters": "dead-letters",
    "submit": "submit",
    "submit-command": "submit?way=command",
    "submit-movie": "submit?way=movie",
}


@pytest.fixture(scope="module")
def busy(
    start_cloud: StartCloud, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Cloud, dict[str, str]]:
    """A local cloud with a fleet that works, batches of several outcomes, and a dead letter; and
    the ids of two of the batches."""
    options = ("--workers", "0", "--max-capacity", "3", "--threads", "8", "--boot-s", "0.5")
    cloud = start_cloud(tmp_path_factory.mktemp("busy"), *options, TASKFLEET_LOOK_S="1")
    sqs = cloud.client("sqs")
    queue = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
    sqs.send_message(QueueUrl=queue, MessageBody='{"job": 7}')
    shell = "echo resizing photograph {}; sleep 0.{}; exit {}"
    commands = [
        {"kind": "command", "params": shell.format(n, n % 7, int(n % 9 == 4))} for n in range(40)
    ]
    photographs = submit(cloud, commands, name="resize photographs")
    ended(cloud, photographs)
    ended(cloud, submit(cloud, ["sleep 40"] * 300, name="nightly report"))
    off = submit(cloud, ["sleep 800"] * 300, name="a try")
    cloud.api("DELETE", f"/batches/{off}")
    sweep = submit(
        cloud, ["sleep 900"] * 4000, name="parameter sweep", priority="high", deadline_s=90
    )
    submit(cloud, ["sleep 10"], name="report of the sweep", after=[sweep])
    for name, when in (
        ("nightly report", {"cron": "0 3 * * *"}),
        ("look around", {"every": "15m"}),
    ):
        schedule = {"name": name.replace(" ", "-"), "tasks": ["sleep 100"], **when}
        answer = cloud.api("POST", "/schedules", json=schedule)
        assert answer.status_code == 201, answer.text
    return cloud, {"photographs": photographs, "sweep": sweep}


@pytest.mark.skipif(not KEPT, reason="PICTURES names no folder")
@pytest.mark.parametrize("look", LOOKS)
def test_every_view_is_drawn(
    browser: Browser, busy: tuple[Cloud, dict[str, str]], tmp_path: Path, look: str
) -> None:
    cloud, batches = busy
    folder = ROOT / (KEPT or "docs/img")
    folder.mkdir(parents=True, exist_ok=True)
    with opened(browser, cloud, **LOOKS[look]) as one:
        page = one.page
        busy_tile = page.get_by_role("region", name="Slots busy")
        expect(busy_tile).to_contain_text("of 24", timeout=60_000)
        for name, view in VIEWS.items():
            go(page, view.format(**batches))
            fill(page, name, tmp_path)
            page.wait_for_load_state("networkidle")
            page.wait_for_timeout(2500)  # a look of the fleet, for charts with a line
            assert no_sideways_scroll(page), name
            draw(page, folder / f"dashboard-{name}-{look}.png")


def fill(page: Page, name: str, folder: Path) -> None:
    """Put into a form what a reader would, and choose the span that a young fleet fills."""
    if name == "submit":
        page.get_by_role("textbox", name="Tasks").fill("sleep 1000\nsleep 2000\ncommand date\n")
    elif name == "fleet":
        page.get_by_role("button", name="15 min").click()
    elif name == "submit-command":
        for file in ("north.csv", "south.csv"):
            (folder / file).write_text("1,2\n")
        files = [folder / "north.csv", folder / "south.csv"]
        page.locator("#way-command input[type=file]").set_input_files(files)
        page.get_by_role("textbox", name="Command").fill("sort -n {} > {.}.sorted")
        page.get_by_label("Files to keep").fill("{.}.sorted")
    elif name == "submit-movie":
        files = [gradient(folder, n) for n in range(6)]
        page.locator("#way-movie input[type=file]").first.set_input_files(files)
        expect(page.locator(".pictures li")).to_have_count(6)


def gradient(folder: Path, number: int) -> Path:
    """A picture that can be told from the others."""
    path = folder / f"picture-{number + 1}.png"
    ramp = Image.linear_gradient("L").resize((320, 200))
    channels = [ramp.point(lambda v, k=k: (v * (k + 1) + 40 * number * k) % 256) for k in range(3)]
    Image.merge("RGB", channels).save(path)
    return path


def draw(page: Page, path: Path) -> None:
    """Write a picture of the page, of a very long one its beginning, and check its size."""
    size = page.evaluate("[innerWidth, document.documentElement.scrollHeight]")
    clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], TALLEST)}
    page.screenshot(path=path, full_page=True, clip=clip, animations="disabled")
    with Image.open(path) as picture:
        small = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(path, optimize=True)
    assert path.stat().st_size < PICTURE_MAX_BYTES, path.name
