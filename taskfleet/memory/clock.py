"""A clock for tests, whose time passes only in calls. Owns this virtual time and waiting in it."""

from __future__ import annotations

import threading

from taskfleet.ports import Clock


class ManualClock:
    """A `Clock` whose `sleep` returns at once and moves the time. Waiting on an empty `MemoryQueue`
    with this clock moves the time too. Safe for any number of threads."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += max(0.0, seconds)

    def set(self, now: float) -> None:
        """Set the time, forwards or backwards."""
        with self._lock:
            self._now = now


def wait_for_change(clock: Clock, changed: threading.Condition, seconds: float) -> None:
    """Wait until `changed` is notified, for at most `seconds`. The caller holds `changed`. A
    `ManualClock` moves by `seconds` instead, without blocking."""
    if isinstance(clock, ManualClock):
        clock.sleep(seconds)
    else:
        changed.wait(seconds)
