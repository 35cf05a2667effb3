from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from animoto import timing


def moved(number: int, pieces: list[tuple[int, int, int]], group: int) -> int:
    """Returns the new number of an encoded frame: the rule that ffmpeg is given, in Python."""
    holds = -(-number // group)
    first, offset, step = [piece for piece in pieces if piece[0] <= holds][-1]
    return number + offset + (holds - first) * step


@given(st.lists(st.floats(0.2, 60), min_size=1, max_size=500), st.sampled_from([25, 30]))
def test_slots_do_not_drift(seconds: list[float], fps: int) -> None:
    slots = timing.slots(seconds, fps)
    for at, end in zip(accumulate(slots), accumulate(seconds), strict=True):
        assert abs(at - end * fps) <= 0.5001


def test_equal_durations_make_equal_slots() -> None:
    assert timing.slots([2.4] * 60, 25) == [60] * 60


@pytest.mark.parametrize(
    ("shortest", "group"), [(60, 16), (31, 16), (30, 8), (15, 8), (14, 4), (7, 4), (6, 2), (2, 2)]
)
def test_a_fade_takes_less_than_half_of_the_shortest_slot(shortest: int, group: int) -> None:
    assert timing.group([100, shortest, 80]) == group
    assert shortest == 2 or group - 1 < shortest / 2


@given(st.lists(st.integers(5, 90), min_size=1, max_size=40))
def test_stretched_frames_are_shown_in_their_slots(slots: list[int]) -> None:
    group = timing.group(slots)
    pieces = timing.stretch(slots, group)
    starts = [0, *accumulate(slots)]
    for place, start in enumerate(starts[:-1]):
        assert moved(place * group, pieces, group) == start
        for step in range(1, group):
            expected = start + slots[place] - group + step
            assert moved(place * group + step, pieces, group) == expected
    assert moved(len(slots) * group - 1, pieces, group) == starts[-1] - 1


def test_equal_slots_share_a_piece() -> None:
    assert timing.stretch([60] * 500, 16) == [(0, 0, 44)]
    assert timing.stretch([60, 60, 61, 60], 16) == [(0, 0, 44), (2, 88, 45), (3, 133, 44)]


def test_slots_fitted_to_music_fill_it() -> None:
    assert timing.fitted([1, 3], 20) == [5, 15]
