"""When each picture is shown, counted in frames. Owns the arithmetic of slots, fades and the
variable frame rate; not its form as ffmpeg's arguments (`animoto.command`).

A slot is a picture's part of the movie: a hold, in which the picture stands alone, then the fade to
the next picture. Each picture is encoded as a group of frames: a hold of one frame and
`group - 1` frames of fade. The holds get their real length afterwards, when time stamps are moved
without decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

GROUPS = (16, 8, 4, 2)
"""Possible numbers of encoded frames per picture; powers of two, because B-frames then predict a
linear fade exactly."""


def slots(seconds: Sequence[float], fps: int) -> list[int]:
    """Returns the frames of each slot, given its seconds.

    The ends of the slots are rounded, not their lengths, so errors do not add up: the movie is as
    long as its slots together, to within half a frame.
    """
    ends = [round(end * fps) for end in accumulate(seconds)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def group(frames: Sequence[int]) -> int:
    """Returns the encoded frames per picture for slots of so many `frames`: the largest of `GROUPS`
    whose fade takes less than half of the shortest slot, else the smallest of `GROUPS`."""
    shortest = min(frames)
    return next((size for size in GROUPS if 2 * (size - 1) < shortest), GROUPS[-1])


def fitted(seconds: Sequence[float], total_s: float) -> list[float]:
    """Returns the slots, in seconds, scaled so that together they take `total_s`."""
    factor = total_s / sum(seconds)
    return [slot * factor for slot in seconds]


def stretch(frames: Sequence[int], group: int) -> list[tuple[int, int, int]]:
    """Returns how encoded frames move in time, as pieces `(first, offset, step)` in order.

    frames: the length of each slot.
    group: encoded frames per picture.

    A piece holds for the frames that follow k holds, where k is at least `first` and below the next
    piece's `first`. Such a frame is shown `offset + (k - first) * step` frames later than it was
    encoded. Neighbouring slots of equal length share a piece.
    """
    pieces: list[tuple[int, int, int]] = []
    offset = 0
    for index, length in enumerate(frames):
        step = length - group
        if not pieces or pieces[-1][2] != step:
            pieces.append((index, offset, step))
        offset += step
    return pieces
