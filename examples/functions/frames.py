"""matplotlib frames of a moving wave, one a call, which Pillow joins into wave.gif."""

import io
import sys

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from taskfleet import FleetExecutor

FRAMES = 12


def frame(number: int) -> bytes:
    """Returns a frame as a PNG of 320 x 240 pixels."""
    x = np.linspace(0, 2 * np.pi, 200)
    figure = Figure(figsize=(3.2, 2.4), dpi=100)
    axes = figure.subplots()
    axes.plot(x, np.sin(x - 2 * np.pi * number / FRAMES))
    axes.set(ylim=(-1.1, 1.1), title=f"frame {number}")
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()


if __name__ == "__main__":
    with FleetExecutor(name="wave", timeout_s=60, local="--local" in sys.argv) as pool:
        first, *others = (Image.open(io.BytesIO(png)) for png in pool.map(frame, range(FRAMES)))
    first.save("wave.gif", save_all=True, append_images=others, duration=80, loop=0)
    print(f"wave.gif: {1 + len(others)} frames of {first.width} x {first.height}")
