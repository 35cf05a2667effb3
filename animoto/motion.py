"""The Ken Burns effect: the view moves slowly over a still picture. Owns the path of the view; not
decoding of pictures. They come in as frames larger than the movie, so nothing is ever enlarged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from animoto.caption import Caption
from animoto.frame import Frame

OVERSIZE = 1.2
"""Width and height of a picture's frame, relative to the movie's."""
_NEAREST = 1 / OVERSIZE
"""Width and height of the view at its nearest, relative to the picture's frame."""
_DRIFTS = ((0.5, 0.5), (0.2, 0.4), (0.8, 0.6), (0.5, 0.2))
"""Positions of the nearest view, as fractions of the free space to its left and above it."""


def oversized(size: tuple[int, int]) -> tuple[int, int]:
    """Returns the even width and height of a picture's frame for a movie of `size` pixels."""
    return 2 * round(size[0] * OVERSIZE / 2), 2 * round(size[1] * OVERSIZE / 2)


def view(index: int, elapsed: float, frame: tuple[int, int]) -> tuple[float, float, float, float]:
    """Returns the part of a picture's frame that is visible, as a box in pixels.

    index: of the picture. The view moves towards pictures of even index and away from others.
    elapsed: the fraction of the picture's time that is over, 0 to 1.
    frame: width and height of the picture's frame in pixels.
    """
    nearness = elapsed if index % 2 == 0 else 1 - elapsed
    scale = 1 - nearness * (1 - _NEAREST)
    drift = _DRIFTS[index % len(_DRIFTS)]
    left = frame[0] * (1 - scale) * drift[0]
    top = frame[1] * (1 - scale) * drift[1]
    return left, top, left + frame[0] * scale, top + frame[1] * scale


@dataclass
class Shot:
    """One moving picture, visible from the first frame of the fade into it to the last frame of its
    slot.

    index: of the picture in the params.
    picture: a frame of `oversized` size.
    caption: drawn over the moving picture; does not move itself.
    lead: frames of the fade before its slot.
    slot: frames of its slot.
    """

    index: int
    picture: Frame
    caption: Caption | None
    lead: int
    slot: int

    def at(self, frame: int, size: tuple[int, int]) -> Frame:
        """Returns what is visible `frame` frames after the slot began (negative during the fade
        before), as a frame of `size`."""
        elapsed = (frame + self.lead) / max(1, self.lead + self.slot - 1)
        visible = self.picture.cut(view(self.index, elapsed, self.picture.size), size)
        if self.caption is not None:
            self.caption.draw(visible)
        return visible


def slot_frames(
    shot: Shot, following: Shot | None, group: int, size: tuple[int, int]
) -> Iterator[Frame]:
    """Yields every frame of the shot's slot, of `size` pixels. The last `group - 1` frames fade to
    the following shot, if there is one."""
    hold = shot.slot - (group - 1)
    for number in range(shot.slot):
        frame = shot.at(number, size)
        if following is not None and number >= hold:
            step = number - hold + 1
            frame = frame.blend(following.at(step - group, size), step / group)
        yield frame
