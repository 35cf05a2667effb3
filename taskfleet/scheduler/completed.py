"""Reads the results of a batch in the order in which its tasks ended, also while it runs. Owns what
comes next, and the waiting for new ones; not the cursor (`taskfleet.scheduler.given`), the form of
a row (`taskfleet.scheduler.results`, `taskfleet.scheduler.stream`) nor how long an answer is held
(`taskfleet.scheduler.waiting`).

The results of a bundle are given once it is counted, since the pages that count bundles tell by few
reads which have ended. The last few bundles of a batch that is open to its client are looked at
themselves, and given once they are recorded (`taskfleet.scheduler.waiting.is_looked_at`). Nothing
is written for it: the cursor says which bundles were given. Within one answer the rows are in the
order of their ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import TypeVar

from taskfleet.batch import BatchRecord
from taskfleet.errors import NotFound
from taskfleet.lease import BundleStatus
from taskfleet.ports import BundleRecord, Clock, TaskMonitor
from taskfleet.scheduler.given import Given
from taskfleet.scheduler.results import (
    ALL_STATUSES,
    CALL_MAX_BUNDLES,
    PAGE_MAX_BUNDLES,
    PAGE_MAX_BYTES,
    Results,
    fitted,
)
from taskfleet.scheduler.waiting import (
    FEW,
    completion_settle_s,
    first_poll_s,
    hold_s,
    is_looked_at,
    next_poll_s,
)
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.http.batches import WAIT_MAX_S
from taskfleet.wire.http.results import PAGE_DEFAULT, PAGE_MAX, ResultPage, ResultView

Row = TypeVar("Row")
RowForm = Callable[[str, Task | None, TaskResult], tuple[Row, int] | None]
"""Makes a row of a task and its result, in the batch of this id. Returns it and its bytes, as
Lambda sends them; None for a task that is to be left out. The task is None if it is not
recorded."""


class _News:
    """The bundles of a batch that are counted, or were found to be DONE, and were not given.

    numbers: the bundles, in the order in which they are given.
    records: those of them that were read, by number.
    """

    def __init__(
        self,
        batch: BatchRecord,
        given: Given,
        counted: frozenset[int],
        records: Mapping[int, BundleRecord],
    ) -> None:
        self.batch = batch
        self.records = records
        ended = counted | records.keys()
        self.numbers = given.fresh(n for n in ended if n < batch.bundles)
        self.nothing_runs = given.count + len(self.numbers) >= batch.bundles


class Completed:
    """Reads results in the order of completion on behalf of clients.

    settle: as for `taskfleet.scheduler.results.Results`.
    """

    def __init__(
        self,
        results: Results,
        monitor: TaskMonitor,
        clock: Clock,
        settle: Callable[[BatchRecord], BatchRecord] = lambda batch: batch,
    ) -> None:
        self._results = results
        self._monitor = monitor
        self._clock = clock
        self._settle = settle

    def results(
        self,
        batch_id: str,
        *,
        client_id: str,
        limit: int = PAGE_DEFAULT,
        cursor: str | None = None,
        wait_s: float = 0.0,
        statuses: Collection[TaskStatus] = ALL_STATUSES,
        brief: bool = False,
    ) -> ResultPage:
        """Returns results that were not given to whoever has this cursor: up to `limit` rows (at
        most 5,000), and no more than an answer holds. With `wait_s` (seconds, at most 25) the
        answer is held until there is one, by the rules of `taskfleet.scheduler.waiting`. The cursor
        of the page is None once no task can join the batch and all of its results were given. Rows
        of other `statuses` are left out, and their cursor goes on behind them, too. With `brief`,
        rows have no task.

        Raises NotFound when the client has no such batch, ValueError for a cursor that no page had.
        """

        def form(of: str, task: Task | None, result: TaskResult) -> tuple[ResultView, int] | None:
            if result.status not in statuses:
                return None
            return fitted(self._results.row(of, task, result, brief=brief))

        rows, after = self.rows(
            batch_id,
            form,
            client_id=client_id,
            limit=min(limit, PAGE_MAX),
            cursor=cursor,
            wait_s=wait_s,
            sparse=statuses != ALL_STATUSES,
        )
        return ResultPage(rows, after)

    def rows(
        self,
        batch_id: str,
        form: RowForm[Row],
        *,
        client_id: str,
        limit: int,
        cursor: str | None,
        wait_s: float = 0.0,
        sparse: bool = False,
    ) -> tuple[list[Row], str | None]:
        """Returns rows in any form, and the cursor behind them, by the rules of `results`. `sparse`
        says that the form leaves many tasks out, so that a page takes many bundles."""
        given = Given.read(cursor)
        news = self._wait(batch_id, client_id, given, wait_s)
        rows = self._rows(news, given, limit, form, sparse=sparse)
        return rows, None if _is_over(news.batch, given) else given.text()

    def _wait(self, batch_id: str, client_id: str, given: Given, wait_s: float) -> _News:
        """Returns what is new: now if something is, else as soon as something is, the batch is over
        or the time is up. After the first news it waits for others a moment, unless nothing else
        runs or many bundles are left."""
        began = now = self._clock.now()
        news = self._look(batch_id, client_id, given, given.touched())
        if news.batch.bundles > given.touched():
            news = self._look(batch_id, client_id, given, news.batch.bundles)
        if news.numbers:
            return news
        deadline = now + hold_s(news.batch, now, min(wait_s, WAIT_MAX_S))
        eta_s = news.batch.eta_s(now)
        poll_s = _first_poll_s(news.batch, given, now)
        settling = False
        while now < deadline and not _is_over(news.batch, given):
            self._clock.sleep(min(poll_s, deadline - now))
            news = self._look(batch_id, client_id, given, news.batch.bundles, news)
            now = self._clock.now()
            outstanding = news.batch.bundles - given.count
            poll_s = next_poll_s(poll_s, now - began, eta_s, outstanding)
            left = news.batch.bundles - given.count - len(news.numbers)
            if news.numbers and (news.nothing_runs or left >= FEW):
                break  # where many are left, the pauses have waited for others
            if news.numbers and not settling:
                settling = True
                deadline = min(deadline, now + completion_settle_s(now - began))
        return news

    def _look(
        self,
        batch_id: str,
        client_id: str,
        given: Given,
        bundles: int,
        before: _News | None = None,
    ) -> _News:
        """Returns what is new among the first so many bundles. After the first look, `before`, the
        last few are looked at themselves, without those that were found to be DONE."""
        known = before.records if before else {}
        look_at = _last_few(before, given, self._clock.now()) if before else []
        found = self._monitor.counted(batch_id, given.pages(bundles), look_at)
        if found is None or found.batch.client_id != client_id:
            raise NotFound(f"no batch {batch_id!r}")
        return _News(self._settle(found.batch), given, found.bundles, {**known, **found.done})

    def _rows(
        self, news: _News, given: Given, limit: int, form: RowForm[Row], *, sparse: bool
    ) -> list[Row]:
        """Returns the next rows, in the order of their ends, and notes in `given` what they are."""
        rows: list[tuple[float, int, Row]] = []
        room = PAGE_MAX_BYTES
        batch_id, batch = news.batch.batch_id, news.batch
        each = max(1, batch.total // max(1, batch.bundles))  # rows of a bundle
        at_once = CALL_MAX_BUNDLES if sparse else min(CALL_MAX_BUNDLES, max(1, limit // each))
        wanted = news.numbers[:PAGE_MAX_BUNDLES]
        for number, bundle in self._records(news, wanted, at_once):
            if bundle.status is not BundleStatus.DONE:
                continue  # a forged answer was counted; its worker has yet to commit
            tasks = {task.index: task for task in bundle.tasks}
            taken = given.rest[1] if given.rest is not None and given.rest[0] == number else 0
            for result in _by_end(bundle)[taken:]:
                made = form(batch_id, tasks.get(result.index), result)
                if made is None:
                    taken += 1
                    continue
                row, size = made
                if rows and (len(rows) >= limit or size > room):
                    given.rest = number, taken
                    break
                rows.append((_end(result), result.index, row))
                room -= size
                taken += 1
            else:
                given.add(number)
            # A bundle that does not fit whole would be read again for the next page.
            if (rows and len(rows) + each > limit) or given.rest is not None:
                break
        rows.sort(key=itemgetter(0, 1))
        return [row for _, _, row in rows]

    def _records(
        self, news: _News, wanted: Sequence[int], at_once: int
    ) -> Iterable[tuple[int, BundleRecord]]:
        """Returns the numbers and records of the wanted bundles; reads them, unless all were."""
        if all(number in news.records for number in wanted):
            return [(number, news.records[number]) for number in wanted]
        return self._results.bundles(news.batch.batch_id, wanted, at_once)


def _unchanged_s(batch: BatchRecord, now: float) -> float:
    """Returns the seconds since the batch got its last tasks, or since they started."""
    return now - max(batch.started_at or 0.0, batch.added_at or batch.created_at)


def _first_poll_s(batch: BatchRecord, given: Given, now: float) -> float:
    outstanding = batch.bundles - given.count
    return first_poll_s(batch.eta_s(now), _unchanged_s(batch, now), outstanding)


def _last_few(news: _News, given: Given, now: float) -> list[int]:
    """Returns the bundles that are looked at themselves."""
    batch = news.batch
    outstanding = batch.bundles - given.count
    if not batch.is_open or not is_looked_at(outstanding, _unchanged_s(batch, now)):
        return []
    return [number for number in given.missing(batch.bundles) if number not in news.records]


def _is_over(batch: BatchRecord, given: Given) -> bool:
    """Returns whether everything was given: no task can join the batch, and all bundles were."""
    final = batch.closed or batch.cancelled_at is not None
    return final and given.count >= batch.bundles and batch.enqueued >= batch.total


def _end(result: TaskResult) -> float:
    """Returns when the task ended; last if it never started."""
    if result.started_at is None:
        return math.inf
    return result.started_at + (result.duration_s or 0.0)


def _by_end(bundle: BundleRecord) -> list[TaskResult]:
    """Returns the final rows of a bundle that is DONE. The order is the same at each reading."""
    final = [result for result in bundle.results if result.status.final]
    return sorted(final, key=lambda result: (_end(result), result.index))
