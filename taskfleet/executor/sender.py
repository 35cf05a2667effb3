"""The thread that hands calls over. It takes what has gathered while the request before was under
way, so a call that comes alone goes at once, and ten thousand go in a few requests. Owns the order:
look at the workers, store what the tasks need, open the batch, add tasks, close.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import msgspec

from taskfleet.client import ApiError, ClientError
from taskfleet.errors import Conflict, SettingsError, TaskfleetError
from taskfleet.executor.book import Book, Call
from taskfleet.executor.collector import end
from taskfleet.executor.desk import Desk, DeskMaker, Workers
from taskfleet.executor.functions import Blob
from taskfleet.executor.patience import patiently
from taskfleet.executor.problems import TaskError, lost_contact
from taskfleet.executor.slowstart import SlowStart
from taskfleet.executor.workers import check
from taskfleet.options import BatchFields
from taskfleet.ports import Clock

PUTTERS = 4
"""Threads that store large arguments and files."""


@dataclass(frozen=True)
class Opening:
    """The name, key and options with which the batch is opened."""

    name: str | None = None
    key: str | None = None
    options: BatchFields = field(default_factory=BatchFields)


class Sender:
    """`run` works until the book is closed and empty."""

    def __init__(
        self, book: Book, make_desk: DeskMaker, opening: Opening, clock: Clock, outage_s: float
    ) -> None:
        self._book = book
        self._make_desk = make_desk
        self._opening = opening
        self._clock = clock
        self._outage_s = outage_s
        self._stored: set[str] = set()
        self._workers: Workers | None = None
        self._checked: set[str] = set()
        self._putters: ThreadPoolExecutor | None = None
        self._desks: list[Desk] = []
        self._local = threading.local()

    def run(self) -> None:
        desk: Desk | None = None
        try:
            desk = self._make_desk()
            # The calls can still be cancelled while the batch is opened.
            if (kind := self._book.await_first()) is not None:
                self._check(desk, {kind})
                self._open(desk)
            start = SlowStart()
            while (calls := self._book.take(start.most)) is not None:
                self._send(desk, calls)
                start.sent(calls, lambda: self._book.counts.waiting)
            self._finish(desk)
        except Exception as error:  # noqa: BLE001 - goes to the futures of all calls
            self._fail(error)
            if desk is not None and not (isinstance(error, ClientError) and error.passing):
                self._finish(desk)
        finally:
            if self._putters is not None:
                self._putters.shutdown(wait=True)
            for each in [*self._desks, *([] if desk is None else [desk])]:
                each.close()

    # --- one request ---------------------------------------------------------------------------

    def _send(self, desk: Desk, calls: list[Call]) -> None:
        try:
            self._check(desk, {call.order.kind for call in calls})
            known = max(0, self._book.recorded_total - self._book.next_index)
            calls = [*calls[:known], *self._store(desk, calls[known:])]
        except Exception as error:
            self._book.refuse(calls, self._told(error))
            raise
        self._add(desk, calls)

    def _check(self, desk: Desk, kinds: set[str]) -> None:
        kinds = kinds - self._checked
        if not kinds:
            return
        if self._workers is None:
            self._workers = desk.kinds()
        for kind in kinds:
            check(kind, self._workers)
        self._checked |= kinds

    def _open(self, desk: Desk) -> None:
        book, opening = self._book, self._opening
        accepted = desk.open(
            name=opening.name,
            idempotency_key=opening.key,
            **opening.options,
        )
        book.recorded_total = accepted.total
        book.batch_id = accepted.batch_id

    def _add(self, desk: Desk, calls: list[Call]) -> None:
        """Number the calls and record those that no earlier run has recorded."""
        book = self._book
        while calls:
            first = book.next_index
            ended = book.number(calls)
            for call in ended:
                end(call, desk.fetch)
            new = calls[max(0, book.recorded_total - first) :]
            if not new:
                book.recorded()
                return
            start = max(first, book.recorded_total)
            tasks = [msgspec.Raw(call.order.task) for call in new]
            try:
                self._patiently(partial(desk.add, book.batch_id or "", start, tasks))
                book.recorded()
                return
            except Exception as error:
                book.unnumber(new)
                if not isinstance(error, ApiError) or not _is_place(error.index, new):
                    book.refuse(new, self._told(error))
                    raise
                faulty = new.pop(error.index or 0)
                book.refuse([faulty], TaskError(f"the call was refused: {error.reason}"))
                calls = new

    def _store(self, desk: Desk, calls: list[Call]) -> list[Call]:
        """Store what the tasks need. Returns the calls without those whose needs were refused."""
        wanted: dict[str, Blob] = {}
        for call in calls:
            for blob in call.order.needs:
                if blob.sha256 not in self._stored:
                    wanted.setdefault(blob.sha256, blob)
        if not wanted:
            return calls
        refused: dict[str, BaseException] = {}
        puts: list[tuple[str, Future[None] | None]] = []
        if len(wanted) == 1:
            puts = [(sha256, None) for sha256 in wanted]
        else:
            if self._putters is None:
                self._putters = ThreadPoolExecutor(PUTTERS, thread_name_prefix="fleet-put")
            puts = [(s, self._putters.submit(self._put_aside, b)) for s, b in wanted.items()]
        for sha256, put in puts:
            try:
                self._put(desk, wanted[sha256]) if put is None else put.result()
                self._stored.add(sha256)
            except (OSError, ValueError, TaskfleetError) as error:
                if isinstance(error, ClientError) and error.passing:
                    raise
                refused[sha256] = error
        kept = []
        for call in calls:
            why = [refused[b.sha256] for b in call.order.needs if b.sha256 in refused]
            if not why:
                kept.append(call)
                continue
            failure = TaskError(f"what the call needs could not be stored: {why[0]}")
            failure.__cause__ = why[0]
            self._book.refuse([call], failure)
        return kept

    def _put_aside(self, blob: Blob) -> None:
        desk: Desk | None = getattr(self._local, "desk", None)
        if desk is None:
            desk = self._local.desk = self._make_desk()
            self._desks.append(desk)
        self._put(desk, blob)

    def _put(self, desk: Desk, blob: Blob) -> None:
        found = self._patiently(partial(desk.put, blob.data))
        if found != blob.sha256:
            raise Conflict(f"the file {blob.data} changed after the call was made")

    def _patiently(self, call: Any) -> Any:
        return patiently(call, self._clock, self._outage_s)

    # --- the end -------------------------------------------------------------------------------

    def _finish(self, desk: Desk) -> None:
        """Close the batch. One that cannot be closed now is closed by the service in the end."""
        batch_id = self._book.batch_id
        if batch_id is None:
            return
        try:
            if self._book.cancelling:  # again, if the batch was not open then
                self._patiently(partial(desk.cancel, batch_id))
            if not self._book.leave_open:
                self._patiently(partial(desk.close_batch, batch_id))
        except ClientError:
            pass

    def _fail(self, error: BaseException) -> None:
        told = self._told(error)
        # Rows of what was handed over can still be read, unless the service is away.
        away = isinstance(error, ClientError) and error.passing
        self._book.fail(told, handed_too=away or self._book.batch_id is None)

    def _told(self, error: BaseException) -> BaseException:
        batch_id = self._book.batch_id
        if isinstance(error, ClientError) and error.passing:
            return lost_contact(error, batch_id)
        if isinstance(error, ApiError) and error.status == 409 and self._opening.key:
            return Conflict(
                f"the batch of the key {self._opening.key!r:.60} does not take this call: "
                f"{error.message}; use another key"
            )
        if isinstance(error, ApiError) and error.status == 404 and batch_id is None:
            return SettingsError(f"this API has no open batches; is it an older version? {error}")
        return error


def _is_place(index: int | None, calls: Sequence[Call]) -> bool:
    return index is not None and 0 <= index < len(calls)
