"""Turns a picture file into a frame: decodes it, turns it upright, and fits it. Owns what counts as
a picture and how it fills the frame; not fetching (`taskfleet.fetch.download`) nor captions.

The file is untrusted. Only four formats are tried, the number of its parts is bounded before Pillow
reads it (`animoto.structure`), the size is checked before a pixel is decoded, and every exception
that Pillow raises on a broken file becomes `NotAPicture`.

Pillow's decoders run in this process and cannot be interrupted. Only a process that can be killed
would bound the following, and this module does not:

- the time of one decoding, also after the task was stopped: the caps on pixels and scans keep it
  under 2 CPU seconds for 36 million pixels;
- the wait of a large picture for those of other tasks, which are decoded one at a time;
- the memory of one decoding: the same caps keep it under 500 MB (WebP; JPEG 250 MB);
- a fault in a decoder's C code that hangs it, crashes it or lets a stranger's code run.
"""

from __future__ import annotations

import io
import struct
import threading

from PIL import Image, ImageFilter, ImageOps, UnidentifiedImageError

from animoto import structure
from animoto.frame import BLACK, COLOUR_TO_VIDEO, LIGHT_TO_VIDEO, Frame
from animoto.orientation import orientation
from animoto.spec import Fit

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")
PIXELS_MAX = 50_000_000
"""Most pixels of a baseline JPEG, which is shrunk while it is decoded."""
PIXELS_MAX_WHOLE = 36_000_000
"""Most pixels of every other file, which must be decoded whole."""
_PIXELS_LARGE = 8_000_000
"""A file with more pixels that must be decoded whole is decoded alone (`_one_large`)."""
_DRAFT_FACTOR = 1.5
"""A JPEG is shrunk while decoding to no less than this multiple of the wanted size. The result
differs invisibly from one of all pixels (PSNR 50 dB)."""
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that turns a picture upright, by its EXIF orientation."""
_SIDEWAYS = (5, 6, 7, 8)
"""The orientations that swap width and height."""
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
"""Every exception that Pillow raises on a broken file."""
_BACKGROUND_SHRINK = 8
"""The background is blurred at this fraction of the frame's width and height."""
_BACKGROUND_DIM = 0.6
"""Contrast and brightness of the background, relative to the picture."""
_one_large = threading.Lock()
"""Held while a large picture is decoded whole: two at a time would take too much memory."""

_BEST = Image.Resampling.LANCZOS
_GAP = 1.0
"""Pillow's `reducing_gap`: shrink by a whole factor first, then with `_BEST`. Takes 0.7 times as
long as bicubic on all pixels and comes closer to Lanczos on all pixels on average (PSNR 61 dB
against 52 dB; at worst 48 dB against 51 dB)."""

Box = tuple[float, float, float, float]
"""Left, top, right and bottom in pixels."""


class NotAPicture(Exception):
    """The file cannot be used; the message says why, without naming the file."""


def load(path: str, size: tuple[int, int], fit: Fit) -> Frame:
    """Returns the picture in the file as a frame of `size` (even width and height). Raises
    NotAPicture if the file is no picture, too large or broken."""
    try:
        with open(path, "rb") as file:
            found = structure.read(file.read())
    except structure.Refused as error:
        raise NotAPicture(str(error)) from error
    try:
        if found.size is not None:
            _check_size(found.size, whole=True)
        with Image.open(io.BytesIO(found.data), formats=FORMATS) as image:
            whole = _decoded_whole(image, found)
            _check_size(image.size, whole=whole)
            if whole and image.width * image.height > _PIXELS_LARGE:
                with _one_large:
                    planes = _planes(image, found, size, fit)
            else:
                planes = _planes(image, found, size, fit)
    except _BROKEN as error:
        raise NotAPicture(_fault(found.data, error)) from error
    return _compose(planes, size, fit)


def _decoded_whole(image: Image.Image, found: structure.Structure) -> bool:
    """Returns whether all pixels are decoded at once: so in all files but JPEGs of one scan."""
    if image.format not in ("JPEG", "MPO") or found.scans > 1:
        return True
    return bool(image.info.get("progressive"))


def _check_size(size: tuple[int, int], *, whole: bool) -> None:
    """Raises NotAPicture if the picture has too many pixels."""
    limit = PIXELS_MAX_WHOLE if whole else PIXELS_MAX
    if size[0] * size[1] > limit:
        raise NotAPicture(
            f"{size[0]} x {size[1]} pixels is over the cap of {limit / 1e6:g} million"
        )


