"""The thread that reads results in the order in which they come and ends the futures. Owns the
reading; what a row means is `taskfleet.executor.outcome`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from taskfleet.client import ClientError
from taskfleet.errors import Conflict
from taskfleet.executor.book import Book, Ended
from taskfleet.executor.desk import Completed, Desk, DeskMaker
from taskfleet.executor.outcome import is_stored, settle
from taskfleet.executor.patience import patiently
from taskfleet.executor.problems import lost_contact
from taskfleet.executor.tasks import difference
from taskfleet.ports import Clock

WAIT_S = 20.0
"""Seconds for which an answer may be held until something has ended."""
FETCHERS = 4
"""Threads that fetch large results."""


class Collector:
    """`run` works until the book is closed and every call has ended, or until the batch has."""

    def __init__(self, book: Book, make_desk: DeskMaker, clock: Clock, outage_s: float) -> None:
        self._book = book
        self._make_desk = make_desk
        self._clock = clock
        self._outage_s = outage_s
        self._fetchers: ThreadPoolExecutor | None = None
        self._desks: list[Desk] = []
        self._local = threading.local()

    def run(self) -> None:
        desk: Desk | None = None
        try:
            cursor: str | None = None
            while self._book.await_handed():
                desk = desk or self._make_desk()
                page = self._page(desk, cursor)
                for call in self._book.take_rows(page.rows):
                    if is_stored(call.row):
                        self._end_aside(call)
                    else:
                        end(call)
                cursor = page.cursor
                if cursor is None:
                    self._book.collected()
                    return
        except Exception as error:  # noqa: BLE001 - goes to the futures of all calls
            away = isinstance(error, ClientError) and error.passing
            self._book.fail(lost_contact(error, self._book.batch_id) if away else error)
        finally:
            if self._fetchers is not None:
                self._fetchers.shutdown(wait=True)
            for each in [*self._desks, *([] if desk is None else [desk])]:
                each.close()

    def _page(self, desk: Desk, cursor: str | None) -> Completed:
        batch_id = self._book.batch_id or ""
        # A row's task is compared with that of an earlier run of the key, if there was one.
        brief = not self._book.recorded_total
        call = partial(desk.completed, batch_id, cursor, WAIT_S, brief=brief)
        return patiently(call, self._clock, self._outage_s)

    def _end_aside(self, call: Ended) -> None:
        if self._fetchers is None:
            self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="fleet-fetch")
        self._fetchers.submit(lambda: end(call, self._fetch))

    def _fetch(self, url: str) -> bytes:
        desk: Desk | None = getattr(self._local, "desk", None)
        if desk is None:
            desk = self._local.desk = self._make_desk()
            self._desks.append(desk)
        return patiently(partial(desk.fetch, url), self._clock, self._outage_s)


def end(call: Ended, fetch: Callable[[str], bytes] | None = None) -> None:
    """End a call's future by its row, or with Conflict if an earlier run of the same key made
    another call in its place."""
    if call.recorded is not None and call.row.task is not None:
        other = difference(call.recorded, call.row.task)
        if other is not None:
            call.future.set_exception(
                Conflict(
                    f"call {call.row.index} is another one than when this key was first used: "
                    f"{other}; make the same calls in the same order, or use another key"
                )
            )
            return
    settle(call.future, call.row, fetch)
