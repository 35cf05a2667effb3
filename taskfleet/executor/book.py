"""The calls of one executor, from `submit` to their results. Owns which calls wait, which are
handed over and under which index, and when both threads may end; not the sending
(`taskfleet.executor.sender`), the reading (`taskfleet.executor.collector`), nor what a row means.

One lock guards it. It is reentrant, since a garbage collection may close the book in the midst of
any method. Futures are never ended while it is held: their callbacks may submit.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskfleet.executor.future import FleetFuture
from taskfleet.executor.tasks import Order
from taskfleet.task import TaskStatus
from taskfleet.wire.http.results import ResultView

UNSENT_MAX_BYTES = 64_000_000
"""Most bytes of tasks and their arguments that wait to be sent; above that, `submit` waits."""
PART_MAX_TASKS = 4_000
"""Most tasks of one request: workers begin with the first while the next is taken in."""
FIRST_PART_TASKS = 128
"""Most tasks of one request while nothing runs, so that workers begin soon."""
HAND_OVER_S = 0.002
"""Seconds for which the thread that makes calls pauses once the first request is full. It and the
sender hold Python's lock by turns of 5 ms: without the pause, the request goes a turn or two
later."""
PART_MAX_BYTES = 1_500_000
"""Most bytes of the tasks of one request. Escaped as Lambda gets them they are at most twice as
many, under the caps of `taskfleet.wire.http.caps`."""


class Call(NamedTuple):
    """A call that waits: its future and its task."""

    future: FleetFuture[Any]
    order: Order


class Ended(NamedTuple):
    """A call whose row is there. `recorded` is the task that this run would have sent, if an
    earlier run of the same key had recorded one in its place; else None."""

    future: FleetFuture[Any]
    row: ResultView
    recorded: bytes | None


@dataclass(frozen=True)
class Counts:
    """Numbers of calls: not handed over yet, handed over without a result, and ended, `failed` of
    them without success."""

    waiting: int
    running: int
    ended: int
    failed: int = 0


class Book:
    """See the module. Safe for any number of threads."""

    def __init__(self, read_log: Callable[[int], str]) -> None:
        self._lock = threading.RLock()
        self._to_send = threading.Condition(self._lock)
        self._to_collect = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._waiting: deque[Call] = deque()
        self._withdrawn = 0
        self._bytes = 0
        self._in_hand = 0
        self._handed: dict[int, FleetFuture[Any]] = {}
        self._recorded: dict[int, bytes] = {}
        self._early: dict[int, ResultView] = {}
        self._next = 0
        self._ended = self._failed = 0
        self._closed: str | None = None
        self._error: BaseException | None = None
        self._over = False
        self._unsure: int | None = None  # index from which on the service may not have the calls
        self._read_log = read_log
        self.sender: threading.Thread | None = None
        self.batch_id: str | None = None
        self.recorded_total = 0
        self.cancelling = False
        self.leave_open = False

    # --- for users -----------------------------------------------------------------------------

    def submit(self, order: Order) -> FleetFuture[Any]:
        """Take in a call. Waits while too much waits to be sent. Raises RuntimeError if the book is
        closed, or the error that broke it."""
        future: FleetFuture[Any] = FleetFuture(self)
        with self._lock:
            if self._bytes > UNSENT_MAX_BYTES and threading.current_thread() is not self.sender:
                self._room.wait_for(lambda: self._bytes <= UNSENT_MAX_BYTES or self._shut)
            if self._error is not None:
                raise self._error
            if self._closed is not None:
                raise RuntimeError(self._closed)
            self._waiting.append(Call(future, order))
            self._bytes += order.weight
            if len(self._waiting) == 1:
                self._to_send.notify()
            is_part = len(self._waiting) == FIRST_PART_TASKS and not self._handed
        if is_part:
            time.sleep(HAND_OVER_S)
        return future

    def expect(self, total: int) -> list[FleetFuture[Any]]:
        """Returns futures of the first `total` tasks of a batch that someone else handed over."""
        futures: list[FleetFuture[Any]] = [FleetFuture(self) for _ in range(total)]
        with self._lock:
            for index, future in enumerate(futures):
                future.number(index)
                self._handed[index] = future
            self._to_collect.notify()
        return futures

    def withdraw(self, future: FleetFuture[Any]) -> bool:
        """Take back a call that waits. Returns False if it is handed over or has ended."""
        with self._lock:
            if future.taken:
                return False
            future.taken = True
            self._withdrawn += 1
            return True

    def log_text(self, index: int) -> str:
        return self._read_log(index)

    @property
    def counts(self) -> Counts:
        with self._lock:
            waiting = len(self._waiting) - self._withdrawn
            return Counts(waiting, len(self._handed) + self._in_hand, self._ended, self._failed)

    def close(self, reason: str, *, cancel: bool = False, leave_open: bool = False) -> None:
        """Take in no more calls; those that were taken in are still run, unless `cancel`.

        reason: what `submit` says from now on.
        leave_open: whether the batch stays open, for another run of the same key.
        """
        with self._lock:
            self.leave_open = self.leave_open or leave_open
            self._closed = self._closed or reason
            self.cancelling = self.cancelling or cancel
            dropped = [call.future for call in self._waiting] if cancel else []
            self._to_send.notify_all()
            self._to_collect.notify_all()
            self._room.notify_all()
        for future in dropped:
            future.cancel()

    @property
    def _shut(self) -> bool:
        return self._error is not None or self._closed is not None

    # --- for the sender ------------------------------------------------------------------------

    def await_first(self) -> str | None:
        """Wait for the first call. Returns its kind; None when none will come."""
        with self._lock:
            while not self._waiting and not self._shut:
                self._to_send.wait()
            return self._waiting[0].order.kind if self._waiting else None

    def take(
        self, most_of: Callable[[str], int] = lambda _function: PART_MAX_TASKS
    ) -> list[Call] | None:
        """Wait for calls. Returns those that go into the next request, which are handed over from
        now on; None when no more will come.

        most_of: returns the most calls of a request with a call of this function, up to
            `PART_MAX_TASKS`. It must not take a lock.
        """
        with self._lock:
            while True:
                part: list[Call] = []
                size, function = 0, None
                most = PART_MAX_TASKS if self._handed else FIRST_PART_TASKS
                while self._waiting and len(part) < most and size < PART_MAX_BYTES:
                    if self._waiting[0].order.pace != function:
                        function = self._waiting[0].order.pace
                        allowed = most_of(function)
                        if part and allowed < most:
                            break
                        most = min(most, allowed)
                    call = self._waiting.popleft()
                    self._bytes -= call.order.weight
                    if call.future.taken:
                        self._withdrawn -= 1
                        continue
                    call.future.taken = True
                    size += len(call.order.task)
                    part.append(call)
                self._room.notify_all()
                if part:
                    self._in_hand = len(part)
                    return part
                if self._shut:
                    self._to_collect.notify_all()
                    return None
                self._to_send.wait()

    @property
    def next_index(self) -> int:
        """The index of the next call."""
        return self._next

    def number(self, calls: Sequence[Call]) -> list[Ended]:
        """Give the calls their indices. Returns those whose rows are known already, as of an
        earlier run of the same key."""
        ended: list[Ended] = []
        with self._lock:
            for call in calls:
                index, self._next = self._next, self._next + 1
                call.future.number(index)
                if index < self.recorded_total:
                    self._recorded[index] = call.order.task
                self._handed[index] = call.future
                row = self._early.pop(index, None)
                if row is not None:
                    ended.append(self._end(row))
            self._in_hand = 0
            self._unsure = max(self._next - len(calls), self.recorded_total)
            self._to_collect.notify_all()
        return ended

    def recorded(self) -> None:
        """Note that the service has every call that has an index."""
        with self._lock:
            self._unsure = None
            over = self._over
            self._to_collect.notify_all()
        if over:
            self.collected()

    def unnumber(self, calls: Sequence[Call]) -> None:
        """Take the indices back from the last calls, none of which was recorded."""
        with self._lock:
            for _ in calls:
                self._next -= 1
                self._handed.pop(self._next, None)
            self._in_hand = len(calls)
            self._unsure = None

    def refuse(self, calls: Sequence[Call], error: BaseException) -> None:
        """End calls in hand, which have no index, with an error."""
        with self._lock:
            self._in_hand -= len(calls)
            self._ended += len(calls)
            self._failed += len(calls)
            self._to_collect.notify_all()
        for call in calls:
            if self.cancelling:
                call.future.end_cancelled()
            elif not call.future.done():
                call.future.set_exception(error)

    # --- for the collector ---------------------------------------------------------------------

    def await_handed(self) -> bool:
        """Wait until a call is recorded whose row is to be read. Returns False when there will be
        none."""
        with self._lock:
            while True:
                if self._handed:
                    if self._is_sure(next(iter(self._handed))):
                        return True
                elif self._error is not None or self._nothing_comes:
                    return False
                self._to_collect.wait()

    @property
    def _nothing_comes(self) -> bool:
        return self._closed is not None and not self._waiting and not self._in_hand

    def _is_sure(self, index: int) -> bool:
        return self._unsure is None or index < self._unsure

    def take_rows(self, rows: Iterable[ResultView]) -> list[Ended]:
        """Take in rows. Returns the calls that they end. A row of a call that this run has not made
        yet is kept for it."""
        ended: list[Ended] = []
        with self._lock:
            for row in rows:
                if row.index in self._handed:
                    ended.append(self._end(row))
                elif row.index >= self._next:
                    self._early[row.index] = row
        return ended

    def _end(self, row: ResultView) -> Ended:
        self._ended += 1
        self._failed += row.status is not TaskStatus.SUCCEEDED
        return Ended(self._handed.pop(row.index), row, self._recorded.pop(row.index, None))

    def collected(self) -> None:
        """Note that the batch has ended and every row was given: whatever has none, never will."""
        with self._lock:
            self._over = True
            sure = [index for index in self._handed if self._is_sure(index)]
            lost = [self._handed.pop(index) for index in sure]
            self._ended += len(lost)
            self._failed += len(lost)
        for future in lost:
            future.end_without_row(self.batch_id)

    def fail(self, error: BaseException, *, handed_too: bool = True) -> None:
        """End every call with an error, since nothing can be sent or read any more.

        handed_too: whether the calls that were handed over end so, too.
        """
        with self._lock:
            self._error = self._error or error
            lost = [call.future for call in self._waiting if not call.future.taken]
            for future in lost:
                future.taken = True
            self._waiting.clear()
            self._withdrawn = self._bytes = self._in_hand = 0
            if handed_too:
                lost += self._handed.values()
                self._handed = {}
            self._ended += len(lost)
            self._failed += len(lost)
            self._to_send.notify_all()
            self._to_collect.notify_all()
            self._room.notify_all()
        for future in lost:
            if not future.done():
                future.set_exception(error)
