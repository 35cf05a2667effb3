"""One task as its client sees it: its row, its attempts, what it printed, and what it waits for.
Owns putting these together; not the search for its bundle (`taskfleet.scheduler.locate`), the
diagnosis (`taskfleet.scheduler.why`) nor the reading of output (`taskfleet.output`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

from taskfleet import output
from taskfleet.batch import BatchRecord
from taskfleet.bundle import job_id
from taskfleet.errors import NotFound, TaskfleetError, UnknownKind
from taskfleet.options import Limits, limits
from taskfleet.ports import BundleRecord, Clock, ObjectStore, TaskMonitor
from taskfleet.registry import Registry
from taskfleet.scheduler.locate import Place, locate
from taskfleet.scheduler.results import Results
from taskfleet.scheduler.why import waits_for_others, why
from taskfleet.task import HISTORY_MAX, Attempt, Task, TaskResult, TaskStatus
from taskfleet.wire.http.tasks import AttemptView, TaskView
from taskfleet.wire.http.times import iso_time


class _Found:
    """What is recorded of a task. `task` and `row` are None as far as nothing is."""

    def __init__(self, batch: BatchRecord, index: int, place: Place) -> None:
        self.batch = batch
        self.place = place
        tasks = [] if place.record is None else place.record.tasks
        rows = [] if place.record is None else place.record.results
        self.task: Task | None = next((t for t in tasks if t.index == index), None)
        self.row: TaskResult | None = next((r for r in rows if r.index == index), None)


class TaskViews:
    """Reads single tasks on behalf of clients. The methods raise NotFound when the batch does not
    exist, belongs to another client or can have no task of the index.

    fleet_why: returns why nothing runs; None if something does.
    others: returns what a batch waits for that waits for others.
    """

    def __init__(
        self,
        registry: Registry,
        results: Results,
        monitor: TaskMonitor,
        store: ObjectStore,
        clock: Clock,
        fleet_why: Callable[[], str | None] = lambda: None,
        others: Callable[[BatchRecord], str] = waits_for_others,
    ) -> None:
        self._registry = registry
        self._results = results
        self._monitor = monitor
        self._store = store
        self._clock = clock
        self._fleet_why = fleet_why
        self._others = others

    def view(self, batch_id: str, index: int, *, client_id: str) -> TaskView:
        """Returns the task now."""
        found = self._find(batch_id, index, client_id)
        row = found.row or TaskResult(index, TaskStatus.QUEUED)
        shown = self._results.row(batch_id, found.task, row)
        reason = why(
            found.batch,
            index,
            found.place,
            found.row,
            now=self._clock.now(),
            counted=lambda: self._monitor.is_counted(batch_id, found.place.number or 0),
            fleet=self._why_nothing_runs,
            others=self._others,
        )
        _, _, log_bytes, log_dropped = row.log or ("", 0, 0, 0)
        return TaskView(
            **{name: getattr(shown, name) for name in shown.__struct_fields__},
            history=list(_history(row)),
            limits=self._limits(found),
            log_tail=self._tail(batch_id, row),
            log_bytes=log_bytes,
            log_dropped=log_dropped,
            why=reason,
        )

    def log(
        self,
        batch_id: str,
        index: int,
        *,
        client_id: str,
        attempt: int | None = None,
        offset: int = 0,
    ) -> output.LogPage:
        """Returns a page of what the task printed, from the byte `offset` on: in its last
        execution, which may still run, or in the attempt of the given number. Raises NotFound,
        which says why, if there is nothing."""
        found = self._find(batch_id, index, client_id)
        name = f"task {index}"
        if attempt is not None:
            name += f" in attempt {attempt}"
        refs = {each.number: each.log for each in _attempts(found.row)}
        if found.row is not None and found.row.status is TaskStatus.RUNNING:
            refs[_ended(found.row) + 1] = found.row.log
        if attempt is not None and attempt not in refs:
            raise NotFound(f"no attempt {attempt} of task {index} is recorded")
        row_log = None if found.row is None else found.row.log
        ref = row_log if attempt is None else refs[attempt]
        if ref is None:
            runs = found.row is not None and found.row.status is TaskStatus.RUNNING
            final = found.row is not None and found.row.status.final
            ended = final or (attempt is not None and not (runs and attempt == max(refs)))
            raise NotFound(f"{name} printed nothing" if ended else f"{name} has no output yet")
        try:
            return output.page(self._store, batch_id, ref, offset)
        except NotFound as error:
            raise NotFound(f"what {name} printed is gone: it is kept for some days only") from error

    def _find(self, batch_id: str, index: int, client_id: str) -> _Found:
        batch = self._results.own(batch_id, client_id)
        if index >= batch.total and not _may_get(batch, index):
            raise NotFound(f"no task {index} in batch {batch_id}: it has {batch.expected_total}")

        def read(numbers: list[int]) -> Mapping[int, BundleRecord]:
            ids = {job_id(batch_id, number): number for number in numbers}
            return {ids[b.job_id]: b for b in self._monitor.bundles(list(ids))}

        return _Found(batch, index, locate(batch, index, read) if index < batch.total else Place())

    def _why_nothing_runs(self) -> str | None:
        """Returns the fleet's reason. A fleet that cannot be read leaves the task's view without
        it."""
        try:
            return self._fleet_why()
        except TaskfleetError:
            return None

    def _limits(self, found: _Found) -> Limits | None:
        if found.task is not None:
            with contextlib.suppress(UnknownKind):
                kind = self._registry[found.task.kind]
                return limits(kind, found.batch.options, found.task.options)
        return None

    def _tail(self, batch_id: str, row: TaskResult) -> str | None:
        if row.log is not None:
            with contextlib.suppress(NotFound):
                return output.tail(self._store, batch_id, row.log)
        return None


def _may_get(batch: BatchRecord, index: int) -> bool:
    """Returns whether a task of this index may still be handed in."""
    if batch.closed or batch.cancelled_at is not None:
        return False
    checked = batch.upload is not None and batch.upload.checked
    return not checked or index < batch.expected_total


def _attempts(row: TaskResult | None) -> list[Attempt]:
    """Returns the attempts that have ended, oldest first."""
    if row is None:
        return []
    last = row.as_attempt
    return [*(row.earlier or ()), *([] if last is None else [last])]


def _history(row: TaskResult) -> Iterator[AttemptView]:
    """Yields all attempts, oldest first. One of which nothing is recorded was lost with its
    worker, unless it is older than what a row keeps."""
    known = {each.number: each for each in _attempts(row)}
    full = len(row.earlier or ()) >= HISTORY_MAX
    first = min(known, default=1) if full else 1
    ended = _ended(row)
    for number in range(first, ended + 1):
        if number in known:
            yield _attempt(known[number], row)
        else:
            yield AttemptView(number, "LOST")
    if row.status is TaskStatus.RUNNING:
        started_at = None if row.started_at is None else iso_time(row.started_at)
        printed = 0 if row.log is None else row.log[2]
        yield AttemptView(ended + 1, "RUNNING", row.worker_id, started_at, log_bytes=printed)


def _ended(row: TaskResult) -> int:
    """Returns how many attempts have ended."""
    return row.attempts - row.is_note


def _attempt(attempt: Attempt, row: TaskResult) -> AttemptView:
    """Returns an attempt that has ended; all but the last one of a task failed."""
    is_last = attempt.number == row.attempts and row.duration_s is not None
    succeeded = is_last and row.status is TaskStatus.SUCCEEDED
    started_at, ended_at = attempt.started_at, None
    if started_at is not None and attempt.duration_s is not None:
        ended_at = iso_time(started_at + attempt.duration_s)
    return AttemptView(
        attempt.number,
        TaskStatus.SUCCEEDED if succeeded else TaskStatus.FAILED,
        attempt.worker_id,
        None if started_at is None else iso_time(started_at),
        ended_at,
        attempt.error,
        0 if attempt.log is None else attempt.log[2],
    )
