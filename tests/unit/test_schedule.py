"""The schedules that measured makespans are compared with."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.schedule import list_makespan_s, lower_bound_s, lpt_makespan_s


@pytest.mark.parametrize(
    ("durations_s", "slots", "in_order_s", "longest_first_s"),
    [
        ([], 2, 0, 0),
        ([3], 2, 3, 3),
        ([1, 1, 1, 1], 2, 2, 2),
        ([1, 1, 2], 2, 3, 2),
        ([2, 2, 3, 3, 4], 3, 6, 5),
        # Graham's worst case for the longest task first; the optimum is 9.
        ([5, 5, 4, 4, 3, 3, 3], 3, 11, 11),
    ],
)
def test_makespans(
    durations_s: list[float], slots: int, in_order_s: float, longest_first_s: float
) -> None:
    assert list_makespan_s(durations_s, slots) == in_order_s
    assert lpt_makespan_s(durations_s, slots) == longest_first_s


@given(st.lists(st.integers(1, 1000), min_size=1), st.integers(1, 20))
def test_no_schedule_beats_the_bound_and_grahams_ratios_hold(
    durations: list[int], slots: int
) -> None:
    bound = lower_bound_s(durations, slots)
    longest = max(durations)
    assert bound <= lpt_makespan_s(durations, slots)
    for makespan in (lpt_makespan_s(durations, slots), list_makespan_s(durations, slots)):
        assert makespan <= sum(durations) / slots + longest * (1 - 1 / slots) + 1e-9
