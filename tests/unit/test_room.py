"""The arithmetic of room: how many messages a worker asks for at a time."""

from __future__ import annotations

import pytest

from ec2_worker.room import (
    MAX_IN_HAND,
    PREFETCH_S,
    ROUND_TRIP_S,
    learned_slots_a_message,
    messages_wanted,
    next_free_s,
    share_left,
    share_of_slot,
)


@pytest.mark.parametrize(
    ("task_s", "share"),
    [
        (None, 1.0),
        (3600.0, 1.0),
        (PREFETCH_S, 1.0),
        (PREFETCH_S / 2, 0.5),
        (0.0, 20e-6 / PREFETCH_S),
    ],
)
def test_a_short_task_occupies_part_of_a_slot(task_s: float | None, share: float) -> None:
    assert share_of_slot(task_s) == pytest.approx(share)


@pytest.mark.parametrize(
    ("left_s", "share"),
    [
        (None, 1.0),
        (-0.1, 1.0),  # overdue
        (0.0, 0.0),
        (ROUND_TRIP_S, 0.0),
        ((ROUND_TRIP_S + PREFETCH_S) / 2, 0.5),
        (60.0, 1.0),
    ],
)
def test_a_slot_that_is_soon_free_counts_in_part(left_s: float | None, share: float) -> None:
    assert share_left(left_s) == pytest.approx(share)


@pytest.mark.parametrize(
    ("free", "incoming", "in_hand", "slots_a_message", "wanted"),
    [
        (16, 0, 0, 1.0, 10),  # One call returns at most ten.
        (3, 0, 0, 1.0, 3),
        (3, 2, 0, 1.0, 1),  # Two are on their way.
        (0.5, 0, 0, 1.0, 0),
        (0.5, 0, 0, 0.1, 5),  # Short tasks: half a slot takes five messages.
        (16, 0, MAX_IN_HAND - 4, 0.01, 4),
        (16, 0, MAX_IN_HAND, 0.01, 0),
        (4, 0, 0, 40.0, 1),  # One message fills more than all slots, but they are idle.
    ],
)
def test_it_asks_for_as_many_messages_as_its_slots_can_take(
    free: float, incoming: int, in_hand: int, slots_a_message: float, wanted: int
) -> None:
    assert (
        messages_wanted(
            free_slots=free, incoming=incoming, in_hand=in_hand, slots_a_message=slots_a_message
        )
        == wanted
    )


def test_it_waits_until_the_first_slot_is_nearly_free() -> None:
    assert next_free_s([1.0, None, 5.0]) == pytest.approx(1.0 - PREFETCH_S / 2, abs=0.01)
    assert next_free_s([None]) == pytest.approx(PREFETCH_S, abs=0.01)


def test_it_learns_how_many_slots_a_message_fills() -> None:
    learned = 1.0
    for _ in range(50):
        learned = learned_slots_a_message(learned, 8.0)
    assert learned == pytest.approx(8.0, rel=0.01)
