"""Which batches were cancelled: a cache that asks once for each batch every few seconds, however
many of its bundles pass. The mark itself stands in the monitor."""

from __future__ import annotations

import threading

from taskfleet.ports import Clock, TaskMonitor

REFRESH_S = 2.0
"""Seconds after which a batch is asked for again, so the most by which a cancellation is noticed
late."""
KEPT = 1_000
"""Most batches in the cache."""


class BatchWatch:
    """The cache. The same call to the monitor also records that a first task of the batch is about
    to start. Bundles of the 2014 form have no batch, so they are never cancelled."""

    def __init__(self, monitor: TaskMonitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock
        self._seen: dict[str, tuple[float, bool]] = {}
        self._lock = threading.Lock()

    def cancelled(self, batch_id: str) -> bool:
        """Whether no further task of the batch may start. Raises TransientError when the monitor
        does not answer."""
        if not batch_id:
            return False
        with self._lock:
            now = self._clock.now()
            read_at, cancelled = self._seen.pop(batch_id, (float("-inf"), False))
            if not cancelled and now - read_at >= REFRESH_S:
                batch = self._monitor.start_batch(batch_id, now)
                cancelled = batch is not None and batch.cancelled_at is not None
                read_at = now
            self._seen[batch_id] = (read_at, cancelled)
            while len(self._seen) > KEPT:
                del self._seen[next(iter(self._seen))]
            return cancelled
