"""Pillow thumbnails of the pictures in a folder. Arguments and results are bytes."""

import io
import sys
from pathlib import Path

from PIL import Image

from taskfleet import FleetExecutor

PICTURES = Path(__file__).parents[1] / "pictures"


def thumbnail(data: bytes, size: int = 64) -> bytes:
    """Returns a picture as a JPEG of at most `size` pixels each way."""
    with Image.open(io.BytesIO(data)) as picture:
        small = picture.convert("RGB")
    small.thumbnail((size, size))
    out = io.BytesIO()
    small.save(out, "JPEG")
    return out.getvalue()


if __name__ == "__main__":
    paths = sorted(path for path in PICTURES.iterdir() if path.suffix in {".jpg", ".png"})
    with FleetExecutor(name="thumbnails", timeout_s=60, local="--local" in sys.argv) as pool:
        futures = {pool.submit(thumbnail, path.read_bytes(), size=64): path for path in paths}
        for future, path in futures.items():
            print(f"{path.name}: {len(future.result())} bytes")
