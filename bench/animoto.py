"""Animoto compared with other ways to make the same movie: `python -m bench.animoto [--quick]`.

60 mixed photographs of 2.4 s each become a movie of 1280x720 with 25 frames a second. The ways take
turns, so that a noisy machine slows all of them alike. Animoto also runs with each download 75 ms
late, and with 300 pictures.

Needs ffprobe. moviepy pins an old Pillow, so it lives in another environment
(`--moviepy-python ENV/bin/python`); without one it is left out.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench import animoto_ways, report
from bench.animoto_ways import SIZE, SLOT_S, ffmpeg_exe
from bench.harness import BenchFailed
from bench.photographs import DISTINCT, make_photographs
from bench.picture_server import serve_pictures
from bench.report import Row
from localcloud.options import ROOT

PICTURES = 60
MANY = 300
LATENCY_S = 0.075
"""Delay of each download from afar, in seconds."""
OURS = "animoto"
WAYS = (OURS, "animoto from afar", "animoto of 300", "sequence", "xfade", "moviepy")
ONCE = {"moviepy"}
"""Ways that run in the first round only, because they take minutes."""


@dataclass(frozen=True)
class Way:
    """One way to make a movie: its photographs, and `command`, which returns the command line that
    makes the movie at a path."""

    photos: Sequence[Path]
    command: Callable[[Sequence[Path], Path], list[str]]


def main() -> None:
    parser = report.parser("animoto", __doc__)
    parser.add_argument(
        "--only", choices=WAYS, action="append", help="measure this way; repeatable (all ways)"
    )
    parser.add_argument("--moviepy-python", help="Python of an environment with moviepy")
    parser.add_argument("--dir", type=Path, help="keep photographs and movies here")
    options, given = report.parsed(parser)
    python = given.moviepy_python or (
        sys.executable if importlib.util.find_spec("moviepy") else None
    )
    if python and shutil.which(python) is None:
        parser.error(f"--moviepy-python {python}: no such program")
    with tempfile.TemporaryDirectory(prefix="bench-animoto-") as temporary:
        folder = (given.dir or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        all_photos = make_photographs(folder)
        photos = all_photos[: options.pick(PICTURES, 6)]
        many = [all_photos[number % DISTINCT] for number in range(options.pick(MANY, 12))]

        def read(name: str) -> bytes:
            return (folder / name).read_bytes()

        with serve_pictures(read, 0.0) as near, serve_pictures(read, LATENCY_S) as far:
            ways = {
                OURS: Way(photos, partial(animoto_ways.taskfleet, near)),
                "animoto from afar": Way(photos, partial(animoto_ways.taskfleet, far)),
                "animoto of 300": Way(many, partial(animoto_ways.taskfleet, near)),
                "sequence": Way(photos, animoto_ways.sequence),
                "xfade": Way(photos, animoto_ways.xfade),
            }
            if python:
                ways["moviepy"] = Way(photos, partial(animoto_ways.moviepy, python))
            else:
                print("moviepy is left out: it is not installed (--moviepy-python)")
            ways = {name: way for name, way in ways.items() if name in (given.only or WAYS)}
            figures = compare(ways, folder, options.repeats)
    rows = [row(name, len(ways[name].photos), figures) for name in ways]
    report.publish(options, "animoto", "The same movie, made in different ways", rows)


@dataclass
class Figures:
    """The figures of one way. The lists have one item for each run; the rest is of the first run:
    the movie's size in MB, its similarity to the photographs and its length in seconds."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    ssim: float = 0.0
    seconds: float = 0.0


