"""However slow its servers are, a movie ends in time, and at once when stopped (D4)."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from animoto.spec import movie
from animoto.stills import Stills
from taskfleet.errors import NotFound, PermanentError, TaskStopped, TransientError
from taskfleet.fetch.budget import Budget
from taskfleet.fetch.connect import Resolve, resolve
from taskfleet.fetch.download import Downloader, DownloadLimits
from tests.support.animoto import Web, answer

LIMITS = DownloadLimits(connect_s=0.5, silence_s=0.5, total_s=0.4, tries=1, pause_s=0.01)
MANY = [f"127.0.0.{n}" for n in range(1, 31)]


@pytest.fixture
def dead_port() -> Iterator[int]:
    """A port at which every loopback address neither accepts nor refuses a connection."""
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.socket())
        server.bind(("0.0.0.0", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(4):  # the queue of connections nobody accepts is full after one or two
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", port))
        time.sleep(0.01)
        yield port


def downloader(limits: DownloadLimits, resolver: Resolve = resolve) -> Downloader:
    def uploaded(upload_id: str, _cap: int) -> bytes:
        raise NotFound(upload_id)

    return Downloader(
        allow_private=True, connections=8, limits=limits, resolver=resolver, uploaded=uploaded
    )


def test_a_name_with_many_dead_addresses_ends_at_the_total_time(
    dead_port: int, tmp_path: Path
) -> None:
    fetcher = downloader(LIMITS, lambda *_: MANY)
    begun = time.monotonic()
    with pytest.raises(TransientError, match=r"longer than 0.4 s"):
        fetcher.fetch(f"http://many:{dead_port}/", str(tmp_path / "a"))
    assert time.monotonic() - begun < 3
    fetcher.close()


def test_a_name_with_many_dead_addresses_ends_at_once_when_stopped(
    dead_port: int, tmp_path: Path
) -> None:
    fetcher = downloader(replace(LIMITS, total_s=30, connect_s=5), lambda *_: MANY)
    threading.Timer(0.1, fetcher.stop).start()
    begun = time.monotonic()
    with pytest.raises(TaskStopped):
        fetcher.fetch(f"http://many:{dead_port}/", str(tmp_path / "a"))
    assert time.monotonic() - begun < 3
    fetcher.close()


def test_a_living_address_after_a_dead_one_is_found(web: Web, tmp_path: Path) -> None:
    closed = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]  # the server listens at the last one alone
    web.add("/a", b"fine")
    fetcher = downloader(replace(LIMITS, total_s=10, silence_s=10), lambda *_: closed)
    assert fetcher.fetch(f"http://many:{web.port}/a", str(tmp_path / "a")) == 4
    fetcher.close()


# --- the whole job --------------------------------------------------------------------------


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "50000")
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.02)


def run(images: list[str], limits: DownloadLimits, folder: Path, **params: Any) -> float:
    """Returns the seconds until the pictures are there; raises as `Stills` does."""
    wanted = movie({"images": images, **params})
    fetcher = downloader(limits)
    begun = time.monotonic()
    try:
        with Stills(wanted, str(folder), fetcher, True, lambda _done, _all: None) as stills:
            list(stills)
    finally:
        fetcher.close()
    return time.monotonic() - begun


@pytest.mark.parametrize("on_error", ["skip", "placeholder"])
def test_dripping_servers_share_one_time(web: Web, tmp_path: Path, on_error: str) -> None:
    limits = replace(LIMITS, total_s=0.3, job_s=0.5)
    url = web.add("/a", drip)
    begun = time.monotonic()
    with pytest.raises(PermanentError, match=r"all files of the movie took longer than 0.5 s"):
        run([url] * 300, limits, tmp_path, on_error=on_error)
    assert time.monotonic() - begun < 3


def test_pauses_before_another_try_count(web: Web, tmp_path: Path) -> None:
    limits = replace(LIMITS, tries=3, silence_s=5, job_s=0.3)
    later = {"Retry-After": "5"}
    url = web.add("/a", lambda handler: answer(handler, status=503, headers=later))
    fetcher = downloader(limits)
    begun = time.monotonic()
    with pytest.raises(PermanentError, match="took longer than"):
        fetcher.fetch(url, str(tmp_path / "a"))
    assert time.monotonic() - begun < 3
    fetcher.close()


class Clock:
    """Stands for the module `time`."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


def test_time_in_which_nothing_is_fetched_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """A movie that takes long to encode fetches its last pictures late."""
    clock = Clock()
    monkeypatch.setattr("taskfleet.fetch.budget.time", clock)
    budget = Budget(1000, 10)
    for _ in range(3):
        with budget.running(), budget.running():  # two at a time count once
            clock.now += 3
        clock.now += 1_000
    assert budget.left_s() == 1
    with budget.running():
        clock.now += 1
        with pytest.raises(PermanentError, match="longer than 10 s"):
            budget.check_time()
    with pytest.raises(PermanentError, match="longer than 10 s"), budget.running():
        pass
