"""`python animoto/submit.py` against a local cloud: files and URLs in, movies out."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.animoto import photograph, video

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, name in enumerate(("astronaut.png", "coffee.png", "chelsea.png"), start=1):
        photograph(name).save(folder / f"{number}.jpg", quality=85)
    return folder


def run(cloud: Any, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "animoto" / "submit.py"), *arguments],
        cwd=cwd,
        env={**cloud.child_environ, "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_two_movies_of_files_are_uploaded_made_and_downloaded(cloud, pictures, tmp_path):
    listed = "1.jpg\n2.jpg\tduration=2\tcaption=Coffee\n---\n3.jpg\nmissing-on-the-server.jpg\n"
    (pictures / "missing-on-the-server.jpg").write_bytes(b"no picture at all")
    (pictures / "images.txt").write_text(listed)
    options = ["--preset", "square", "--duration", "1", "--name", "two", "--reuse"]
    options += ["--out", "movies"]
    ended = run(
        cloud,
        "pictures/images.txt",
        *options,
        cwd=tmp_path,
    )
    assert ended.returncode == 0, ended.stderr
    urls = ended.stdout.splitlines()
    assert len(urls) == 2
    assert all(url.startswith("http://127.0.0.1:") for url in urls)
    first, second = sorted((tmp_path / "movies").glob("*.mp4"))
    assert (video(first)["width"], video(first)["height"]) == (1080, 1080)
    assert float(video(first)["duration"]) == pytest.approx(3.0, abs=0.05)
    assert float(video(second)["duration"]) == pytest.approx(1.0, abs=0.05)
    assert "movie 1: 2 pictures, 3.0 s" in ended.stderr
    assert "movie 2: 1 pictures, 1.0 s" in ended.stderr
    assert "without pictures [2]" in ended.stderr
    # The same again makes no movie.
    ended = run(cloud, "pictures/images.txt", *options, cwd=tmp_path)
    again = [url.partition("?")[0] for url in ended.stdout.splitlines()]
    assert again == [url.partition("?")[0] for url in urls]
    assert ended.stderr.count("made before") == 2


def test_a_movie_that_cannot_be_made_is_told_and_the_exit_code_is_1(cloud, tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"<html>not a picture</html>")
    (tmp_path / "images.txt").write_text("bad.jpg\n")
    ended = run(cloud, "images.txt", "--on-error", "fail", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "movie 1: failed: " in ended.stderr


@pytest.mark.parametrize(
    ("listed", "options", "complaint"),
    [
        ("", [], "images.txt, the list names no picture"),
        ("nowhere.jpg\n", [], "images.txt, line 1: no file 'nowhere.jpg', and it is not a URL"),
        ("# a\nftp://host/a.jpg\n", [], "line 2: animoto: images[0]: URL 'ftp://host/a.jpg' must"),
        ("http://host/a.jpg\tduration=0\n", [], "line 1: animoto: Expected `float` >= 0.2"),
        ("http://host/a.jpg\n", ["--preset", "4k"], "Invalid value for '--preset'"),
        ("http://host/a.jpg\n", ["--fps", "24"], "Invalid value for '--fps'"),
        ("http://host/a.jpg\n", ["--fit-to-music"], "--fade-out and --fit-to-music need --music"),
        ("http://host/a.jpg\n", ["--music", "no.mp3"], "no such file, and it is not a URL"),
        ("http://host/a.jpg\n", ["--bogus"], "No such option '--bogus'"),
    ],
)
def test_what_cannot_work_is_one_line_and_exit_code_2(cloud, tmp_path, listed, options, complaint):
    (tmp_path / "images.txt").write_text(listed)
    ended = run(cloud, "images.txt", *options, cwd=tmp_path)
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


def test_repeated_movies_share_two_workers_without_crowding_them(
    start_cloud, pictures: Path, tmp_path: Path
):
    cloud = start_cloud(tmp_path / "cloud", "--workers", "2")
    (pictures / "images.txt").write_text("1.jpg\n2.jpg\n3.jpg\n")
    with watched(cloud) as most:
        ended = run(cloud, "images.txt", "--repeat", "8", "--out", "movies", cwd=pictures)
    assert ended.returncode == 0, ended.stderr
    made = sorted((pictures / "movies").glob("*.mp4"))
    assert len(made) == 8
    assert len({path.read_bytes() for path in made}) == 1  # the same job gives the same bytes
    batch = cloud.api("GET", "/batches").json()["batches"][0]
    rows = cloud.api("GET", f"/batches/{batch['batch_id']}/results").json()["results"]
    assert {row["attempts"] for row in rows} == {1}
    begun = [(row["worker_id"], row["started_at"]) for row in rows]
    assert len({worker for worker, _ in begun}) <= 2
    each = max(1, cores() // 2)
    for worker in {worker for worker, _ in begun}:
        assert most_at_a_time([r for r in rows if r["worker_id"] == worker]) <= each
    assert 1 <= most.encoders <= 2 * each
    assert 0 < most.worker_bytes < 150_000_000 + each * 120_000_000  # itself, and a movie


@dataclass
class Most:
    """At any moment: encoders that ran, and memory of a worker with its encoders."""

    encoders: int = 0
    worker_bytes: int = 0


@contextmanager
def watched(cloud: Any) -> Iterator[Most]:
    most, over = Most(), threading.Event()

    def look() -> None:
        workers = [pid for pid, line in cloud.processes().items() if "run.py" in line]
        while not over.wait(0.05):
            encoders = 0
            for pid in workers:
                with suppress(psutil.Error):
                    worker = psutil.Process(pid)
                    children = worker.children(recursive=True)
                    # A child that is not yet another program has the worker's own memory, which
                    # would count twice.
                    running = [child for child in children if "ffmpeg" in child.name()]
                    encoders += len(running)
                    held = sum(process.memory_info().rss for process in (worker, *running))
                    most.worker_bytes = max(most.worker_bytes, held)
            most.encoders = max(most.encoders, encoders)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield most
    finally:
        over.set()
        thread.join()


def most_at_a_time(rows: list[dict[str, Any]]) -> int:
    from datetime import datetime

    begin = [datetime.fromisoformat(row["started_at"]).timestamp() for row in rows]
    end = [at + row["duration_s"] for at, row in zip(begin, rows, strict=True)]
    slack = 0.002  # started_at is in milliseconds
    spans = list(zip(begin, end, strict=True))
    return max(sum(b <= at + slack < e - slack for b, e in spans) for at in begin)


def cores() -> int:
    return len(os.sched_getaffinity(0))
