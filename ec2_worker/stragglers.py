"""Stragglers: tasks that take far longer than others of their kind. When nothing else waits, a
second copy of such a task starts on an idle slot of the same worker, and the first of the two to
end counts. Owns when a task is late, and which of the two counts; when a slot is idle belongs to
`ec2_worker.workload`. For kinds with `TaskKind.hedge` only.

Source: J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013, on
hedged requests.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from ec2_worker.stop import Stop

FACTOR = 3.0
"""A task is late after so many times the 95th percentile of its kind's durations."""
PERCENTILE = 0.95
WINDOW = 200
"""Latest durations that are remembered of a pace."""
FEWEST = 20
"""Durations without which nobody knows what is long."""
NAMES_MAX = 1_000
"""Most paces that are remembered."""


class Durations:
    """The latest durations of tasks by the name of their pace. For one thread at a time."""

    def __init__(self) -> None:
        self._by_name: dict[str, deque[float]] = {}

    def note(self, name: str, seconds: float) -> None:
        """Note how long a task took."""
        known = self._by_name.get(name)
        if known is None:
            if len(self._by_name) >= NAMES_MAX:
                del self._by_name[next(iter(self._by_name))]
            known = self._by_name[name] = deque(maxlen=WINDOW)
        known.append(seconds)

    def late_after_s(self, name: str) -> float | None:
        """Returns the seconds after which a task is late; None while too little is known."""
        known = self._by_name.get(name, ())
        if len(known) < FEWEST:
            return None
        return FACTOR * sorted(known)[int(PERCENTILE * len(known))]


class Race:
    """A task and, once it is late, its second copy. The first to end counts, and the other is told
    to end. Its methods may be called from any thread.

    stopping: the request that all tasks of the bundle end.
    copied: whether the copy was started.
    """

    def __init__(self, stopping: Stop) -> None:
        self.copied = False
        self._stops = {is_copy: Stop() for is_copy in (False, True)}
        self._winner: bool | None = None
        self._lock = threading.Lock()
        self._take_back: list[Callable[[], None]] = [
            stopping.on_stop(stop.stop) for stop in self._stops.values()
        ]

    def stop_of(self, *, is_copy: bool) -> Stop:
        """Returns the request that the task, or its copy, ends."""
        return self._stops[is_copy]

    def ends(self, *, is_copy: bool) -> bool:
        """Returns whether the one that has just ended counts, and then tells the other to end."""
        with self._lock:
            if self._winner is None:
                self._winner = is_copy
        if self._winner is not is_copy:
            return False
        self._stops[not is_copy].stop()
        return True

    def lost(self, *, is_copy: bool) -> bool:
        """Returns whether the other one has ended first."""
        return self._winner is not None and self._winner is not is_copy

    def close(self) -> None:
        """Forget the bundle's request, once both have ended."""
        for take_back in self._take_back:
            take_back()
