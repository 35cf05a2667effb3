"""A clock that moves only when told. Owns virtual time, and what waiting means in it."""

from __future__ import annotations

import threading

from taskfleet.ports import Clock


class ManualClock:
    """Whoever sleeps moves it, at once; so does whoever polls an empty `MemoryQueue` on it."""

    def __init__(self, now: float = 1_700_000_000.0) -> None:
        self._now = now
        self._lock = threading.Lock()

    def now(self) -> float:
        return self._now

    def sleep(self, seconds: float) -> None:
        with self._lock:
            self._now += max(0.0, seconds)

    def set(self, now: float) -> None:
        """Backwards too, as clocks of other machines are."""
        with self._lock:
            self._now = now


def wait_for_change(clock: Clock, changed: threading.Condition, seconds: float) -> None:
    """Let at most `seconds` pass on `clock`, fewer when `changed`, which the caller holds, is
    notified. Never blocks on a `ManualClock`."""
    if isinstance(clock, ManualClock):
        clock.sleep(seconds)
    else:
        changed.wait(seconds)
