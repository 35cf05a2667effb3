"""How long known durations must take on so many slots. Pure. Owns the bounds that a makespan is
held against: R. L. Graham, "Bounds on multiprocessing timing anomalies" (SIAM J. Appl. Math. 17,
1969).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence


def list_makespan_s(durations_s: Iterable[float], slots: int) -> float:
    """Each task in turn on the slot that is free first: the best there is for whoever does not
    know the durations."""
    free_at = [0.0] * slots
    for duration_s in durations_s:
        heapq.heapreplace(free_at, free_at[0] + duration_s)
    return max(free_at)


def lpt_makespan_s(durations_s: Iterable[float], slots: int) -> float:
    """The longest first: within 4/3 of the optimum, and in practice nearly there."""
    return list_makespan_s(sorted(durations_s, reverse=True), slots)


def lower_bound_s(durations_s: Sequence[float], slots: int) -> float:
    """No schedule is shorter."""
    return max(sum(durations_s) / slots, max(durations_s, default=0.0))
