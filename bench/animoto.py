#!/usr/bin/env python3
"""Animoto against other ways to make the same movie: 60 mixed photographs of 2.4 s each, 1280x720,
25 frames a second. Ways take turns, so that a noisy machine is noisy for all of them.

    python bench/animoto.py --runs 3
    python bench/animoto.py --runs 1 --skip moviepy --pictures 300
    python bench/animoto.py --only animoto --latency-ms 75 --rate-mb 5

The photographs are those that scikit-image ships, cropped, scaled and grained from a fixed seed.
Needs taskfleet[dev] and ffmpeg; moviepy in this environment or, since it pins an old Pillow, in
another one: `--moviepy-python ENV/bin/python`.
"""

from __future__ import annotations

import argparse
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
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SLOT_S = 2.4
FADE_S = 0.64
FPS = 25
SIZE = (1280, 720)
DISTINCT = 60
WAYS = ("animoto", "sequence", "xfade", "moviepy", "moviepy-black")
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg")


# --- photographs ----------------------------------------------------------------------------


def make_photograph(number: int, path: Path) -> None:
    """Even ones have 12 megapixels, odd ones about 2; every fifth is turned by EXIF."""
    import numpy as np
    import skimage
    from PIL import Image

    rng = np.random.default_rng(number)
    name = NAMES[number % len(NAMES)]
    with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
        image = image.convert("RGB")
    size = (4000, 3000) if number % 2 == 0 else (1600 + 2 * int(rng.integers(0, 120)), 1200)
    share = rng.uniform(0.7, 1.0)
    width, height = image.width * share, image.height * share
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    box = (left, top, left + width, top + height)
    pixels = np.asarray(image.resize(size, Image.Resampling.BICUBIC, box), np.int16)
    grain = rng.normal(0, 5, (*pixels.shape[:2], 1)).astype(np.int16)
    image = Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))
    exif = Image.Exif()
    if number % 5 == 4:
        image = image.transpose(Image.Transpose.ROTATE_90)
        exif[0x0112] = 6
    image.save(path, "JPEG", quality=88, exif=exif)


def make_photographs(folder: Path) -> list[Path]:
    paths = [folder / f"{number:03d}.jpg" for number in range(DISTINCT)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(make_photograph, missing, [paths[number] for number in missing]))
    return paths


# --- a server with latency ------------------------------------------------------------------


class Server:
    """Serves the folder on loopback: each answer begins `latency_s` late and flows at most at
    `rate` bytes a second (0: as fast as it goes)."""

    def __init__(self, folder: Path, latency_s: float, rate: float) -> None:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                time.sleep(latency_s)
                data = (folder / self.path.rpartition("/")[2]).read_bytes()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                begun = time.monotonic()
                step = 1 << 16 if rate else len(data)
                for at in range(0, len(data), step):
                    if rate:
                        time.sleep(max(0.0, begun + at / rate - time.monotonic()))
                    self.wfile.write(data[at : at + step])

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


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


# As its documentation has it; EXIF, which moviepy does not know, is left out. Over black each
# picture is resized and faded in; otherwise it lies on a blurred one that fills the frame, too.
MOVIEPY = """
import json, sys
import numpy as np
from moviepy import CompositeVideoClip, ImageClip, vfx
from PIL import Image, ImageFilter
photos, out, size, slot, fade, black = json.loads(sys.argv[1])
def blurred(pixels):
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(20)))
def scene(path):
    picture = ImageClip(path, duration=slot + fade)
    shares = size[0] / picture.w, size[1] / picture.h
    front = picture.resized(min(shares)).with_position("center")
    if black:
        return front
    back = picture.resized(max(shares)).image_transform(blurred).with_position("center")
    return CompositeVideoClip([back, front], size=size)
clips = []
for number, path in enumerate(photos):
    clip = scene(path).with_start(number * slot)
    clips.append(clip.with_effects([vfx.CrossFadeIn(fade)]) if number else clip)
movie = CompositeVideoClip(clips, size=size).with_duration(len(photos) * slot)
movie.write_videofile(out, fps=25, audio=False, logger=None)
"""


def moviepy(photos: Sequence[Path], out: Path, python: str, *, black: bool) -> list[str]:
    paths = [str(photo) for photo in photos]
    return [python, "-c", MOVIEPY, json.dumps([paths, str(out), SIZE, SLOT_S, FADE_S, black])]


def ours(urls: Sequence[str], out: Path, params: dict[str, Any]) -> list[str]:
    whole = json.dumps({**params, "images": list(urls)})
    return [sys.executable, str(Path(__file__).resolve()), "--child", whole, str(out)]


