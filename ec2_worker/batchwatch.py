"""The batches that the worker has bundles of: a cache that asks once for each batch every few
seconds, however many of its bundles pass. The records themselves stand in the monitor."""

from __future__ import annotations

import threading

from taskfleet.batch import BatchRecord
from taskfleet.ports import Clock, TaskMonitor

REFRESH_S = 2.0
"""Seconds after which a batch is asked for again, so the most by which a cancellation is noticed
late."""
KEPT = 1_000
"""Most batches in the cache."""


class BatchWatch:
    """The cache. Asking for a batch also records that a task of it is about to start, if none has
    started before. So the first question about a batch writes; every later one is a read."""

    def __init__(self, monitor: TaskMonitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock
        self._seen: dict[str, tuple[float, BatchRecord | None]] = {}
        self._lock = threading.Lock()

    def fault(self, batch_id: str, client_id: str, bundle: int, last_index: int) -> str | None:
        """Returns why no such bundle can exist: the batch is unknown, belongs to another client, or
        has fewer bundles or tasks. None if it can. Raises TransientError when the monitor does not
        answer."""
        with self._lock:
            batch = self._look(batch_id)
            if batch is None or not batch.has(bundle, last_index):  # it may have grown since
                batch = self._look(batch_id, again=True)
        if batch is None:
            return f"there is no batch {batch_id}; submit tasks through the API"
        if batch.client_id != client_id:
            return f"batch {batch_id} belongs to another client"
        if not batch.has(bundle, last_index):
            return f"batch {batch_id} has no bundle {bundle} with a task {last_index}"
        return None

    def cancelled(self, batch_id: str) -> bool:
        """Returns whether no further task of the batch may start. Bundles of the 2014 form have no
        batch, so they are never cancelled. Raises TransientError when the monitor does not
        answer."""
        if not batch_id:
            return False
        with self._lock:
            batch = self._look(batch_id)
        return batch is not None and batch.cancelled_at is not None

    def _look(self, batch_id: str, *, again: bool = False) -> BatchRecord | None:
        """The batch as the cache knows it, asked for if that is old. A cancelled batch stays so."""
        now = self._clock.now()
        read_at, batch = self._seen.pop(batch_id, (float("-inf"), None))
        final = batch is not None and batch.cancelled_at is not None
        if again or (not final and now - read_at >= REFRESH_S):
            seen = batch is not None
            batch, read_at = self._monitor.start_batch(batch_id, now, seen=seen), now
        self._seen[batch_id] = (read_at, batch)
        while len(self._seen) > KEPT:
            del self._seen[next(iter(self._seen))]
        return batch
