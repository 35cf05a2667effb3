"""How many calls of a function go at first. The service cuts calls into messages by the durations
that it has learned, and takes a function that it does not know for a slow one: ten thousand quick
calls would travel a few to a message. So of a flood of calls of a new function, few go first, and
more as these end. Owns this rule.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

from taskfleet.executor.book import PART_MAX_TASKS, Call

FIRST = 16
"""Calls of a function that go before anything is known of it. Fewer never wait."""
GROWTH = 8
"""Calls that may go for each one that has ended."""
ENOUGH = 250
"""Calls that have ended when enough is known. The first of each process takes longer."""
HOLD_S = 1.0
"""Longest wait for calls to end, in seconds; a cold worker takes about half of it for its first.
After that the rest goes: such calls are slow ones indeed, for which the service's guess is
right."""
HOLDS = 2
"""Waits in vain after which a function is slow for good."""


class SlowStart:
    """For one thread. `known` are the functions of which enough is known."""

    def __init__(self, hold_s: float = HOLD_S) -> None:
        self.known: set[str] = set()
        self._hold_s = hold_s
        self._flood = _Flood("")
        self._least = FIRST

    def most(self, function: str) -> int:
        """Returns how many calls the next request may have if one is of this function."""
        if function in self.known:
            return PART_MAX_TASKS
        if function != self._flood.function:
            return FIRST
        return max(self._least, GROWTH * self._flood.ended)

    def sent(self, calls: Sequence[Call], waiting: Callable[[], int]) -> None:
        """Take in what was sent, and wait if more should not follow yet.

        waiting: returns the number of calls that would go next.
        """
        new = [call for call in calls if call.order.pace not in self.known]
        if not new:
            return
        function = new[-1].order.pace
        if function != self._flood.function:
            self._flood = _Flood(function)
        flood = self._flood
        flood.add(call.future for call in new)
        self._least = FIRST
        if waiting() > FIRST and not self._half_end():
            flood.held_in_vain += 1
            self._least = PART_MAX_TASKS
        if flood.ended >= ENOUGH or flood.held_in_vain >= HOLDS:
            self.known |= {call.order.pace for call in new}

    def _half_end(self) -> bool:
        """Wait for the end of half of the calls. Returns whether it came in time. The other half
        keeps the workers busy meanwhile."""
        until = time.monotonic() + self._hold_s
        sent = self._flood.sent
        late = {future for future in sent if not future.done()}
        while 2 * len(late) > len(sent):
            done, late = wait(late, until - time.monotonic(), FIRST_COMPLETED)
            if not done:
                return False
        return True


class _Flood:
    """The calls of one function that were sent before enough was known of it.

    ended: how many of them have ended. Reading it takes no lock, so anyone may.
    held_in_vain: how often the rest was held and they did not end.
    """

    def __init__(self, function: str) -> None:
        self.function = function
        self.sent: list[Future[Any]] = []
        self.ended = 0
        self.held_in_vain = 0
        self._lock = threading.Lock()

    def add(self, futures: Iterable[Future[Any]]) -> None:
        for future in futures:
            self.sent.append(future)
            future.add_done_callback(self._note)

    def _note(self, _future: Future[Any]) -> None:
        with self._lock:
            self.ended += 1