class FileStore:
    """The one movie goes to a path; what else a store does is not needed."""

    def __init__(self, out: str) -> None:
        self._out = out

    def put_file(self, key: str, path: str, *, content_type: str) -> None:  # noqa: ARG002
        if key.endswith(".mp4"):
            os.replace(path, self._out)


@dataclass
class Context:
    """A task's context for a movie that nobody stops."""

    store: Any
    batch_id: str = "bench"
    index: int = 0
    attempt: int = 1
    client_id: str = "bench"
    stopped: bool = False

    def check_stopped(self) -> None: ...

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        return lambda: None

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def progress(self, done: int, total: int) -> None: ...


def child(params: str, out: str) -> None:
    """Make one movie as a worker would."""
    sys.path[:1] = [str(ROOT)]
    os.environ["TASKFLEET_ALLOW_PRIVATE_URLS"] = "1"
    tempfile.tempdir = str(Path(out).parent)
    from animoto import animoto

    result = animoto.run(animoto.parse(json.loads(params)), Context(FileStore(out)))
    if result["skipped"]:
        raise SystemExit(f"skipped: {result['skipped']}")


# --- measuring ------------------------------------------------------------------------------


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
    running = subprocess.Popen(command, stdin=subprocess.DEVNULL)
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
        raise SystemExit(f"{command[0]} ended with {running.returncode}")
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


def table(results: dict[str, Figures]) -> str:
    lines = [
        "| way | CPU s | wall s | peak MB | MB | SSIM | length s |",
        "|---|---|---|---|---|---|---|",
    ]
    for way, figures in results.items():
        middle = [
            statistics.median(values) for values in (figures.cpu_s, figures.wall_s, figures.peak_mb)
        ]
        lines.append(
            f"| {way} | {middle[0]:.1f} | {middle[1]:.1f} | {middle[2]:.0f} | "
            f"{figures.megabytes:.1f} | {figures.ssim:.3f} | {figures.seconds:.2f} |"
        )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3, help="of each way (default 3)")
    parser.add_argument("--pictures", type=int, default=60, help="a movie (default 60)")
    parser.add_argument("--skip", choices=WAYS, action="append", default=[])
    parser.add_argument("--only", choices=WAYS, action="append")
    parser.add_argument("--params", type=json.loads, default={}, help="more params of animoto")
    parser.add_argument("--latency-ms", type=float, default=0, help="of each download")
    parser.add_argument("--rate-mb", type=float, default=0, help="megabytes/s of each download")
    parser.add_argument("--moviepy-python", default=sys.executable)
    parser.add_argument("--dir", type=Path, help="keep photographs and movies here")
    return parser.parse_args()


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
        return
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="bench-animoto-") as temporary:
        folder = args.dir or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        photos = make_photographs(folder)
        size_mb = sum(photo.stat().st_size for photo in photos) / 1e6
        chosen = [photos[number % DISTINCT] for number in range(args.pictures)]
        print(f"{args.pictures} pictures of {DISTINCT} distinct ones, {size_mb:.0f} MB", flush=True)
        near = Server(folder, 0, 0)
        far = Server(folder, args.latency_ms / 1000, args.rate_mb * 1e6)
        ways: dict[str, Callable[[Path], list[str]]] = {
            "animoto": lambda out: ours([f"{near.url}/{p.name}" for p in chosen], out, args.params),
            "sequence": lambda out: sequence(chosen, out),
            "xfade": lambda out: xfade(chosen, out),
            "moviepy": lambda out: moviepy(chosen, out, args.moviepy_python, black=False),
            "moviepy-black": lambda out: moviepy(chosen, out, args.moviepy_python, black=True),
        }
        ways = {w: make for w, make in ways.items() if w in (args.only or WAYS)}
        ways = {w: make for w, make in ways.items() if w not in args.skip}
        if args.latency_ms or args.rate_mb:
            ways["animoto, from afar"] = lambda out: ours(
                [f"{far.url}/{p.name}" for p in chosen], out, args.params
            )
        try:
            results = compare(ways, folder, chosen, args.runs)
        finally:
            near.close()
            far.close()
    print(table(results))


def compare(
    ways: dict[str, Callable[[Path], list[str]]],
    folder: Path,
    photos: Sequence[Path],
    runs: int,
) -> dict[str, Figures]:
    results = {way: Figures() for way in ways}
    for run in range(runs):
        for way, make in ways.items():
            out = folder / f"{way.split(',')[0]}.mp4"
            figures = results[way]
            measure(make(out), figures)
            print(
                f"run {run + 1} {way}: {figures.cpu_s[-1]:.1f} CPU s, {figures.wall_s[-1]:.1f} s",
                flush=True,
            )
            if run == 0:
                figures.megabytes = out.stat().st_size / 1e6
                figures.ssim = similarity(photos, out)
                figures.seconds = length_s(out)
    return results


if __name__ == "__main__":
    main()
