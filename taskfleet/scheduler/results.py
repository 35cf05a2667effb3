"""Reads batches for their clients: status, and results in pages; and cancels them. Owns who may see
which batch, and the pages of results; not the list of batches (`taskfleet.scheduler.listing`), the
shapes of the answers (`taskfleet.wire.http`) nor HTTP itself (`chalice_app.routes`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from taskfleet import spill
from taskfleet.batch import BatchRecord, Tally
from taskfleet.bundle import job_id
from taskfleet.confined import ConfinedStore
from taskfleet.errors import NotFound, PermanentError, UnknownKind
from taskfleet.ports import BundleRecord, Clock, ObjectStore, TaskMonitor
from taskfleet.registry import Registry
from taskfleet.scheduler.ended import UNHEARD, Ended
from taskfleet.scheduler.quoted import batch_quote
from taskfleet.scheduler.risk import Risks, at_risk
from taskfleet.scheduler.waiting import (
    FIRST_POLL_S,
    hold_s,
    next_poll_s,
    settle_s,
)
from taskfleet.task import Task, TaskResult, TaskStatus, task_id
from taskfleet.wire.http.batches import WAIT_MAX_S, BatchView
from taskfleet.wire.http.results import PAGE_DEFAULT, PAGE_MAX, ResultPage, ResultView
from taskfleet.wire.http.times import iso_time
from taskfleet.wire.payload import ANSWER_MAX_BYTES, answer_bytes

PAGE_MAX_BYTES = ANSWER_MAX_BYTES - 16 * 1024
"""Most bytes of a page's rows, as Lambda sends them (`taskfleet.wire.payload.answer_bytes`). The
rest of the answer, such as its headers, has room in 16 KiB."""
PAGE_MAX_BUNDLES = 1_000
"""Most bundles that one page reads."""
_CURSOR = re.compile(r"([0-9]{1,9})-([0-9]{1,9})")
CALL_MAX_BUNDLES = 100
"""Most bundles in one read of the table."""
ALL_STATUSES = frozenset(TaskStatus)
FOLLOWERS_SHOWN = 100
"""Most batches that wait for a batch and are named in its view."""


NO_RISKS = Risks(None)


def view(batch: BatchRecord, now: float, told: Mapping[str, str] = {}) -> BatchView:
    """Returns the batch as its client sees it at `now`, in epoch seconds. `told` has what the
    provisioner told of batches that will miss a goal, by id (`taskfleet.scheduler.risk`)."""
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
        trace_id=batch.trace_id,
        options=batch.options,
        open=batch.is_open,
        retry_of=batch.retry_of,
        kinds=list(batch.kinds),
        followers=list(batch.followers[:FOLLOWERS_SHOWN]),
        at_risk=at_risk(batch, now, told.get(batch.batch_id)),
        quote=batch_quote(batch),
    )


class Results:
    """Reads batches on behalf of clients. Each method that takes a batch's id raises NotFound when
    the batch does not exist or belongs to another client.

    settle: called with each batch that is read by its id; returns it as it is then
        (`taskfleet.scheduler.open.OpenBatches.settle`).
    ended: is told of a batch that ends by being cancelled.
    risks: finds why a batch will miss its deadline or its budget.
    """

    def __init__(
        self,
        registry: Registry,
        monitor: TaskMonitor,
        store: ObjectStore,
        clock: Clock,
        settle: Callable[[BatchRecord], BatchRecord] = lambda batch: batch,
        ended: Ended = UNHEARD,
        *,
        risks: Risks = NO_RISKS,
    ) -> None:
        self._registry = registry
        self._monitor = monitor
        self._store = store
        self._clock = clock
        self._settle = settle
        self._ended = ended
        self._risks = risks

    def status(self, batch_id: str, *, client_id: str, wait_s: float = 0.0) -> BatchView:
        """Returns the batch now, or, with `wait_s` (seconds, at most 25), as soon as it changes or
        the time is up. The time is up after `WAIT_HOLD_S` already, or after `NEAR_HOLD_S` if the
        batch is expected to end within that.

        After the first change the answer is held for another moment: changes often come together,
        and the client waits for the last of them.
        """
        batch = self.own(batch_id, client_id)
        now = self._clock.now()
        deadline = now + hold_s(batch, now, min(wait_s, WAIT_MAX_S))
        before = _visible_state(batch)
        poll_s = FIRST_POLL_S
        changed = False
        while now < deadline and not batch.finished:
            self._clock.sleep(min(poll_s, deadline - now))
            poll_s = next_poll_s(poll_s)
            batch = self.own(batch_id, client_id)
            now = self._clock.now()
            if not changed and _visible_state(batch) != before:
                pause_s = settle_s(now - batch.created_at)
                changed, poll_s = True, max(2 * FIRST_POLL_S, pause_s / 20)
                deadline = min(deadline, now + pause_s)
        return view(batch, now, self._risks.told([batch]))

    def cancel(self, batch_id: str, *, client_id: str) -> BatchView:
        """Cancel the tasks that have not started. Returns the batch. A finished batch stays as it
        is."""
        self.own(batch_id, client_id)
        now = self._clock.now()
        cancelled = self._monitor.cancel_batch(batch_id, now)
        batch = self._settle(cancelled) if cancelled else self.own(batch_id, client_id)
        self._ended.tell(batch)
        return view(batch, now)

    def results(
        self,
        batch_id: str,
        *,
        client_id: str,
        limit: int = PAGE_DEFAULT,
        cursor: str | None = None,
        statuses: Collection[TaskStatus] = ALL_STATUSES,
        recorded: bool = False,
        brief: bool = False,
    ) -> ResultPage:
        """Returns one page of results: up to `limit` rows (at most 5,000), and no more than an
        answer holds. Rows of other `statuses` are left out; since one page reads at most
        `PAGE_MAX_BUNDLES` bundles, it may then be empty and yet not the last. With `recorded`, each
        result is as it was recorded instead of as its kind shows it; with `brief`, rows have no
        task. Raises ValueError for a cursor that no page had."""
        batch = self.own(batch_id, client_id)
        first_bundle, first_index = _read_cursor(cursor)
        if batch.finished and not ended_as(batch.tally, statuses):
            return ResultPage([], None)
        end = min(batch.bundles, first_bundle + PAGE_MAX_BUNDLES)
        limit = min(limit, PAGE_MAX)
        rows: list[ResultView] = []
        room = PAGE_MAX_BYTES
        at_once = CALL_MAX_BUNDLES
        if statuses == ALL_STATUSES:  # a page's rows fill this many bundles on average
            at_once = min(at_once, limit * batch.bundles // max(1, batch.total) + 1)
        for number, bundle in self.bundles(batch_id, range(first_bundle, end), at_once):
            shown = (
                self.row(batch_id, task, result, recorded=recorded, brief=brief)
                for task, result in _shown(bundle, first_index, statuses)
            )
            for row, size in map(fitted, shown):
                if rows and (len(rows) >= limit or size > room):
                    return ResultPage(rows, f"{number}-{row.index}")
                rows.append(row)
                room -= size
        return ResultPage(rows, f"{end}-0" if end < batch.bundles else None)

    def own(self, batch_id: str, client_id: str) -> BatchRecord:
        """Returns the client's batch. Raises NotFound."""
        batch = self._monitor.batch(batch_id)
        if batch is None or batch.client_id != client_id:
            raise NotFound(f"no batch {batch_id!r}")
        return self._settle(batch)

    def bundles(
        self, batch_id: str, wanted: Sequence[int], at_once: int
    ) -> Iterator[tuple[int, BundleRecord]]:
        """Yields the number and the record of each wanted bundle that a worker has claimed,
        reading `at_once` records a call."""
        for start in range(0, len(wanted), at_once):
            numbers = {job_id(batch_id, n): n for n in wanted[start : start + at_once]}
            for bundle in self._monitor.bundles(list(numbers)):
                yield numbers[bundle.job_id], bundle

    def recorded(self, batch_id: str, result: TaskResult) -> Any:
        """Returns the recorded result of a row, which may have been stored as an object. Raises
        PermanentError if that is gone or is not what was stored."""
        if result.stored is None:
            return result.result
        what = f"the result of task {task_id(batch_id, result.index)}"
        return msgspec.json.decode(spill.get(self._store, result.stored, what))

    def _presented(self, kind_name: str, value: Any, batch_id: str) -> Any:
        """The result as its kind shows it. One whose kind is no longer loaded, or in which a
        client's code names objects of others, is shown as it was recorded."""
        try:
            kind = self._registry[kind_name]
        except UnknownKind:
            return value
        if not kind.runs_client_code:
            return kind.present(value, self._store)
        try:
            return kind.present(value, ConfinedStore(self._store, None, batch_id))
        except PermanentError:
            return value

    def row(
        self,
        batch_id: str,
        task: Task | None,
        result: TaskResult,
        *,
        recorded: bool = False,
        brief: bool = False,
    ) -> ResultView:
        """Returns a recorded result as clients see it, with `recorded` as it was recorded, with
        `brief` without the task; if it is gone, the error says so. The task is None if it is not
        recorded."""
        try:
            value, error = self.recorded(batch_id, result), result.error
        except PermanentError as gone:
            value, error = None, str(gone)
        if task is not None and value is not None and not recorded:
            value = self._presented(task.kind, value, batch_id)
        return ResultView(
            task_id=task_id(batch_id, result.index),
            index=result.index,
            task=None if task is None or brief else task.submitted_form,
            status=result.status,
            result=value,
            error=error,
            attempts=result.attempts,
            started_at=None if result.started_at is None else iso_time(result.started_at),
            duration_s=result.duration_s,
            worker_id=result.worker_id,
            progress=result.progress,
            traceback=result.traceback,
            reused_from=result.reused_from,
        )


