"""`TaskMonitor` in memory."""

from __future__ import annotations

import bisect
import threading
import zlib
from collections.abc import Collection, Mapping, Sequence

import msgspec
from msgspec.structs import replace

from taskfleet.batch import (
    PAGE_BUNDLES,
    BatchRecord,
    Mark,
    Tally,
    Upload,
    page_cursor,
    read_page_cursor,
)
from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import job_id
from taskfleet.errors import LeaseLost
from taskfleet.lease import BundleStatus, ClaimOutcome, Lease, decide_claim
from taskfleet.pace import Pace, Sample
from taskfleet.ports import Added, BatchPage, BundleRecord, Claim, Clock, Counted
from taskfleet.quote import Quote
from taskfleet.reuse import KeptResult
from taskfleet.task import Task, TaskResult


class _Item:
    """A bundle's item. It keeps its owner when the bundle is released or done, so that a repeated
    release or commit is recognised."""

    __slots__ = ("attempt", "expires_at", "owner", "results", "sealed", "status", "tasks")

    def __init__(self) -> None:
        self.status = BundleStatus.QUEUED
        self.owner = ""
        self.attempt = 0
        self.expires_at = 0.0
        self.tasks: list[Task] = []
        self.results: list[TaskResult] = []
        self.sealed: int | None = None

    @property
    def lease(self) -> Lease | None:
        if self.status is not BundleStatus.RUNNING:
            return None
        return Lease(self.owner, self.attempt, self.expires_at)

    @property
    def checksum(self) -> int:
        if not self.tasks:
            return 0
        return zlib.crc32(msgspec.json.encode((self.tasks, self.results)))


