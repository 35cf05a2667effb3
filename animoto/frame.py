"""A raw frame in the form that the encoder takes: three planes, yuv420p, limited range, BT.601.
Owns that form, blending and JPEG output; not decoding of pictures (`animoto.picture`)."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

BLACK = (16, 128, 128)
GREY = (60, 128, 128)
"""Colours as Y, U and V in video range."""

# JPEG is full range (0 to 255); video is 16 to 235 for light and 16 to 240 for colour (BT.601).
# Each table maps a level from one range to the other.
LIGHT_TO_VIDEO = [16 + round(level * 219 / 255) for level in range(256)]
COLOUR_TO_VIDEO = [128 + round((level - 128) * 224 / 255) for level in range(256)]
_LIGHT_FROM_VIDEO = [max(0, min(255, round((level - 16) * 255 / 219))) for level in range(256)]
_COLOUR_FROM_VIDEO = [
    max(0, min(255, round(128 + (level - 128) * 255 / 224))) for level in range(256)
]


@dataclass(frozen=True)
class Frame:
    """One frame as three images of mode L: `y` has the frame's size, `u` and `v` half its width and
    height. Width and height are even."""

    y: Image.Image
    u: Image.Image
    v: Image.Image

    @classmethod
    def plain(cls, size: tuple[int, int], colour: tuple[int, int, int]) -> Frame:
        """Returns a frame of `size` in one colour (Y, U, V in video range)."""
        half = (size[0] // 2, size[1] // 2)
        y, u, v = colour
        return cls(Image.new("L", size, y), Image.new("L", half, u), Image.new("L", half, v))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.y.size

    def to_bytes(self) -> bytes:
        """Returns the planes one after the other, as ffmpeg's `rawvideo` has them."""
        return self.y.tobytes() + self.u.tobytes() + self.v.tobytes()

    def blend(self, other: Frame, share: float) -> Frame:
        """Returns the weighted mean of two frames; `share` is the weight of `other`, 0 to 1."""
        return Frame(
            Image.blend(self.y, other.y, share),
            Image.blend(self.u, other.u, share),
            Image.blend(self.v, other.v, share),
        )

    def cut(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> Frame:
        """Returns the part inside `box` (left, top, right, bottom in pixels, fractions allowed),
        scaled to `size`."""
        half_box = (box[0] / 2, box[1] / 2, box[2] / 2, box[3] / 2)
        half = (size[0] // 2, size[1] // 2)
        bilinear = Image.Resampling.BILINEAR
        return Frame(
            self.y.resize(size, bilinear, box=box),
            self.u.resize(half, bilinear, box=half_box),
            self.v.resize(half, bilinear, box=half_box),
        )

    def paste(self, colour: tuple[int, int, int], mask: Image.Image, at: tuple[int, int]) -> None:
        """Paints a colour (Y, U, V) onto this frame where `mask` (mode L) is not 0. `at` is the
        mask's left and top; both and the mask's size must be even."""
        half_mask = mask.reduce(2)
        half_at = (at[0] // 2, at[1] // 2)
        self.y.paste(colour[0], at, mask)
        self.u.paste(colour[1], half_at, half_mask)
        self.v.paste(colour[2], half_at, half_mask)

    def jpeg(self) -> bytes:
        """Returns the frame as a JPEG file."""
        planes = (
            self.y.point(_LIGHT_FROM_VIDEO),
            self.u.point(_COLOUR_FROM_VIDEO).resize(self.size, Image.Resampling.BILINEAR),
            self.v.point(_COLOUR_FROM_VIDEO).resize(self.size, Image.Resampling.BILINEAR),
        )
        file = io.BytesIO()
        Image.merge("YCbCr", planes).save(file, "JPEG", quality=85)
        return file.getvalue()
