"""Shared parts of the tests of movies: a task context without a worker, pictures, a web server on
loopback that can misbehave, and functions that read finished movies."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import skimage
from PIL import Image
from skimage.metrics import structural_similarity

from animoto import spec
from taskfleet.errors import TaskStopped
from taskfleet.memory import MemoryStore
from tests.support.tools import needs

PHOTOGRAPHS = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg")


@dataclass
class Context:
    """A `TaskContext` that the test stops itself; `seen` collects the progress reported."""

    store: MemoryStore = field(default_factory=MemoryStore)
    batch_id: str = "b1"
    index: int = 0
    attempt: int = 1
    client_id: str = "tests"
    seen: list[tuple[int, int]] = field(default_factory=list)
    on_progress: Callable[[int, int], None] = lambda done, total: None

    def __post_init__(self) -> None:
        self._actions: list[Callable[[], None]] = []
        self._stopped = threading.Event()
        self._lock = threading.Lock()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def stop(self) -> None:
        with self._lock:
            self._stopped.set()
            actions, self._actions = self._actions, []
        for action in actions:
            action()

    def check_stopped(self) -> None:
        if self.stopped:
            raise TaskStopped("stopped by the test")

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            if not self.stopped:
                self._actions.append(action)

                def take_back() -> None:
                    with self._lock, contextlib.suppress(ValueError):
                        self._actions.remove(action)

                return take_back
        action()
        return lambda: None

    def sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            self.check_stopped()

    def progress(self, done: int, total: int) -> None:
        self.seen.append((done, total))
        self.on_progress(done, total)


# --- pictures -------------------------------------------------------------------------------


def photograph(name: str) -> Image.Image:
    """Returns one of the photographs that scikit-image ships, by its file name."""
    return Image.open(Path(skimage.__file__).parent / "data" / name).convert("RGB")


@functools.cache
def photograph_jpeg(name: str) -> bytes:
    """The file of a photograph, encoded once for all tests."""
    return jpeg(photograph(name))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, "JPEG", **{"quality": 92, **options})
    return out.getvalue()


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def plain(colour: str | tuple[int, int, int], size: tuple[int, int] = (320, 180)) -> bytes:
    return jpeg(Image.new("RGB", size, colour))


# --- web server -----------------------------------------------------------------------------

Page = bytes | Callable[[BaseHTTPRequestHandler], None]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignores broken connections, which tests cause on purpose; prints all others."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Web:
    """Serves `pages` by path; a page that is a function writes its own answer. `asked` counts
    requests by path, `connections` counts accepted sockets."""

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.asked: dict[str, int] = {}
        self.connections = 0
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                web.connections += 1
                super().setup()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                web.asked[path] = web.asked.get(path, 0) + 1
                page = web.pages.get(path)
                if callable(page):
                    with contextlib.suppress(OSError):
                        page(self)
                elif page is None:
                    answer(self, b"no such page", status=404)
                else:
                    answer(self, page)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = _Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self._thread = threading.Thread(target=self.server.serve_forever, args=(0.005,))
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def add(self, path: str, page: Page) -> str:
        self.pages[path] = page
        return self.url(path)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self._thread.join()


def answer(
    handler: BaseHTTPRequestHandler,
    body: bytes = b"",
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(body)


def redirect(to: str) -> Callable[[BaseHTTPRequestHandler], None]:
    return lambda handler: answer(handler, status=302, headers={"Location": to})


@contextlib.contextmanager
def web_server() -> Iterator[Web]:
    web = Web()
    try:
        yield web
    finally:
        web.close()


# --- movies ------------------------------------------------------------------------


SMALL = (320, 180)


def small_frames(patch: pytest.MonkeyPatch, size: tuple[int, int] = SMALL) -> None:
    """Give movies of the default preset fewer pixels: for tests whose meaning does not hang on
    how many there are. Nearly all that a movie costs, it costs for each pixel."""
    patch.setitem(spec.PRESETS, "720p", size)


def probe(path: Path | str) -> dict[str, Any]:
    """Returns what ffprobe reports about the file's streams and container, asked once per file."""
    return _probe(str(path), Path(path).stat().st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _probe(path: str, _mtime_ns: int) -> dict[str, Any]:
    done = subprocess.run(
        [needs("ffprobe"), "-v", "error", "-show_streams", "-show_format", "-of", "json", path],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return json.loads(done.stdout)


def video(path: Path | str) -> dict[str, Any]:
    (found,) = (s for s in probe(path)["streams"] if s["codec_type"] == "video")
    return found


def frames(path: Path | str, fps: int) -> np.ndarray[Any, Any]:
    """Returns the Y plane (video range) of every frame of the movie played at a constant `fps`, as
    an array (frame, row, column): what a player shows at n / fps seconds."""
    size = video(path)
    width, height = size["width"], size["height"]
    exe = imageio_ffmpeg.get_ffmpeg_exe()
    arguments = ["-v", "error", "-i", str(path), "-vf", f"fps={fps}", "-f", "rawvideo"]
    done = subprocess.run(
        [exe, *arguments, "-pix_fmt", "yuv420p", "-"], check=True, capture_output=True, timeout=100
    )
    raw = np.frombuffer(done.stdout, np.uint8).reshape(-1, height * width * 3 // 2)
    return raw[:, : height * width].reshape(-1, height, width)


def similarity(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """Returns the structural similarity (SSIM) of two images; 1 if they are equal."""
    return float(structural_similarity(a, b, data_range=255))


def boxes(path: Path | str) -> list[str]:
    """Returns the types of the top-level boxes of an MP4 file, in order."""
    data = Path(path).read_bytes()
    found, at = [], 0
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        found.append(data[at + 4 : at + 8].decode("ascii"))
        at += size
    return found
