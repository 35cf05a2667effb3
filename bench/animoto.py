"""Animoto against other ways to make the same movie: `python -m bench.animoto [--quick]`.

60 mixed photographs of 2.4 s each, 1280x720, 25 frames a second; ways take turns, so that a noisy
machine is noisy for all of them. Besides, our way with each download 75 ms late, and with 300
pictures.

Needs ffprobe. moviepy pins an old Pillow, so it lives in another environment (`--moviepy-python
ENV/bin/python`) and is left out when there is none.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import report
from bench.harness import BenchFailed
from bench.photographs import DISTINCT, Server, make_photographs
from localcloud.options import ROOT

PICTURES = 60
MANY = 300
SLOT_S = 2.4
FADE_S = 0.64
FPS = 25
SIZE = (1280, 720)
LATENCY_S = 0.075
WAYS = ("animoto", "animoto from afar", "animoto of 300", "sequence", "xfade", "moviepy")
ONCE = {"moviepy"}
"""It takes minutes."""
Way = Callable[[Path], list[str]]


def main() -> None:
    parser = report.parser("animoto", __doc__)
    parser.add_argument("--only", choices=WAYS, action="append", help="repeatable; all of them")
    parser.add_argument("--moviepy-python", help="of an environment with moviepy")
    parser.add_argument("--dir", type=Path, help="keep photographs and movies here")
    options, given = report.parsed(parser)
    python = given.moviepy_python or (
        sys.executable if importlib.util.find_spec("moviepy") else None
    )
    if python and shutil.which(python) is None:
        parser.error(f"--moviepy-python {python}: there is no such program")
    with tempfile.TemporaryDirectory(prefix="bench-animoto-") as temporary:
        folder = (given.dir or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        photos = make_photographs(folder)
        near, far = Server(folder, 0, 0), Server(folder, LATENCY_S, 0)
        try:
            chosen = photos[: options.pick(PICTURES, 6)]
            many = [photos[n % DISTINCT] for n in range(options.pick(MANY, 12))]
            ways: dict[str, tuple[Sequence[Path], Way]] = {
                "animoto": (chosen, lambda out: ours(near, chosen, out)),
                "animoto from afar": (chosen, lambda out: ours(far, chosen, out)),
                "animoto of 300": (many, lambda out: ours(near, many, out)),
                "sequence": (chosen, lambda out: sequence(chosen, out)),
                "xfade": (chosen, lambda out: xfade(chosen, out)),
            }
            if python:
                ways["moviepy"] = (chosen, lambda out: moviepy(chosen, out, python))
            else:
                print("without moviepy, which is not installed (--moviepy-python)")
            ways = {name: way for name, way in ways.items() if name in (given.only or WAYS)}
            results = compare(ways, folder, options.repeats)
        finally:
            near.close()
            far.close()
    rows = [row(name, len(ways[name][0]), figures, results) for name, figures in results.items()]
    report.show("The same movie, made in different ways", rows)
    report.write_csv(options.out / "animoto.csv", rows)


def row(name: str, pictures: int, figures: Figures, results: dict[str, Figures]) -> dict[str, Any]:
    """Medians; "CPU to ours" is the median of the ratios within each round."""
    mine = results.get("animoto", figures)
    # Of the rounds in which it ran, which are the first.
    ratios = [theirs / our for theirs, our in zip(figures.cpu_s, mine.cpu_s, strict=False)]
    return {
        "way": name,
        "pictures": pictures,
        "CPU s": statistics.median(figures.cpu_s),
        "CPU to ours": statistics.median(ratios),
        "wall s": statistics.median(figures.wall_s),
        "peak MB": max(figures.peak_mb),
        "MB": figures.megabytes,
        "SSIM": figures.ssim,
        "length s": figures.seconds,
        "runs": len(figures.cpu_s),
    }


def compare(
    ways: dict[str, tuple[Sequence[Path], Way]], folder: Path, rounds: int
) -> dict[str, Figures]:
    results = {name: Figures() for name in ways}
    for number in range(rounds):
        for name, (photos, make) in ways.items():
            if number and name in ONCE:
                continue
            out = folder / f"{name.replace(' ', '-')}.mp4"
            figures = results[name]
            measure(make(out), figures)
            print(
                f"round {number + 1}, {name}: {figures.cpu_s[-1]:.1f} CPU s, "
                f"{figures.wall_s[-1]:.1f} s",
                flush=True,
            )
            if number == 0:
                figures.megabytes = out.stat().st_size / 1e6
                figures.ssim = similarity(photos, out)
                figures.seconds = length_s(out)
    return results


# --- the ways -------------------------------------------------------------------------------


def ffmpeg_exe() -> str:
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


FITTED = (
    f"scale={SIZE[0]}:{SIZE[1]}:force_original_aspect_ratio=decrease,"
    f"pad={SIZE[0]}:{SIZE[1]}:-1:-1,setsar=1"
)
X264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]


def sequence(photos: Sequence[Path], out: Path) -> list[str]:
    """As in 2014: numbered files, read as an image sequence; scaled, which 2014 did not."""
    folder = out.parent / "sequence"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, photo in enumerate(photos):
        (folder / f"{number:03d}.jpg").symlink_to(photo.resolve())
    source = ["-framerate", f"1/{SLOT_S}", "-i", str(folder / "%03d.jpg")]
    return [ffmpeg_exe(), "-v", "error", "-y", *source, "-vf", FITTED, "-r", "25", *X264, str(out)]


def xfade(photos: Sequence[Path], out: Path) -> list[str]:
    """One input a picture, held by the loop filter (`-loop 1` would decode it for every frame),
    and a chain of crossfades."""
    inputs: list[str] = []
    chain = []
    held = f"loop=loop={round((SLOT_S + FADE_S) * FPS) - 1}:size=1,setpts=N/({FPS}*TB)"
    for number, photo in enumerate(photos):
        inputs += ["-framerate", str(FPS), "-i", str(photo)]
        chain.append(f"[{number}:v]{FITTED},format=yuv420p,{held}[p{number}]")
    last = "p0"
    for number in range(1, len(photos)):
        fade = f"xfade=transition=fade:duration={FADE_S}:offset={number * SLOT_S:.3f}"
        chain.append(f"[{last}][p{number}]{fade}[x{number}]")
        last = f"x{number}"
    graph = ["-filter_complex", ";".join(chain), "-map", f"[{last}]"]
    length = ["-t", f"{len(photos) * SLOT_S:.3f}"]
    return [ffmpeg_exe(), "-v", "error", "-y", *inputs, *graph, *length, *X264, str(out)]


# As its documentation has it; EXIF, which moviepy does not know, is left out.
MOVIEPY = """
import json, sys
import numpy as np
from moviepy import CompositeVideoClip, ImageClip, vfx
from PIL import Image, ImageFilter
photos, out, size, slot, fade = json.loads(sys.argv[1])
def blurred(pixels):
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(20)))
clips = []
for number, path in enumerate(photos):
    picture = ImageClip(path, duration=slot + fade)
    shares = size[0] / picture.w, size[1] / picture.h
    front = picture.resized(min(shares)).with_position("center")
    back = picture.resized(max(shares)).image_transform(blurred).with_position("center")
    clip = CompositeVideoClip([back, front], size=size).with_start(number * slot)
    clips.append(clip.with_effects([vfx.CrossFadeIn(fade)]) if number else clip)
