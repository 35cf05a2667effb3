"""Movies in a real browser: headless Chromium plays and seeks them. Needs `chromium` on the path
(Debian's package of that name)."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from urllib.parse import unquote

import pytest

from animoto import animoto, kind
from taskfleet.settings import Settings
from tests.support.animoto import Context, Web, answer, plain, web_server

pytestmark = pytest.mark.e2e

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 60), (30, 30, 30)]
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
]
PAGE = """<!doctype html><meta charset="utf-8">
<video id="video" muted preload="auto" src="/movie.mp4"></video>
<script>
const video = document.getElementById("video"), report = {seeks: []};
const event = name => new Promise((happened, failed) => {
  video.addEventListener(name, happened, {once: true});
  video.addEventListener("error", () => failed(video.error.message), {once: true});
});
const colour = () => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0, 64, 36);
  return [...context.getImageData(32, 18, 1, 1).data].slice(0, 3);
};
const watch = async () => {
  await event("loadeddata");
  report.duration = video.duration;
  report.size = [video.videoWidth, video.videoHeight];
  for (const at of SEEKS) {
    const sought = event("seeked");
    video.currentTime = at;
    await sought;
    report.seeks.push(colour());
  }
  const back = event("seeked");
  video.currentTime = 0;
  await back;
  const ended = event("ended");
  await video.play();
  await ended;
  report.ended = video.currentTime;
  const quality = video.getVideoPlaybackQuality();
  report.frames = quality.totalVideoFrames;
  report.corrupted = quality.corruptedVideoFrames;
};
watch().catch(error => { report.error = String(error); })
  .finally(() => fetch("/done?" + encodeURIComponent(JSON.stringify(report))));
</script>"""


def ranged(movie: bytes):
    """Answers as a store does, parts of the file among it."""

    def page(handler):
        headers = {"Content-Type": "video/mp4", "Accept-Ranges": "bytes"}
        span = re.fullmatch(r"bytes=(\d+)-(\d*)", handler.headers.get("Range", ""))
        if span is None:
            answer(handler, movie, headers=headers)
            return
        first, last = int(span[1]), int(span[2] or len(movie) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(movie)}"
        answer(handler, movie[first : last + 1], status=206, headers=headers)

    return page


@contextlib.contextmanager
def chromium(url: str, profile: str):
    exe = shutil.which("chromium")
    assert exe, "chromium is not installed: apt-get install chromium"
    browser = subprocess.Popen(
        [exe, *FLAGS, f"--user-data-dir={profile}", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


def watched(web: Web, movie: bytes, profile: str, seeks: list[float]) -> dict:
    """What a page in Chromium saw of the movie: it seeks, then plays all of it."""
    reports: list[str] = []
    arrived = threading.Event()

    def done(handler):
        reports.append(unquote(handler.path.partition("?")[2]))
        answer(handler)
        arrived.set()

    page = PAGE.replace("SEEKS", json.dumps(seeks)).encode()
    web.add("/movie.mp4", ranged(movie))
    web.add("/page", lambda h: answer(h, page, headers={"Content-Type": "text/html"}))
    web.add("/done", done)
    with chromium(web.url("/page"), profile):
        assert arrived.wait(90), "the page reported nothing within 90 s"
    return json.loads(reports[0])


@pytest.mark.parametrize(
    "params",
    [{}, {"transition": "cut"}, {"quality": "good", "fps": 30}, {"motion": "kenburns"}],
    ids=lambda params: "-".join(map(str, params.values())) or "defaults",
)
def test_chromium_plays_and_seeks(monkeypatch, tmp_path, params):
    monkeypatch.setattr(kind, "process_settings", lambda: Settings(allow_private_urls=True))
    context = Context()
    slot_s = 1.4
    with web_server() as web:
        images = [web.add(f"/{n}", plain(colour)) for n, colour in enumerate(COLOURS)]
        whole = {"images": images, "duration": slot_s, **params}
        result = animoto.run(animoto.parse(whole), context)
        order = [3, 0, 4, 2, 1]
        report = watched(
            web,
            context.store.get(result["key"]),
            str(tmp_path / "profile"),
            [(n + 0.4) * slot_s for n in order],
        )
    assert "error" not in report
    assert report["size"] == [1280, 720]
    assert report["duration"] == pytest.approx(7.0, abs=0.041)
    assert report["ended"] == pytest.approx(7.0, abs=0.041)
    assert report["corrupted"] == 0
    for seen, number in zip(report["seeks"], order, strict=True):
        assert all(abs(a - b) <= 8 for a, b in zip(seen, COLOURS[number], strict=True))
