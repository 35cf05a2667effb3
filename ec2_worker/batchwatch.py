"""Which batches were cancelled, at one read a batch every few seconds however many of its bundles
come by. Owns that cache; the mark itself is the monitor's."""

from __future__ import annotations

import threading

from taskfleet.ports import Clock, TaskMonitor

FRESH_S = 2.0
"""How late a worker may learn of a cancellation."""
KEPT = 1_000


class BatchWatch:
    """Also tells the monitor when a batch's first task is about to start: the same call answers
    both. Bundles of the 2014 form have no batch, which is never cancelled."""

    def __init__(self, monitor: TaskMonitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock
        self._seen: dict[str, tuple[float, bool]] = {}
        self._lock = threading.Lock()

    def cancelled(self, batch_id: str) -> bool:
        """Whether no further task of the batch may start. Raises TransientError."""
        if not batch_id:
            return False
        with self._lock:
            now = self._clock.now()
            read_at, cancelled = self._seen.pop(batch_id, (float("-inf"), False))
            if not cancelled and now - read_at >= FRESH_S:
                batch = self._monitor.start_batch(batch_id, now)
                cancelled = batch is not None and batch.cancelled_at is not None
                read_at = now
            self._seen[batch_id] = (read_at, cancelled)
            while len(self._seen) > KEPT:
                del self._seen[next(iter(self._seen))]
            return cancelled