def _fault(head: bytes, error: BaseException) -> str:
    """Returns in words why a file that begins with `head` could not be decoded; `error` is Pillow's
    exception."""
    if not head:
        return "the file is empty"
    if head[4:8] == b"ftyp" and head[8:11] in (b"hei", b"hev", b"mif", b"avi"):
        return "HEIC and AVIF pictures are not supported; convert the file to JPEG"
    if isinstance(error, UnidentifiedImageError):
        return f"not a picture in any of the formats {', '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return "has far too many pixels"
    return f"the picture is broken: {error}"


# --- decoding -------------------------------------------------------------------------------


def _planes(
    image: Image.Image, found: structure.Structure, size: tuple[int, int], fit: Fit
) -> list[Image.Image]:
    """Returns the upright picture as Y, Cb and Cr in full range, scaled for a frame of `size`; Cb
    and Cr have half the width and height. With "cover" the planes fill the frame, else they fit
    into it."""
    # Every step works on as few pixels as possible.
    exif = found.exif or image.info.get("exif", b"")
    turned = orientation(exif, found.xmp or image.info.get("xmp", b""))
    frame = size[::-1] if turned in _SIDEWAYS else size
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
        # One channel at a time: all three together take as much memory as the picture itself.
        planes = [
            image.getchannel(channel).resize(
                _half(wanted) if channel else wanted, _BEST, box, reducing_gap=_GAP
            )
            for channel in range(3)
        ]
    else:
        small = _rgb(image, wanted, box).convert("YCbCr")
        planes = [
            plane.resize(_half(wanted), _BEST) if channel else plane
            for channel, plane in enumerate(small.split())
        ]
    turn = _TURNS.get(turned)
    return planes if turn is None else [plane.transpose(turn) for plane in planes]


def _rgb(image: Image.Image, wanted: tuple[int, int], box: Box) -> Image.Image:
    """Returns the part of `image` inside `box`, scaled to `wanted` pixels, as RGB; transparent
    parts lie over white."""
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
    """Returns whether a JPEG stores RGB instead of YCbCr: by Adobe's marker or its components'
    names."""
    if image.info.get("adobe_transform") == 0:
        return True
    return [layer[0] for layer in getattr(image, "layer", ())] == [ord(c) for c in "RGB"]


# --- fitting --------------------------------------------------------------------------------


def _scaled(given: tuple[int, int], frame: tuple[int, int], *, cover: bool) -> tuple[int, int]:
    """Returns the width and height, in the proportions of `given`, that just cover the frame or
    just fit into it."""
    scales = (frame[0] / given[0], frame[1] / given[1])
    scale = max(scales) if cover else min(scales)
    return max(2, round(given[0] * scale)), max(2, round(given[1] * scale))


def _middle(given: tuple[int, int], frame: tuple[int, int]) -> Box:
    """Returns the largest box in the middle of `given` that has the frame's proportions."""
    scale = min(given[0] / frame[0], given[1] / frame[1])
    left = (given[0] - frame[0] * scale) / 2
    top = (given[1] - frame[1] * scale) / 2
    return left, top, given[0] - left, given[1] - top


def _half(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _compose(planes: list[Image.Image], size: tuple[int, int], fit: Fit) -> Frame:
    """Returns a frame of `size` in video range, made of scaled planes in full range."""
    filled = []
    for channel, plane in enumerate(planes):
        area = _half(size) if channel else size
        table = COLOUR_TO_VIDEO if channel else LIGHT_TO_VIDEO
        filled.append(_fill(plane.point(table), area, fit, neutral=BLACK[channel]))
    return Frame(*filled)


def _fill(plane: Image.Image, area: tuple[int, int], fit: Fit, *, neutral: int) -> Image.Image:
    """Returns the plane centred in an image of the size `area`. The rest shows the blurred plane,
    or the level `neutral` if `fit` is not "blur"."""
    if plane.size == area:
        return plane
    blur = fit == "blur"
    background = _blurred(plane, area, neutral) if blur else Image.new("L", area, neutral)
    background.paste(plane, ((area[0] - plane.width) // 2, (area[1] - plane.height) // 2))
    return background


def _blurred(plane: Image.Image, area: tuple[int, int], neutral: int) -> Image.Image:
    """Returns the plane as its own background: filling the area, out of focus and darker."""
    # Blurring a small copy is faster, and nothing in the result is sharp anyway.
    small = (max(2, area[0] // _BACKGROUND_SHRINK), max(2, area[1] // _BACKGROUND_SHRINK))
    dimmed = [round(neutral + (level - neutral) * _BACKGROUND_DIM) for level in range(256)]
    background = ImageOps.fit(plane, small, Image.Resampling.BILINEAR)
    background = background.filter(ImageFilter.GaussianBlur(small[1] / 15)).point(dimmed)
    return background.resize(area, Image.Resampling.BICUBIC)
