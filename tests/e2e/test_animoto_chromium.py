"""Movies in a real browser: headless Chromium plays and seeks them.

One page shows all the movies at the same time, since playing them takes as long as they last.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote

import pytest

from animoto import animoto, kind
from taskfleet.settings import Settings
from tests.support.animoto import Context, Web, answer, plain, web_server
from tests.support.tools import needs

pytestmark = pytest.mark.e2e

COLOURS = [(200, 40, 40), (40, 200, 40), (40, 40, 200), (220, 220, 60), (30, 30, 30)]
SLOT_S = 1.4
ORDER = [3, 0, 4, 2, 1]
"""The pictures in the order in which they are sought."""
SEEKS = [{"from": n * SLOT_S, "at": (n + 0.4) * SLOT_S} for n in ORDER]
"""Where to seek, and where that picture begins."""
MOVIES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "cut": {"transition": "cut"},
    "good-30": {"quality": "good", "fps": 30},
    "kenburns": {"motion": "kenburns"},
}
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
# `seeked` tells that the player has decoded the frame, not that the element shows it: Chromium
# hands the frame over to the thread that draws, and a busy machine draws the frame before it for a
# while yet. So a seek is over when the frame that the element shows, which has its time with it, is
# one of the picture that was sought.
PAGE = """<!doctype html><meta charset="utf-8">
<script>
const event = (video, name) => new Promise((happened, failed) => {
  video.addEventListener(name, happened, {once: true});
  video.addEventListener("error", () => failed(video.error.message), {once: true});
});
const colour = frame => {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  context.drawImage(frame, 0, 0, 64, 36);
  return [...context.getImageData(32, 18, 1, 1).data].slice(0, 3);
};
const shown = async (video, from, at) => {
  const deadline = performance.now() + 30000;
  for (;;) {
    const frame = new VideoFrame(video), time = frame.timestamp / 1e6;
    const seen = colour(frame);
    frame.close();
    if (from - 0.001 <= time && time <= at + 0.001) return seen;
    if (performance.now() > deadline) throw `at ${at} s it shows the frame of ${time} s`;
    await new Promise(soon => setTimeout(soon, 20));
  }
};
const watch = async (video, report) => {
  await event(video, "loadeddata");
  report.duration = video.duration;
  report.size = [video.videoWidth, video.videoHeight];
  for (const {from, at} of SEEKS) {
    const sought = event(video, "seeked");
    video.currentTime = at;
    await sought;
    report.seeks.push(await shown(video, from, at));
  }
  const back = event(video, "seeked");
  video.currentTime = 0;
  await back;
  const ended = event(video, "ended");
  await video.play();
  await ended;
  report.ended = video.currentTime;
  const quality = video.getVideoPlaybackQuality();
  report.frames = quality.totalVideoFrames;
  report.corrupted = quality.corruptedVideoFrames;
};
const reports = {};
Promise.all(MOVIES.map(name => {
  const video = document.createElement("video"), report = reports[name] = {seeks: []};
  const watched = watch(video, report).catch(error => { report.error = String(error); });
  Object.assign(video, {muted: true, preload: "auto", src: `/${name}.mp4`});
  document.documentElement.append(video);
  return watched;
})).then(() => fetch("/done?" + encodeURIComponent(JSON.stringify(reports))));
</script>"""


def ranged(movie: bytes) -> Callable[[BaseHTTPRequestHandler], None]:
    """A page that answers as a store does, requests for parts of the file among it."""

    def page(handler: BaseHTTPRequestHandler) -> None:
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
def chromium(url: str, profile: str) -> Iterator[None]:
    browser = subprocess.Popen(
        [needs("chromium"), *FLAGS, f"--user-data-dir={profile}", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


def watched(web: Web, movies: dict[str, bytes], profile: str) -> dict[str, dict[str, Any]]:
    """What a page in Chromium saw of each movie: it seeks, then plays all of it."""
    arrived: list[str] = []
    done = threading.Event()

    def report(handler: BaseHTTPRequestHandler) -> None:
        arrived.append(unquote(handler.path.partition("?")[2]))
        answer(handler)
        done.set()

    for name, movie in movies.items():
        web.add(f"/{name}.mp4", ranged(movie))
    page = PAGE.replace("SEEKS", json.dumps(SEEKS)).replace("MOVIES", json.dumps(list(movies)))
    web.add("/page", lambda h: answer(h, page.encode(), headers={"Content-Type": "text/html"}))
    web.add("/done", report)
    with chromium(web.url("/page"), profile):
        assert done.wait(100), "the page reported nothing within 100 s"
    found: dict[str, dict[str, Any]] = json.loads(arrived[0])
    return found


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What the page saw, by movie."""
    needs("chromium")
    with pytest.MonkeyPatch.context() as patch, web_server() as web:
        patch.setattr(kind, "process_settings", lambda: Settings(allow_private_urls=True))
        images = [web.add(f"/{n}", plain(colour)) for n, colour in enumerate(COLOURS)]

        def made(params: dict[str, Any]) -> bytes:
            context = Context()
            whole = {"images": images, "duration": SLOT_S, **params}
            result = animoto.run(animoto.parse(whole), context)
            return context.store.get(result["key"])

        movies = {name: made(params) for name, params in MOVIES.items()}
        return watched(web, movies, str(tmp_path_factory.mktemp("profile")))


@pytest.mark.timeout(240)  # the first one makes and watches all of them
@pytest.mark.parametrize("name", MOVIES)
def test_chromium_plays_and_seeks(reports: dict[str, dict[str, Any]], name: str) -> None:
    report = reports[name]
    assert "error" not in report, report["error"]
    assert report["size"] == [1280, 720]
    assert report["duration"] == pytest.approx(7.0, abs=0.041)
    assert report["ended"] == pytest.approx(7.0, abs=0.041)
    assert report["corrupted"] == 0
    for seen, number in zip(report["seeks"], ORDER, strict=True):
        assert all(abs(a - b) <= 8 for a, b in zip(seen, COLOURS[number], strict=True))
