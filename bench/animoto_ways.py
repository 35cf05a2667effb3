"""The ways to make one movie that `bench.animoto` compares. Owns their commands; each is a function
from photographs and an output file to a command line.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

SLOT_S = 2.4
"""Seconds from one photograph to the next."""
FADE_S = 0.64
"""Seconds of a crossfade."""
FPS = 25
SIZE = (1280, 720)
FITTED = (
    f"scale={SIZE[0]}:{SIZE[1]}:force_original_aspect_ratio=decrease,"
    f"pad={SIZE[0]}:{SIZE[1]}:-1:-1,setsar=1"
)
"""ffmpeg filter that fits a picture into the frame."""
X264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart"]


def ffmpeg_exe() -> str:
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def taskfleet(url: str, photos: Sequence[Path], out: Path) -> list[str]:
    """The project's own kind `animoto`, with photographs from a server."""
    params = json.dumps({"images": [f"{url}/{photo.name}" for photo in photos]})
    return [sys.executable, "-m", "bench.animoto_child", params, str(out)]


def sequence(photos: Sequence[Path], out: Path) -> list[str]:
    """The way of 2014: numbered files, read as an image sequence. They are scaled here, which 2014
    did not do. There are no fades."""
    folder = out.parent / "sequence"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for number, photo in enumerate(photos):
        (folder / f"{number:03d}.jpg").symlink_to(photo.resolve())
    source = ["-framerate", f"1/{SLOT_S}", "-i", str(folder / "%03d.jpg")]
    options = ["-vf", FITTED, "-r", str(FPS), *X264]
    return [ffmpeg_exe(), "-v", "error", "-y", *source, *options, str(out)]


def xfade(photos: Sequence[Path], out: Path) -> list[str]:
    """ffmpeg with one input per picture and a chain of crossfades. The loop filter holds a picture,
    because `-loop 1` would decode it for every frame."""
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


# As moviepy's documentation does it. It ignores the EXIF orientation, which moviepy does not know.
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


def moviepy(python: str, photos: Sequence[Path], out: Path) -> list[str]:
    """The same movie by moviepy, with the Python of an environment that has it."""
    paths = [str(photo) for photo in photos]
    return [python, "-c", MOVIEPY, json.dumps([paths, str(out), SIZE, SLOT_S, FADE_S])]
