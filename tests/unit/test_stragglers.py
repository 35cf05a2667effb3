"""When a task is a straggler, and which of it and its second copy counts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from ec2_worker.stop import Stop
from ec2_worker.stragglers import FACTOR, FEWEST, NAMES_MAX, WINDOW, Durations, Race


def test_nobody_is_late_before_enough_durations_are_known() -> None:
    durations = Durations()
    for _ in range(FEWEST - 1):
        durations.note("work", 1.0)
    assert durations.late_after_s("work") is None
    durations.note("work", 1.0)
    assert durations.late_after_s("work") == FACTOR
    assert durations.late_after_s("other") is None


def test_a_few_long_tasks_do_not_make_all_long_ones_usual() -> None:
    durations = Durations()
    rng = random.Random(1)
    seconds = [1.0 + number / 100 for number in range(96)] + [100.0] * 4
    rng.shuffle(seconds)
    for each in seconds:
        durations.note("work", each)
    late_after_s = durations.late_after_s("work")
    assert late_after_s is not None
    assert FACTOR * 1.9 < late_after_s < FACTOR * 2


def test_old_durations_and_old_paces_are_forgotten() -> None:
    durations = Durations()
    for seconds in [9.0] * WINDOW + [1.0] * WINDOW:
        durations.note("work", seconds)
    assert durations.late_after_s("work") == FACTOR
    for number in range(NAMES_MAX):
        durations.note(f"other {number}", 1.0)
    assert durations.late_after_s("work") is None


@given(st.lists(st.booleans(), min_size=1))
def test_the_first_to_end_counts_and_the_other_is_told_to_end(ends: list[bool]) -> None:
    race = Race(Stop())
    counted = [race.ends(is_copy=is_copy) for is_copy in ends]
    assert counted == [is_copy is ends[0] for is_copy in ends]
    assert race.stop_of(is_copy=not ends[0]).event.is_set()
    assert not race.stop_of(is_copy=ends[0]).event.is_set()
    assert race.lost(is_copy=not ends[0])
    assert not race.lost(is_copy=ends[0])


def test_both_end_with_their_bundle_until_the_race_is_closed() -> None:
    bundle = Stop()
    race, over = Race(bundle), Race(bundle)
    over.close()
    bundle.stop()
    for is_copy in (False, True):
        assert race.stop_of(is_copy=is_copy).event.is_set()
        assert not over.stop_of(is_copy=is_copy).event.is_set()
