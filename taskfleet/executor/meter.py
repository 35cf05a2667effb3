"""The thread that shows how far the calls of an executor are. Owns its pace and its estimate of the
time left; not how progress is drawn (`taskfleet.client.progress`).
"""

from __future__ import annotations

import atexit
import threading

from taskfleet.executor.book import Book, Counts
from taskfleet.ports import Clock

PERIOD_S = 0.25
"""Seconds between two pictures."""


class Meter:
    """`start` begins to show the counts of the book, `stop` shows them for the last time.

    name: says what the calls are; the id of their batch unless given.
    """

    def __init__(self, book: Book, name: str | None, clock: Clock) -> None:
        self._book = book
        self._name = name
        self._clock = clock
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="fleet-progress", daemon=True)

    def start(self) -> None:
        """Begin. At the exit of the interpreter it ends, so that the terminal gets its cursor
        back."""
        atexit.register(self.stop)
        self._thread.start()

    def stop(self) -> None:
        """Show the last state. Returns once it is drawn."""
        self._ended.set()
        self._thread.join()
        atexit.unregister(self.stop)

    def _run(self) -> None:
        from taskfleet.client.progress import State, shown_progress

        began = self._clock.now()
        with shown_progress() as show:
            over = False
            while not over:
                over = self._ended.wait(PERIOD_S)
                counts = self._book.counts
                show(
                    State(
                        self._name or self._book.batch_id or "calls",
                        counts.ended,
                        counts.failed,
                        counts.waiting + counts.running + counts.ended,
                        left_s(counts, self._clock.now() - began),
                    )
                )


def left_s(counts: Counts, passed_s: float) -> float | None:
    """Returns the estimate of the seconds that are left: the rest at the pace so far. None before
    the first result and after the last.

    passed_s: seconds since the first call.
    """
    rest = counts.waiting + counts.running
    return passed_s / counts.ended * rest if counts.ended and rest else None
