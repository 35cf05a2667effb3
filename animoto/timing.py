"""When each picture is seen, counted in frames. Owns the arithmetic of slots, fades and the
variable frame rate; not ffmpeg's spelling of it (`animoto.command`).

A slot is what a picture has of the movie: `hold` frames of itself, then the fade to the next one.
The encoder sees a fade of `group` steps per picture and a hold of one frame; stretching the
holds to their length happens afterwards, without decoding, by moving time stamps.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

GROUPS = (16, 8, 4, 2)
"""Frames from one picture to the next while encoding; powers of two, since a linear fade is then
what B-frames predict."""


def slots(seconds: Sequence[float], fps: int) -> list[int]:
    """Frames of each slot. Ends are rounded, not lengths, so that nothing drifts: the movie is as
    long as its slots together, within half a frame."""
    ends = [round(end * fps) for end in accumulate(seconds)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def group(frames: Sequence[int]) -> int:
    """Steps of the fade: as many as leave each picture more than half of its slot to itself, at
    most 16."""
    shortest = min(frames)
    return next((size for size in GROUPS if 2 * (size - 1) < shortest), GROUPS[-1])


def fitted(seconds: Sequence[float], total_s: float) -> list[float]:
    """The slots scaled to `total_s` together."""
    factor = total_s / sum(seconds)
    return [slot * factor for slot in seconds]


def stretch(frames: Sequence[int], group: int) -> list[tuple[int, int, int]]:
    """How encoded frames move: pieces `(first, offset, step)`, in order. A frame that follows k
    holds, `k >= first` and below the next piece's `first`, comes `offset + (k - first) * step`
    frames later than it was encoded; slots of equal length share a piece."""
    pieces: list[tuple[int, int, int]] = []
    offset = 0
    for place, length in enumerate(frames):
        step = length - group
        if not pieces or pieces[-1][2] != step:
            pieces.append((place, offset, step))
        offset += step
    return pieces