def row(name: str, pictures: int, figures: Mapping[str, Figures]) -> Row:
    """The medians of one way. "CPU to ours" is the median of the ratios within each round."""
    own = figures[name]
    ours = figures.get(OURS, own)
    # A way that runs once has figures of the first round only.
    ratios = [cpu_s / ours_s for cpu_s, ours_s in zip(own.cpu_s, ours.cpu_s, strict=False)]
    return {
        "way": name,
        "pictures": pictures,
        "CPU s": statistics.median(own.cpu_s),
        "CPU to ours": statistics.median(ratios),
        "wall s": statistics.median(own.wall_s),
        "peak MB": max(own.peak_mb),
        "MB": own.megabytes,
        "SSIM": own.ssim,
        "length s": own.seconds,
        "runs": len(own.cpu_s),
    }


def compare(ways: Mapping[str, Way], folder: Path, rounds: int) -> dict[str, Figures]:
    """Run each way once in each round."""
    results = {name: Figures() for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            if number and name in ONCE:
                continue
            out = folder / f"{name.replace(' ', '-')}.mp4"
            figures = results[name]
            measure(way.command(way.photos, out), figures)
            print(
                f"round {number + 1}, {name}: {figures.cpu_s[-1]:.1f} CPU s, "
                f"{figures.wall_s[-1]:.1f} s",
                flush=True,
            )
            if number == 0:
                figures.megabytes = out.stat().st_size / 1e6
                figures.ssim = similarity(way.photos, out)
                figures.seconds = length_s(out)
    return results


# --- measuring ----------------------------------------------------------------------------


def measure(command: Sequence[str], figures: Figures) -> None:
    """Run a command and append its time and peak memory. Raises BenchFailed if it fails."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=ROOT)
    peak, ended = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(0.05):
            peak = max(peak, tree_bytes(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    ended.set()
    watcher.join()
    if process.returncode:
        raise BenchFailed(f"{command[0]} ended with {process.returncode}")
    figures.wall_s.append(time.monotonic() - started)
    figures.cpu_s.append(usage.ru_utime + usage.ru_stime)
    figures.peak_mb.append(peak / 1e6)


def tree_bytes(root: int) -> int:
    """The resident memory of a process and all its descendants, in bytes."""
    total, pids = 0, [root]
    while pids:
        pid = pids.pop()
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for thread in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (thread / "children").read_text().split())
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE")


def similarity(photos: Sequence[Path], movie: Path) -> float:
    """Mean SSIM of five frames, each from the middle of a slot, to their photographs, which are
    decoded in full and scaled with Lanczos. Compares the picture only, since backgrounds differ."""
    import numpy as np
    from PIL import Image, ImageOps
    from skimage.metrics import structural_similarity

    values = []
    for number in range(0, len(photos), max(1, len(photos) // 5)):
        seek = ["-ss", f"{(number + 0.4) * SLOT_S:.3f}", "-i", str(movie), "-frames:v", "1"]
        # A movie from an image sequence keeps the full range of JPEG.
        seek += ["-vf", "scale=out_range=tv"]
        raw = subprocess.run(
            [ffmpeg_exe(), "-v", "error", *seek, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"],
            check=True,
            capture_output=True,
        ).stdout
        frame = np.frombuffer(raw, np.uint8)[: SIZE[0] * SIZE[1]].reshape(SIZE[1], SIZE[0])
        with Image.open(photos[number]) as photo:
            upright = ImageOps.exif_transpose(photo).convert("L")
        fitted = ImageOps.contain(upright, SIZE, Image.Resampling.LANCZOS)
        expected = (16 + np.asarray(fitted, float) * 219 / 255).astype(np.uint8)
        rows, columns = expected.shape
        top, left = (SIZE[1] - rows) // 2, (SIZE[0] - columns) // 2
        inside = frame[top : top + rows, left : left + columns]
        values.append(float(structural_similarity(inside, expected, data_range=255)))
    return statistics.mean(values)


def length_s(movie: Path) -> float:
    """The length of a movie in seconds, as ffprobe reads it."""
    options = ["-show_entries", "format=duration", "-of", "csv=p=0", str(movie)]
    probe = subprocess.run(["ffprobe", "-v", "error", *options], check=True, capture_output=True)
    return float(probe.stdout)


if __name__ == "__main__":
    main()
