"""A raw picture as the encoder takes it: three planes, yuv420p, limited range, BT.601. Owns that
form, blending and the poster; not where the pixels come from."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

BLACK = (16, 128, 128)
GREY = (60, 128, 128)

# JPEG is full range (0 to 255); video is 16 to 235 for light and 16 to 240 for colour (BT.601).
LIGHT_TO_VIDEO = [16 + round(level * 219 / 255) for level in range(256)]
COLOUR_TO_VIDEO = [128 + round((level - 128) * 224 / 255) for level in range(256)]
_LIGHT_FROM_VIDEO = [max(0, min(255, round((level - 16) * 255 / 219))) for level in range(256)]
_COLOUR_FROM_VIDEO = [
    max(0, min(255, round(128 + (level - 128) * 255 / 224))) for level in range(256)
]


@dataclass(frozen=True)
class Frame:
    """`y` is width x height, `u` and `v` half of it each way; all are images of mode L."""

    y: Image.Image
    u: Image.Image
    v: Image.Image

    @classmethod
    def plain(cls, size: tuple[int, int], colour: tuple[int, int, int]) -> Frame:
        half = (size[0] // 2, size[1] // 2)
        y, u, v = colour
        return cls(Image.new("L", size, y), Image.new("L", half, u), Image.new("L", half, v))

    @property
    def size(self) -> tuple[int, int]:
        return self.y.size

    def to_bytes(self) -> bytes:
        return self.y.tobytes() + self.u.tobytes() + self.v.tobytes()

    def blend(self, other: Frame, share: float) -> Frame:
        """The mean of two frames, `share` of it from `other`."""
        return Frame(
            Image.blend(self.y, other.y, share),
            Image.blend(self.u, other.u, share),
            Image.blend(self.v, other.v, share),
        )

    def cut(self, box: tuple[float, float, float, float], size: tuple[int, int]) -> Frame:
        """The part inside `box` (left, top, right, bottom; pixels, fractions count), at `size`."""
        half_box = (box[0] / 2, box[1] / 2, box[2] / 2, box[3] / 2)
        half = (size[0] // 2, size[1] // 2)
        bilinear = Image.Resampling.BILINEAR
        return Frame(
            self.y.resize(size, bilinear, box=box),
            self.u.resize(half, bilinear, box=half_box),
            self.v.resize(half, bilinear, box=half_box),
        )

    def paste(self, colour: tuple[int, int, int], mask: Image.Image, at: tuple[int, int]) -> None:
        """Lay a colour over the frame where `mask` (mode L) says; its place and size are even."""
        half_mask = mask.reduce(2)
        half_at = (at[0] // 2, at[1] // 2)
        self.y.paste(colour[0], at, mask)
        self.u.paste(colour[1], half_at, half_mask)
        self.v.paste(colour[2], half_at, half_mask)

    def jpeg(self) -> bytes:
        planes = (
            self.y.point(_LIGHT_FROM_VIDEO),
            self.u.point(_COLOUR_FROM_VIDEO).resize(self.size, Image.Resampling.BILINEAR),
            self.v.point(_COLOUR_FROM_VIDEO).resize(self.size, Image.Resampling.BILINEAR),
        )
        out = io.BytesIO()
        Image.merge("YCbCr", planes).save(out, "JPEG", quality=85)
        return out.getvalue()
