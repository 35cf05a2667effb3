"""A picture file becomes a frame: decoded small, turned upright, fitted. Owns what counts as a
picture and how it fills the frame; not fetching it, nor captions.

The file comes from anybody. Only four formats are tried, sizes are checked before a pixel is
decoded, and whatever Pillow raises on a broken file becomes `NotAPicture`.
"""

from __future__ import annotations

import struct
import threading
from typing import Literal

from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from animoto.frame import BLACK, COLOUR_TO_VIDEO, LIGHT_TO_VIDEO, Frame

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
PIXELS_MAX = 50_000_000
PIXELS_MAX_WHOLE = 36_000_000
"""For files that must be decoded whole; a baseline JPEG is shrunk while it is decoded."""
_PIXELS_LARGE = 8_000_000
_DRAFT_FACTOR = 1.5
"""Shrinking on load to 1.5 times the wanted size loses nothing to see (50 dB against all of it)."""
_ORIENTATION_TAG = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_BACKGROUND_SHRINK = 8
_BACKGROUND_DIM = 0.6
_one_large = threading.Lock()
"""Large pictures that must be decoded whole take turns: memory, not time, is what is short."""

_BEST = Image.Resampling.LANCZOS
_GAP = 1.0
"""Whole steps of halving first, then `_BEST`: 0.7 times the time of bicubic on all pixels, and
nearer to Lanczos on all of them on average (61 dB against 52; at worst 48 against 51)."""

Fit = Literal["blur", "contain", "cover"]
Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""


class NotAPicture(Exception):
    """The file cannot be used; the message says why, without naming the file."""


def load(path: str, size: tuple[int, int], fit: Fit) -> Frame:
    """The picture in the file as a frame of `size` (even width and height). NotAPicture when it
    is none, too large or broken."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            whole = _check_size(image)
            if whole and image.width * image.height > _PIXELS_LARGE:
                with _one_large:
                    planes = _planes(image, size, fit)
            else:
                planes = _planes(image, size, fit)
    except _BROKEN as error:
        raise NotAPicture(_why(path, error)) from error
    return _compose(planes, size, fit)


def _check_size(image: Image.Image) -> bool:
    """Whether the file must be decoded whole, for which the limit is lower."""
    whole = image.format not in ("JPEG", "MPO") or bool(image.info.get("progressive"))
    limit = PIXELS_MAX_WHOLE if whole else PIXELS_MAX
    if image.width * image.height > limit:
        raise NotAPicture(
            f"{image.width} x {image.height} pixels is over the cap of {limit / 1e6:g} million"
        )
    return whole


def _why(path: str, error: BaseException) -> str:
    with open(path, "rb") as file:
        head = file.read(64)
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"avi"):
        return "HEIC and AVIF pictures are not supported; convert it to JPEG"
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture in any of the formats {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "has far too many pixels"
    return f"the picture is broken: {error}"


# --- decoding -------------------------------------------------------------------------------


def _planes(image: Image.Image, size: tuple[int, int], fit: Fit) -> list[Image.Image]:
    """Upright Y, Cb and Cr, full range, each as large as `fit` wants of a frame of `size`; the
    colours at half of it. Every step works on as few pixels as will do."""
    orientation = _orientation(image)
    frame = size[::-1] if orientation in _SIDEWAYS else size
    cover = fit == "cover"
    wanted = _scaled(image.size, frame, cover=cover)
    if image.format in ("JPEG", "MPO"):
        draft = (round(wanted[0] * _DRAFT_FACTOR), round(wanted[1] * _DRAFT_FACTOR))
        # A JPEG that stores RGB cannot be decoded to YCbCr.
        image.draft(None if _stores_rgb(image) else "YCbCr", draft)
    image.load()
    if cover:
        wanted = frame
    box = _middle(image.size, frame) if cover else (0, 0, *image.size)
    if image.mode == "YCbCr":
        # One after the other: together they take as much memory as the picture itself.
        planes = [
            image.getchannel(place).resize(
                _half(wanted) if place else wanted, _BEST, box, reducing_gap=_GAP
            )
            for place in range(3)
        ]
    else:
        small = _rgb(image, wanted, box).convert("YCbCr")
        planes = [
            plane.resize(_half(wanted), _BEST) if colour else plane
            for colour, plane in enumerate(small.split())
        ]
    turn = _TURNS.get(orientation)
    return planes if turn is None else [plane.transpose(turn) for plane in planes]


def _rgb(image: Image.Image, wanted: tuple[int, int], box: Box) -> Image.Image:
    """What is in the box, at the wanted size, without transparency (over white)."""
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow would clip them to white
        image = image.convert("I").point(lambda level: level * (1 / 257)).convert("L")
    elif image.mode == "1":
        image = image.convert("L")
    elif image.mode in ("P", "PA", "LA") or "transparency" in image.info:
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "RGBA"):
        image = image.convert("RGB")
    image = image.resize(wanted, _BEST, box, reducing_gap=_GAP)
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", wanted, "white"), image)
    return image.convert("RGB")


def _stores_rgb(image: Image.Image) -> bool:
    if image.info.get("adobe_transform") == 0:
        return True
    return [layer[0] for layer in getattr(image, "layer", ())] == [ord(c) for c in "RGB"]


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF has it; 1 also when the EXIF data are broken."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) else 1


# --- fitting --------------------------------------------------------------------------------


def _scaled(given: tuple[int, int], frame: tuple[int, int], *, cover: bool) -> tuple[int, int]:
    """Width and height with the shape of `given` that just cover the frame, or just fit into
    it."""
    scales = (frame[0] / given[0], frame[1] / given[1])
    scale = max(scales) if cover else min(scales)
    return max(2, round(given[0] * scale)), max(2, round(given[1] * scale))


def _middle(given: tuple[int, int], frame: tuple[int, int]) -> Box:
    """The largest box in the middle of `given` that has the frame's shape."""
    scale = min(given[0] / frame[0], given[1] / frame[1])
    left = (given[0] - frame[0] * scale) / 2
    top = (given[1] - frame[1] * scale) / 2
    return left, top, given[0] - left, given[1] - top


def _half(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _compose(planes: list[Image.Image], size: tuple[int, int], fit: Fit) -> Frame:
    """Planes of the right scale become a frame in video range."""
    done = []
    for colour, plane in enumerate(planes):
        area = _half(size) if colour else size
        table = COLOUR_TO_VIDEO if colour else LIGHT_TO_VIDEO
        done.append(_fill(plane.point(table), area, fit, neutral=BLACK[colour]))
    return Frame(*done)


def _fill(plane: Image.Image, area: tuple[int, int], fit: Fit, *, neutral: int) -> Image.Image:
    if plane.size == area:
        return plane
    blur = fit == "blur"
    ground = _blurred(plane, area, neutral) if blur else Image.new("L", area, neutral)
    ground.paste(plane, ((area[0] - plane.width) // 2, (area[1] - plane.height) // 2))
    return ground


def _blurred(plane: Image.Image, area: tuple[int, int], neutral: int) -> Image.Image:
    """The picture itself behind it: filling the area, out of focus and darker. Blurred small,
    since nothing of it is sharp anyway."""
    small = (max(2, area[0] // _BACKGROUND_SHRINK), max(2, area[1] // _BACKGROUND_SHRINK))
    ground = ImageOps.fit(plane, small, Image.Resampling.BILINEAR)
    ground = ground.filter(ImageFilter.GaussianBlur(small[1] / 15))
    ground = ground.point([round(neutral + (i - neutral) * _BACKGROUND_DIM) for i in range(256)])
    return ground.resize(area, Image.Resampling.BICUBIC)
