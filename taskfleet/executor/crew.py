"""The threads of an executor and what they share. Owns their start and end; not their work
(`taskfleet.executor.sender`, `taskfleet.executor.collector`, `taskfleet.executor.meter`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from taskfleet.clock import SystemClock
from taskfleet.errors import TaskfleetError
from taskfleet.executor.book import Book
from taskfleet.executor.collector import Collector
from taskfleet.executor.desk import DeskMaker
from taskfleet.executor.exits import at_exit
from taskfleet.executor.meter import Meter
from taskfleet.executor.sender import Opening, Sender

SHUT_DOWN = "cannot submit calls to an executor that was shut down"
GARBAGE = "the executor is gone"
EXIT = "cannot submit calls while the interpreter ends"

_process = object()
"""Stands for this process: a forked child has another one. Comparing it takes no system call,
unlike the process id, which would be asked for at each call of a user."""


def _begin_child() -> None:
    global _process
    _process = object()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_begin_child)


class Crew:
    """Threads start with the first call. None of them holds the executor, so that one that is
    forgotten is garbage, and its threads end when its calls have.

    on_end: called once, by the last thread, when nothing is left to do.
    progress: whether a third thread shows how far the calls are.
    """

    def __init__(
        self,
        make_desk: DeskMaker,
        opening: Opening,
        outage_s: float,
        on_end: Callable[[], None] = lambda: None,
        *,
        progress: bool = False,
    ) -> None:
        self.make_desk = make_desk
        self._on_end = on_end
        self._process = _process
        self._let_go = False
        self._lock = threading.Lock()
        self._collecting: threading.Thread | None = None
        self.book = Book(self._read_log)
        clock = SystemClock()
        self._sender = Sender(self.book, make_desk, opening, clock, outage_s)
        self._collector = Collector(self.book, make_desk, clock, outage_s)
        self._meter = Meter(self.book, opening.name, clock) if progress else None

    def start(self, *, sender: bool = True) -> None:
        """Start the threads unless they run. Raises RuntimeError in a forked child, where they
        cannot be."""
        if self._process is not _process:
            raise RuntimeError(
                "this executor was made before a fork, and its threads are in the parent process; "
                "make an executor in this process"
            )
        if self._collecting is not None:
            return
        with self._lock:
            if self._collecting is not None:
                return
            if sender:
                self.book.sender = threading.Thread(
                    target=self._sender.run, name="fleet-sender", daemon=True
                )
                self.book.sender.start()
                at_exit(Crew._leave, self)
            self._collecting = threading.Thread(
                target=self._collect, name="fleet-collector", daemon=True
            )
            self._collecting.start()
            if self._meter is not None:
                self._meter.start()

    def _collect(self) -> None:
        self._collector.run()
        if self.book.sender is not None:
            self.book.sender.join()
        if self._meter is not None:
            self._meter.stop()
        self._on_end()

    def cancel(self, reason: str) -> None:
        """Cancel what has not started: what waits here at once, and what was handed over by a call
        of this thread's own, since the sender may be busy. It cancels again in the end."""
        self.book.close(reason, cancel=True)
        if self.book.batch_id is None or self._process is not _process:
            return
        desk = self.make_desk()
        try:
            desk.cancel(self.book.batch_id)
        except TaskfleetError:
            pass
        finally:
            desk.close()

    def let_go(self) -> None:
        """Do not wait for the calls at the interpreter's exit, nor show how far they are."""
        self._let_go = True
        if self._meter is not None:
            self._meter.stop()

    def join(self) -> None:
        """Wait until every call has ended and the threads have, too."""
        if self._process is not _process or self._collecting is None:
            return
        if threading.current_thread() not in (self._collecting, self.book.sender):
            self._collecting.join()

    def _leave(self) -> None:
        if self._process is _process and not self._let_go:
            self.book.close(EXIT)
            self.join()

    def _read_log(self, index: int) -> str:
        desk = self.make_desk()
        try:
            return desk.log_text(self.book.batch_id or "", index)
        finally:
            desk.close()
