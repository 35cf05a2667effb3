"""Ken Burns: a slow push over a still picture. Owns the path of the view; pictures come in as
frames somewhat larger than the movie, so that nothing is ever enlarged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from animoto.caption import Caption
from animoto.frame import Frame

OVERSIZE = 1.2
"""How much larger than the movie a picture is composed."""
_NEAREST = 1 / OVERSIZE
_DRIFTS = ((0.5, 0.5), (0.2, 0.4), (0.8, 0.6), (0.5, 0.2))
"""Where the near view lies, as shares of the room there is to the right and below."""


def oversized(size: tuple[int, int]) -> tuple[int, int]:
    """The even width and height that a picture is composed at."""
    return 2 * round(size[0] * OVERSIZE / 2), 2 * round(size[1] * OVERSIZE / 2)


def view(number: int, share: float, frame: tuple[int, int]) -> tuple[float, float, float, float]:
    """The box of the composed picture that is seen once `share`, 0 to 1, of its time is over.
    Even pictures are approached, odd ones are left, each towards another place."""
    near = share if number % 2 == 0 else 1 - share
    scale = 1 - near * (1 - _NEAREST)
    drift = _DRIFTS[number % len(_DRIFTS)]
    left = frame[0] * (1 - scale) * drift[0]
    top = frame[1] * (1 - scale) * drift[1]
    return left, top, left + frame[0] * scale, top + frame[1] * scale


@dataclass
class Shot:
    """One picture on its way: seen from the first frame of the fade before its slot to the last
    frame of its slot."""

    number: int
    picture: Frame
    caption: Caption | None
    lead: int
    slot: int

    def at(self, frame: int, size: tuple[int, int]) -> Frame:
        """How it looks `frame` frames after its slot began; negative during the fade before."""
        share = (frame + self.lead) / max(1, self.lead + self.slot - 1)
        seen = self.picture.cut(view(self.number, share, self.picture.size), size)
        if self.caption is not None:
            self.caption.draw(seen)
        return seen


def slot_frames(
    shot: Shot, following: Shot | None, group: int, size: tuple[int, int]
) -> Iterator[Frame]:
    """Every frame of the shot's slot; the last `group - 1` fade to the following shot."""
    hold = shot.slot - (group - 1)
    for frame in range(shot.slot):
        seen = shot.at(frame, size)
        if following is not None and frame >= hold:
            step = frame - hold + 1
            seen = seen.blend(following.at(step - group, size), step / group)
        yield seen
