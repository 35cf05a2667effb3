"""Captions: text is rendered to masks, which are laid over a frame. Owns fonts, line breaks and
placement; not frames.

Pillow draws the text, because ffmpeg's drawtext filter would expand expressions in it.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

from animoto.frame import BLACK, Frame

_WHITE = (235, 128, 128)
_FONTS = ("DejaVuSans.ttf", "NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf")
"""System fonts in order of preference; Pillow's own font, which has only Latin letters, is the
last resort."""
_LINES_MAX = 4
"""Most lines of one caption; what does not fit is cut off with an ellipsis."""
_LINE_HEIGHT = 1.3
"""Distance between two lines, as a multiple of the font size."""
_NO_CHARACTER = "\U0010ffff"
"""A code point that no font has a letter for."""

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


@dataclass(frozen=True)
class Caption:
    """A rendered caption: the mask of its letters, the mask of their dark outline, and the even
    pixel position (left, top) of both."""

    letters: Image.Image
    outline: Image.Image
    position: tuple[int, int]

    def draw(self, frame: Frame) -> None:
        """Draws the caption onto `frame`, which is modified."""
        frame.paste(BLACK, self.outline, self.position)
        frame.paste(_WHITE, self.letters, self.position)


def render(text: str, size: tuple[int, int]) -> Caption | None:
    """Returns `text` in white with a dark outline, centred near the bottom of a frame of `size`
    (pixels), or None if `text` is blank."""
    text = text.strip()
    if not text:
        return None
    width, height = size
    points = max(12, round(min(size) / 16))
    font = _font(text, points)
    outline_px = max(2, points // 12)
    lines = _wrap(text, font, width * 9 // 10)
    text_height = len(lines) * points * _LINE_HEIGHT
    box_height = 2 * round((text_height + 2 * outline_px + points * 0.3) / 2)
    box = (width, box_height)
    letters = _mask(lines, font, points, box, outline_px=0, margin=outline_px)
    outline = _mask(lines, font, points, box, outline_px=outline_px, margin=outline_px)
    top = 2 * ((height - box_height - height // 20) // 2)
    return Caption(letters, outline, (0, top))


def _mask(
    lines: list[str],
    font: Font,
    points: int,
    size: tuple[int, int],
    *,
    outline_px: int,
    margin: int,
) -> Image.Image:
    """Returns an image of mode L and `size` in which the centred lines are 255; `margin` is the
    distance in pixels of the first line from the top."""
    mask = Image.new("L", size, 0)
    draw = ImageDraw.Draw(mask)
    for number, line in enumerate(lines):
        left = (size[0] - font.getlength(line)) / 2
        top = margin + number * points * _LINE_HEIGHT
        draw.text((left, top), line, fill=255, font=font, stroke_width=outline_px)
    return mask


def _wrap(text: str, font: Font, width: int) -> list[str]:
    """Breaks `text` into at most `_LINES_MAX` lines no wider than `width` pixels: at blanks, or
    inside a word that is wider than a line by itself."""
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
    """Returns the first font that has every letter of `text`, else the first font."""
    fonts = _fonts(points)
    return next((font for font in fonts if _covers(font, text)), fonts[0])


@functools.lru_cache(maxsize=8)
def _fonts(points: int) -> tuple[Font, ...]:
    """Returns the installed fonts of `_FONTS`, then Pillow's own, at a size of `points`."""
    installed: list[Font] = []
    for name in _FONTS:
        try:
            installed.append(ImageFont.truetype(name, points))
        except OSError:
            continue
    return (*installed, ImageFont.load_default(points))


def _covers(font: Font, text: str) -> bool:
    """Returns whether `font` has every letter of `text`."""
    # A font draws the same box for every letter that it lacks.
    missing = bytes(font.getmask(_NO_CHARACTER))
    return all(char.isspace() or bytes(font.getmask(char)) != missing for char in set(text))
