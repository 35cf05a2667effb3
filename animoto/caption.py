"""Captions: text to a mask, laid over a frame. Owns fonts, wrapping and place. Pillow draws the
text; ffmpeg's drawtext would read it as a program."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from animoto.frame import BLACK, Frame

_WHITE = (235, 128, 128)
_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf")
"""Looked for on the system in this order; Pillow's own, which knows only Latin, comes last."""
_LINES_MAX = 4
_MISSING = "\U0010ffff"

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Caption:
    """Masks of the letters and of their dark rim, and the even place of both."""

    letters: Image.Image
    rim: Image.Image
    at: tuple[int, int]

    def draw(self, frame: Frame) -> None:
        """Over the frame, which is changed."""
        frame.paste(BLACK, self.rim, self.at)
        frame.paste(_WHITE, self.letters, self.at)


def render(text: str, size: tuple[int, int]) -> Caption | None:
    """White with a dark rim, centred near the bottom of a frame of `size`; None without text."""
    text = " ".join(text.split(" ")).strip()
    if not text:
        return None
    width, height = size
    points = max(12, round(min(size) / 16))
    font = _font(text, points)
    rim_px = max(2, points // 12)
    lines = _wrap(text, font, width * 9 // 10)
    box_height = 2 * round((len(lines) * points * 1.3 + 2 * rim_px + points * 0.3) / 2)
    letters = _mask(lines, font, points, (width, box_height), rim_px=0, margin=rim_px)
    rim = _mask(lines, font, points, (width, box_height), rim_px=rim_px, margin=rim_px)
    top = 2 * ((height - box_height - height // 20) // 2)
    return Caption(letters, rim, (0, top))


def _mask(
    lines: list[str],
    font: Font,
    points: int,
    size: tuple[int, int],
    *,
    rim_px: int,
    margin: int,
) -> Image.Image:
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    for number, line in enumerate(lines):
        left = (size[0] - font.getlength(line)) / 2
        top = margin + number * points * 1.3
        draw.text((left, top), line, fill=255, font=font, stroke_width=rim_px)
    return mask


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Lines no wider than `width` pixels, broken at blanks where there are any."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}".strip()
            if line and font.getlength(joined) > width:
                lines.append(line)
                joined = word
            while font.getlength(joined) > width and len(joined) > 1:
                fitting = next(
                    n
                    for n in range(len(joined), 0, -1)
                    if n == 1 or font.getlength(joined[:n]) <= width
                )
                lines.append(joined[:fitting])
                joined = joined[fitting:]
            line = joined
        lines.append(line)
    if len(lines) > _LINES_MAX:
        last = lines[_LINES_MAX - 1]
        while font.getlength(last + "…") > width:
            last = last[:-1]
        lines = [*lines[: _LINES_MAX - 1], last.rstrip() + "…"]
    return lines


def _font(text: str, points: int) -> Font:
    """The first font that has all the letters, else the first there is."""
    fonts = _fonts(points)
    return next((font for font in fonts if _covers(font, text)), fonts[0])


@functools.lru_cache(maxsize=8)
def _fonts(points: int) -> tuple[Font, ...]:
    found: list[Font] = []
    for name in _FONTS:
        try:
            found.append(ImageFont.truetype(name, points))
        except OSError:
            continue
    return (*found, ImageFont.load_default(points))


def _covers(font: Font, text: str) -> bool:
    """A font draws the same box for every letter that it lacks."""
    missing = bytes(font.getmask(_MISSING))
    return all(char.isspace() or bytes(font.getmask(char)) != missing for char in set(text))