class MemoryMonitor:
    """Implements `taskfleet.ports.TaskMonitor`. Safe for any number of threads."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._items: dict[str, _Item] = {}
        self._batches: dict[str, BatchRecord] = {}
        self._by_client: dict[str, list[tuple[float, str]]] = {}  # (created_at, batch_id), sorted
        self._counted: dict[str, set[int]] = {}
        self._paces: dict[str, Pace] = {}
        self._kept: dict[str, KeptResult] = {}

    # --- bundles ---

    def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
        with self._lock:
            now = self._clock.now()
            item = self._items.get(job_id)
            if item is None:
                item = self._items[job_id] = _Item()
            outcome = decide_claim(
                item.status, item.owner, item.expires_at, claimant=owner, now=now
            )
            mine = item.status is BundleStatus.RUNNING and item.owner == owner
            if outcome is ClaimOutcome.ACQUIRED and not (mine and item.expires_at >= now):
                item.status = BundleStatus.RUNNING
                item.owner = owner
                item.attempt += 1
                item.expires_at = now + lease_s
            return Claim(outcome, item.lease, item.results, item.checksum)

    def renew(
        self,
        job_id: str,
        lease: Lease,
        *,
        lease_s: float,
        tasks: Sequence[Task],
        results: Sequence[TaskResult],
    ) -> Lease:
        with self._lock:
            item = self._held(job_id, lease, target=BundleStatus.RUNNING)
            item.expires_at = self._clock.now() + lease_s
            item.tasks, item.results = list(tasks), list(results)
            return Lease(item.owner, item.attempt, item.expires_at)

    def commit(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> int:
        with self._lock:
            item = self._held(job_id, lease, target=BundleStatus.DONE)
            if item.status is BundleStatus.RUNNING:
                item.status = BundleStatus.DONE
                item.tasks, item.results = list(tasks), list(results)
                item.sealed = item.checksum
            return item.sealed or 0

    def release(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> None:
        with self._lock:
            item = self._held(job_id, lease, target=BundleStatus.QUEUED)
            if item.status is BundleStatus.RUNNING:
                item.status = BundleStatus.QUEUED
                item.attempt -= 1
                item.tasks, item.results = list(tasks), list(results)

    def unclaim(self, job_id: str, *, owner: str) -> None:
        with self._lock:
            item = self._items.get(job_id)
            if item and item.owner == owner and item.status is BundleStatus.RUNNING:
                item.status = BundleStatus.QUEUED
                item.attempt -= 1

    def _held(self, job_id: str, lease: Lease, *, target: BundleStatus) -> _Item:
        """Returns the item if `lease` holds it, or if an earlier call with `lease` has already set
        the status `target`. Raises LeaseLost otherwise."""
        item = self._items.get(job_id)
        if item is not None and item.owner == lease.owner:
            if item.status is BundleStatus.RUNNING and item.attempt == lease.attempt:
                return item
            if item.status is target and target is not BundleStatus.RUNNING:
                return item
        raise LeaseLost(f"bundle {job_id} is no longer held by attempt {lease.attempt}")

    def bundles(self, job_ids: Sequence[str]) -> list[BundleRecord]:
        with self._lock:
            return [
                BundleRecord(
                    job_id,
                    item.status,
                    item.lease,
                    item.tasks,
                    item.results,
                    item.checksum,
                    item.sealed,
                )
                for job_id in job_ids
                if (item := self._items.get(job_id)) is not None
            ]

    # --- batches ---

    def create_batch(self, batch: BatchRecord) -> BatchRecord | None:
        with self._lock:
            recorded = self._batches.setdefault(batch.batch_id, batch)
            if recorded is not batch:
                return recorded
            entries = self._by_client.setdefault(batch.client_id, [])
            bisect.insort(entries, (batch.created_at, batch.batch_id))
            self._counted[batch.batch_id] = set()
            return None

    def batch(self, batch_id: str) -> BatchRecord | None:
        return self._batches.get(batch_id)

    def batches(self, client_id: str, *, limit: int, cursor: str | None) -> BatchPage:
        before = None if cursor is None else read_page_cursor(cursor)
        with self._lock:
            entries = self._by_client.get(client_id, [])
            end = len(entries) if before is None else bisect.bisect_left(entries, before)
            start = max(0, end - limit)
            batches = [self._batches[batch_id] for _, batch_id in reversed(entries[start:end])]
        return BatchPage(batches, page_cursor(*entries[start]) if 0 < start < end else None)

    def add_part(
        self,
        batch_id: str,
        *,
        first: int,
        tasks: int,
        bundles: int,
        closed: bool,
        added: Added | None = None,
        kinds: Collection[str] = (),
    ) -> BatchRecord | None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None or batch.cancelled_at is not None or batch.enqueued != first:
                return None
            if added is not None and (
                batch.client_id != added.client_id or batch.upload is not None
            ):
                return None
            if batch.total == first + tasks and batch.closed == closed:
                known = added is None or batch.parts[-1:] == (added.part,)
                return batch if known else None
            if batch.closed or batch.total != first:
                return None
            grown = replace(
                batch,
                total=first + tasks,
                bundles=batch.bundles + bundles,
                closed=closed,
                kinds=tuple(sorted({*batch.kinds, *kinds})),
            )
            if added is not None:
                if grown.bundles > added.max_bundles:
                    return None
                grown = replace(
                    grown,
                    parts=(*batch.parts, added.part),
                    kept=added.kept,
                    added_at=added.at,
                    ended_before=batch.tally.total,
                    closed_at=added.at if closed else None,
                )
            self._batches[batch_id] = grown
            return grown

    def close_batch(self, batch_id: str, at: float, *, client_id: str) -> BatchRecord | None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is not None and batch.is_open and batch.client_id == client_id:
                batch = self._batches[batch_id] = replace(batch, closed=True, closed_at=at)
            return batch

    def record_enqueued(
        self,
        batch_id: str,
        tasks: int,
        spend: Spend = NOTHING,
        *,
        forget: bool = False,
        quote: Quote | None = None,
    ) -> None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is not None and batch.enqueued < tasks:
                self._batches[batch_id] = replace(
                    batch,
                    enqueued=tasks,
                    spend=batch.spend + spend,
                    parts=(*batch.parts[:1], *batch.parts[2:]) if forget else batch.parts,
                    kept=None,
                    quote=batch.quote if quote is None else quote,
                )

    def record_upload(self, batch_id: str, upload: Upload) -> None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None or batch.upload is None:
                return
            if not batch.upload.checked and batch.upload.lines <= upload.lines:
                kept = replace(upload, handed=batch.upload.handed)
                self._batches[batch_id] = replace(batch, upload=kept)

    def record_handed(self, batch_id: str, mark: Mark) -> None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None or batch.upload is None:
                return
            if batch.upload.handed.lines < mark.lines:
                upload = replace(batch.upload, handed=mark)
                self._batches[batch_id] = replace(batch, upload=upload)

    def start_batch(self, batch_id: str, at: float, *, seen: bool = False) -> BatchRecord | None:  # noqa: ARG002
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is not None and batch.started_at is None:
                batch = self._batches[batch_id] = replace(batch, started_at=at)
            return batch

    def cancel_batch(
        self, batch_id: str, at: float, error: str | None = None
    ) -> BatchRecord | None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is not None and batch.cancelled_at is None and not batch.finished:
                batch = self._batches[batch_id] = replace(batch, cancelled_at=at, error=error)
            return batch

    def record_progress(
        self,
        batch_id: str,
        tallies: Mapping[int, Tally],
        at: float,
        spend: Spend = NOTHING,
        *,
        last_index: int = 0,
        checksums: Mapping[int, int] = {},
        busy_ms: Mapping[int, int] = {},
    ) -> BatchRecord | None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None or not batch.has(0, last_index if tallies else -1):
                return None if tallies else batch
            counted = self._counted[batch_id]
            known = {number for number in tallies if number < batch.bundles}
            uncounted = known - counted
            if uncounted:
                counted |= uncounted
                batch = self._batches[batch_id] = replace(
                    batch,
                    tally=sum((tallies[number] for number in uncounted), start=batch.tally),
                    progressed_at=max(at, batch.progressed_at or at),
                    spend=batch.spend + spend,
                    checksum=batch.checksum + sum(checksums.get(n, 0) for n in uncounted),
                    busy_ms=batch.busy_ms + sum(busy_ms.get(n, 0) for n in uncounted),
                )
            return batch if len(known) == len(tallies) else None

    def note_follower(self, batch_id: str, follower: str) -> BatchRecord | None:
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is not None:
                followers = tuple(sorted({*batch.followers, follower}))
                batch = self._batches[batch_id] = replace(batch, followers=followers)
            return batch

    def counted(
        self, batch_id: str, pages: Sequence[int], look_at: Sequence[int] = ()
    ) -> Counted | None:
        numbers = {job_id(batch_id, number): number for number in look_at}
        records = self.bundles(list(numbers)) if numbers else []
        done = {numbers[r.job_id]: r for r in records if r.status is BundleStatus.DONE}
        with self._lock:
            batch = self._batches.get(batch_id)
            if batch is None:
                return None
            wanted = set(pages)
            counted = self._counted.get(batch_id, set())
            on_pages = frozenset(n for n in counted if n // PAGE_BUNDLES in wanted)
            return Counted(batch, on_pages, done)

    def is_counted(self, batch_id: str, bundle: int) -> bool:
        with self._lock:
            return bundle in self._counted.get(batch_id, ())

    # --- paces ---

    def paces(self, kinds: Sequence[str]) -> dict[str, Pace]:
        with self._lock:
            return {kind: self._paces[kind] for kind in kinds if kind in self._paces}

    def learn(self, samples: Mapping[str, Sample]) -> None:
        with self._lock:
            for kind, sample in samples.items():
                self._paces[kind] = self._paces.get(kind, Pace()).learn(sample)

    # --- results that serve again ---

    def kept_results(self, keys: Sequence[str]) -> dict[str, KeptResult]:
        with self._lock:
            return {key: self._kept[key] for key in keys if key in self._kept}

    def keep_result(self, key: str, result: KeptResult) -> None:
        with self._lock:
            self._kept.setdefault(key, result)
