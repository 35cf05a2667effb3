"""What became of a batch: its status, its results page by page, its cancellation. Owns who may
see what and the shapes that the HTTP API answers with; not HTTP."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from taskfleet.batch import BatchRecord
from taskfleet.bundle import job_id
from taskfleet.errors import NotFound, UnknownKind
from taskfleet.ports import BundleRecord, Clock, ObjectStore, TaskMonitor
from taskfleet.registry import Registry
from taskfleet.task import Task, TaskResult, TaskStatus, task_id
from taskfleet.wire.http import (
    BATCHES_PAGE_MAX,
    PAGE_DEFAULT,
    PAGE_MAX,
    WAIT_MAX_S,
    BatchList,
    BatchView,
    ResultPage,
    ResultView,
    iso_time,
)

PAGE_MAX_BYTES = 4_000_000
"""Of the rows' JSON: Lambda answers with at most 6 MB."""
PAGE_MAX_BUNDLES = 1_000
_CURSOR = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
_WAIT_FIRST_POLL_S = 0.03
_WAIT_SLOWEST_POLL_S = 1.0
_WAIT_POLL_GROWTH = 1.05
"""A change is seen at most about a twentieth of the time later than it took to come; a look is one
read, of a dollar eight millions."""
_WAIT_SETTLE_S = 0.1
_CALL_MAX_BUNDLES = 100


def view(batch: BatchRecord, now: float) -> BatchView:
    eta_s = batch.eta_s(now)
    return BatchView(
        batch_id=batch.batch_id,
        name=batch.name,
        status=batch.status,
        total=batch.expected_total,
        succeeded=batch.tally.succeeded,
        failed=batch.tally.failed,
        cancelled=batch.tally.cancelled,
        created_at=iso_time(batch.created_at),
        finished_at=None if batch.finished_at is None else iso_time(batch.finished_at),
        eta_s=None if eta_s is None else round(eta_s, 1),
        aws_calls=round(batch.spend.calls),
        cost_usd=round(batch.spend.usd, 9),
        error=batch.error,
    )


class Results:
    """Reads batches on behalf of clients. Each method raises NotFound for a batch that does not
    exist and for another client's alike."""

    def __init__(
        self, registry: Registry, monitor: TaskMonitor, store: ObjectStore, clock: Clock
    ) -> None:
        self._registry = registry
        self._monitor = monitor
        self._store = store
        self._clock = clock

    def status(self, batch_id: str, *, client_id: str, wait_s: float = 0.0) -> BatchView:
        """One read; with `wait_s` (at most 25) the answer is held until something changes or the
        time is up. A change is often the first of several, and the last of them is what a client
        waits for: it is held for a moment longer."""
        batch = self._own(batch_id, client_id)
        now = self._clock.now()
        deadline = now + min(wait_s, WAIT_MAX_S)
        before = _visible_state(batch)
        poll_s = _WAIT_FIRST_POLL_S
        changed = False
        while now < deadline and not batch.finished:
            self._clock.sleep(min(poll_s, deadline - now))
            poll_s = min(poll_s * _WAIT_POLL_GROWTH, _WAIT_SLOWEST_POLL_S)
            batch = self._own(batch_id, client_id)
            now = self._clock.now()
            if not changed and _visible_state(batch) != before:
                changed, poll_s = True, _WAIT_FIRST_POLL_S
                deadline = min(deadline, now + _WAIT_SETTLE_S)
        return view(batch, now)

    def batches(self, *, client_id: str, limit: int, cursor: str | None) -> BatchList:
        """ValueError for a cursor that is none of ours."""
        page = self._monitor.batches(
            client_id, limit=min(limit, BATCHES_PAGE_MAX), cursor=cursor or None
        )
        now = self._clock.now()
        return BatchList([view(batch, now) for batch in page.items], page.cursor)

    def cancel(self, batch_id: str, *, client_id: str) -> BatchView:
        """Tasks not yet started become CANCELLED; a finished batch stays as it is."""
        self._own(batch_id, client_id)
        now = self._clock.now()
        batch = self._monitor.cancel_batch(batch_id, now)
        return view(batch or self._own(batch_id, client_id), now)

    def results(
        self,
        batch_id: str,
        *,
        client_id: str,
        limit: int = PAGE_DEFAULT,
        cursor: str | None = None,
    ) -> ResultPage:
        """Up to `limit` (at most 5,000) rows and 4 MB. ValueError for a cursor that is none of
        ours."""
        batch = self._own(batch_id, client_id)
        number, index = _read_cursor(cursor)
        last = min(batch.bundles, number + PAGE_MAX_BUNDLES)
        limit = min(limit, PAGE_MAX)
        rows: list[ResultView] = []
        room = PAGE_MAX_BYTES
        # So many bundles have a page's rows, on average.
        at_once = min(_CALL_MAX_BUNDLES, limit * batch.bundles // max(1, batch.total) + 1)
        for record_number, record in self._bundles(batch_id, range(number, last), at_once):
            for row in self._rows(batch_id, record, index):
                size = len(msgspec.json.encode(row))
                if rows and (len(rows) >= limit or size > room):
                    return ResultPage(rows, f"{record_number}-{row.index}")
                rows.append(row)
                room -= size
        return ResultPage(rows, f"{last}-0" if last < batch.bundles else None)

    def _own(self, batch_id: str, client_id: str) -> BatchRecord:
        batch = self._monitor.batch(batch_id)
        if batch is None or batch.client_id != client_id:
            raise NotFound(f"no batch {batch_id!r}")
        return batch

    def _bundles(
        self, batch_id: str, wanted: range, at_once: int
    ) -> Iterator[tuple[int, BundleRecord]]:
        """Those of the bundles that are recorded."""
        for start in range(0, len(wanted), at_once):
            numbers = {job_id(batch_id, n): n for n in wanted[start : start + at_once]}
            for record in self._monitor.bundles(list(numbers)):
                yield numbers[record.job_id], record

    def _rows(self, batch_id: str, record: BundleRecord, first: int) -> Iterator[ResultView]:
        """Those from index `first` on. While a worker has the bundle in hand, rows come in any
        order, and come and go between pages."""
        tasks = {task.index: task for task in record.tasks}
        for result in sorted(record.results, key=lambda result: result.index):
            if result.index >= first and result.status is not TaskStatus.QUEUED:
                yield self._row(batch_id, tasks.get(result.index), result)

    def _row(self, batch_id: str, task: Task | None, result: TaskResult) -> ResultView:
        value = result.result
        if task is not None and value is not None:
            # The results of a kind that was retired since stay readable as recorded.
            with contextlib.suppress(UnknownKind):
                value = self._registry[task.kind].present(value, self._store)
        return ResultView(
            task_id=task_id(batch_id, result.index),
            index=result.index,
            task=None if task is None else task.submitted_form,
            status=result.status,
            result=value,
            error=result.error,
            attempts=result.attempts,
            started_at=None if result.started_at is None else iso_time(result.started_at),
            duration_s=result.duration_s,
            worker_id=result.worker_id,
            progress=result.progress,
        )


def _visible_state(batch: BatchRecord) -> tuple[Any, ...]:
    return batch.status, batch.expected_total, batch.tally


def _read_cursor(cursor: str | None) -> tuple[int, int]:
    """The bundle and the task index that the page begins with."""
    if not cursor:
        return 0, 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
    return int(match[1]), int(match[2])