def fitted(row: ResultView) -> tuple[ResultView, int]:
    """Returns the row and its size as Lambda sends it. A row that is too large for any answer is
    returned without its result, so that the rows behind it can be read."""
    size = answer_bytes(msgspec.json.encode(row))
    if size <= PAGE_MAX_BYTES:
        return row, size
    error = (
        f"the result is too large to be shown: the row has {size} bytes as they are sent, over the "
        f"cap of {PAGE_MAX_BYTES}; have the task put it into context.store and return its key"
    )
    row = msgspec.structs.replace(row, result=None, error=error)
    return row, answer_bytes(msgspec.json.encode(row))


def _shown(
    bundle: BundleRecord, first_index: int, statuses: Collection[TaskStatus]
) -> Iterator[tuple[Task | None, TaskResult]]:
    """Yields the bundle's tasks with results of these statuses from `first_index` on, in order of
    index. While a worker executes the bundle, its results are recorded in any order, and some
    return to the queue."""
    tasks = {task.index: task for task in bundle.tasks}
    for result in sorted(bundle.results, key=lambda result: result.index):
        shown = result.status is not TaskStatus.QUEUED and result.status in statuses
        if shown and result.index >= first_index:
            yield tasks.get(result.index), result


def ended_as(tally: Tally, statuses: Collection[TaskStatus]) -> int:
    """Returns how many tasks of a tally ended with one of these statuses."""
    counts = {
        TaskStatus.SUCCEEDED: tally.succeeded,
        TaskStatus.FAILED: tally.failed,
        TaskStatus.CANCELLED: tally.cancelled,
    }
    return sum(counts.get(status, 0) for status in statuses)


def _visible_state(batch: BatchRecord) -> tuple[Any, ...]:
    """Returns the fields that count as a change for a client that waits."""
    return batch.status, batch.expected_total, batch.tally


def _read_cursor(cursor: str | None) -> tuple[int, int]:
    """Returns the number of the bundle and the task index with which the page begins."""
    if not cursor:
        return 0, 0
    match = _CURSOR.fullmatch(cursor)
    if match is None:
        raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
    return int(match[1]), int(match[2])
