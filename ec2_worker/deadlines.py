"""Calls at a later time, all made by one thread. Owns the thread and the order of the calls; not
what is late."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable


class Deadlines:
    """Makes calls when their time has come. The thread starts with the first call asked for, and
    lives as long as the process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._calls: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None

    def after(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call `action`, which must be quick and raise nothing, in so many seconds. Returns a
        function that cancels the call, which does nothing once the call is made."""
        with self._changed:
            number = next(self._numbers)
            heapq.heappush(self._calls, (time.monotonic() + seconds, number, action))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
                self._thread.start()
            elif self._calls[0][1] == number:
                self._changed.notify()
        return lambda: self._cancel(number)

    def _cancel(self, number: int) -> None:
        with self._changed:
            if any(each[1] == number for each in self._calls):
                self._calls = [each for each in self._calls if each[1] != number]
                heapq.heapify(self._calls)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._calls or self._calls[0][0] > time.monotonic():
                    wait_s = self._calls[0][0] - time.monotonic() if self._calls else None
                    self._changed.wait(wait_s)
                _, _, action = heapq.heappop(self._calls)
            action()