movie = CompositeVideoClip(clips, size=size).with_duration(len(photos) * slot)
movie.write_videofile(out, fps=25, audio=False, logger=None)
"""


def moviepy(photos: Sequence[Path], out: Path, python: str) -> list[str]:
    paths = [str(photo) for photo in photos]
    return [python, "-c", MOVIEPY, json.dumps([paths, str(out), SIZE, SLOT_S, FADE_S])]


def ours(server: Server, photos: Sequence[Path], out: Path) -> list[str]:
    params = json.dumps({"images": [f"{server.url}/{photo.name}" for photo in photos]})
    return [sys.executable, "-m", "bench.animoto_child", params, str(out)]


# --- measuring ----------------------------------------------------------------------------


@dataclass
class Figures:
    """Of each run of one way."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)
    megabytes: float = 0.0
    ssim: float = 0.0
    seconds: float = 0.0


def tree_bytes(root: int) -> int:
    """Resident memory of a process and all below it."""
    total, waiting = 0, [root]
    while waiting:
        pid = waiting.pop()
        try:
            total += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            for task in Path(f"/proc/{pid}/task").iterdir():
                waiting += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return total * os.sysconf("SC_PAGE_SIZE")


def measure(command: Sequence[str], figures: Figures) -> None:
    begun = time.monotonic()
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=ROOT)
    peak, done = 0, threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, tree_bytes(running.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    _, status, usage = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    done.set()
    watcher.join()
    if running.returncode:
        raise BenchFailed(f"{command[0]} ended with {running.returncode}")
    figures.wall_s.append(time.monotonic() - begun)
    figures.cpu_s.append(usage.ru_utime + usage.ru_stime)
    figures.peak_mb.append(peak / 1e6)


def similarity(photos: Sequence[Path], movie: Path) -> float:
    """Mean SSIM, over five pictures, of a frame in the middle of a slot against the photograph
    decoded in full and shrunk with Lanczos; inside the picture, since backgrounds differ."""
    import numpy as np
    from PIL import Image, ImageOps
    from skimage.metrics import structural_similarity

    found = []
    for number in range(0, len(photos), max(1, len(photos) // 5)):
        seek = ["-ss", f"{(number + 0.4) * SLOT_S:.3f}", "-i", str(movie), "-frames:v", "1"]
        # An image sequence keeps the full range of JPEG.
        seek += ["-vf", "scale=out_range=tv"]
        raw = subprocess.run(
            [ffmpeg_exe(), "-v", "error", *seek, "-f", "rawvideo", "-pix_fmt", "yuv420p", "-"],
            check=True,
            capture_output=True,
        ).stdout
        seen = np.frombuffer(raw, np.uint8)[: SIZE[0] * SIZE[1]].reshape(SIZE[1], SIZE[0])
        with Image.open(photos[number]) as photo:
            upright = ImageOps.exif_transpose(photo).convert("L")
        fitted = ImageOps.contain(upright, SIZE, Image.Resampling.LANCZOS)
        wanted = (16 + np.asarray(fitted, float) * 219 / 255).astype(np.uint8)
        rows, columns = wanted.shape
        top, left = (SIZE[1] - rows) // 2, (SIZE[0] - columns) // 2
        inside = seen[top : top + rows, left : left + columns]
        found.append(structural_similarity(inside, wanted, data_range=255))
    return statistics.mean(found)


def length_s(movie: Path) -> float:
    shown = ["-show_entries", "format=duration", "-of", "csv=p=0", str(movie)]
    done = subprocess.run(["ffprobe", "-v", "error", *shown], check=True, capture_output=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()
