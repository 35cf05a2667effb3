"""Makes photographs for benchmarks from those that scikit-image ships. Owns how they are cropped,
scaled and grained, from a fixed seed."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

DISTINCT = 60
"""Number of different photographs."""
NAMES = ("astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg", "retina.jpg")
"""Files of scikit-image."""
ORIENTATION = 0x0112
"""EXIF tag of a picture's rotation."""


def make_photograph(number: int, path: Path) -> None:
    """Write photograph `number`. Even ones have 12 megapixels, odd ones about 2; every fifth is
    stored rotated, with an EXIF orientation."""
    import numpy as np
    import skimage
    from PIL import Image

    rng = np.random.default_rng(number)
    name = NAMES[number % len(NAMES)]
    with Image.open(Path(skimage.__file__).parent / "data" / name) as original:
        image = original.convert("RGB")
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
        exif[ORIENTATION] = 6
    image.save(path, "JPEG", quality=88, exif=exif)


def make_photographs(folder: Path) -> list[Path]:
    """Make the photographs that the folder lacks. Returns the paths of all."""
    paths = [folder / f"{number:03d}.jpg" for number in range(DISTINCT)]
    missing = [number for number, path in enumerate(paths) if not path.exists()]
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(make_photograph, missing, [paths[number] for number in missing]))
    return paths
