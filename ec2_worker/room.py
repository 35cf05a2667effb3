"""How much work a worker has room for, as arithmetic on slots. Pure: no locks and no clock.

A slot that will be free within a round trip counts as free. A slot that will be free a little later
counts in part, and a waiting task that is short takes up a slot in part. So the next messages
arrive just when slots need them.
"""

from __future__ import annotations

from collections.abc import Iterable

from taskfleet.bundle import QUICKEST_TASK_S
from taskfleet.ports import CALL_MAX_MESSAGES

PREFETCH_S = 0.25
"""How far ahead the intake looks, in seconds."""
ROUND_TRIP_S = 0.08
"""Seconds for a message to be received and claimed."""
MAX_IN_HAND = 32
"""Most bundles in hand, whatever their size: the rest is for other workers."""
_MESSAGE_WEIGHT = 0.2
"""Weight of the newest message in the learned slots of one message."""


def share_of_slot(task_s: float | None) -> float:
    """Fraction of a slot that a task of so many seconds occupies within the prefetch window; 1 if
    its duration is unknown."""
    if task_s is None or task_s >= PREFETCH_S:
        return 1.0
    return max(task_s, QUICKEST_TASK_S) / PREFETCH_S


def share_left(left_s: float | None) -> float:
    """Fraction of its slot that running work with so many seconds left occupies within the prefetch
    window; 1 if the time left is unknown or the work is overdue."""
    if left_s is None or left_s < 0:
        return 1.0
    return min(1.0, max(0.0, left_s - ROUND_TRIP_S) / (PREFETCH_S - ROUND_TRIP_S))


def next_free_s(lefts_s: Iterable[float | None]) -> float:
    """Seconds until the first running work comes within half the prefetch window, given the seconds
    that each has left, None where unknown."""
    ahead = [left_s - PREFETCH_S / 2 for left_s in lefts_s if left_s is not None]
    return min((s for s in ahead if s > 0), default=PREFETCH_S) + 0.001


def messages_wanted(
    *, free_slots: float, incoming: int, in_hand: int, slots_a_message: float
) -> int:
    """How many messages to receive, 0 to `CALL_MAX_MESSAGES`.

    free_slots: slots that are free, without regard to messages under way.
    incoming: messages asked for that are not in hand yet.
    in_hand: bundles in hand.
    slots_a_message: slots that the tasks of one message take up, as learned.
    """
    free = free_slots - incoming * slots_a_message
    room = MAX_IN_HAND - in_hand - incoming
    if free < min(1.0, slots_a_message) or room <= 0:
        return 0
    return max(1, min(CALL_MAX_MESSAGES, room, int(free / slots_a_message)))


def learned_slots_a_message(before: float, newest: float) -> float:
    """The learned slots of one message after one more message was seen."""
    return before + _MESSAGE_WEIGHT * (max(newest, 0.01) - before)
