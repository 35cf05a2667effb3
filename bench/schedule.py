"""Makespans of tasks with known durations on a number of slots. Pure. Owns the references that a
measured makespan is compared with: R. L. Graham, "Bounds on multiprocessing timing anomalies" (SIAM
J. Appl. Math. 17, 1969).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence


def list_makespan_s(durations_s: Iterable[float], slots: int) -> float:
    """Makespan if each task, in the order given, takes the slot that is free first. No
    scheduler that does not know the durations can guarantee a better ratio to the optimum."""
    free_at = [0.0] * slots
    for duration_s in durations_s:
        heapq.heapreplace(free_at, free_at[0] + duration_s)
    return max(free_at)


def lpt_makespan_s(durations_s: Iterable[float], slots: int) -> float:
    """Makespan of the list schedule with the longest task first: at most 4/3 of the optimum, and in
    practice close to it."""
    return list_makespan_s(sorted(durations_s, reverse=True), slots)


def lower_bound_s(durations_s: Sequence[float], slots: int) -> float:
    """A makespan that no schedule can beat: the mean load of a slot or the longest task."""
    return max(sum(durations_s) / slots, max(durations_s, default=0.0))
