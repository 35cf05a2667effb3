"""Waiting for a condition, for tests of what happens in other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05
SLOWEST_POLL_S = 0.5
"""Longest pause. A pause is a tenth of the time waited so far: tests that look at real processes
all the time slow down what they wait for."""
PATIENCE_S = 60.0
"""Plenty for a busy computer. Only a test that fails waits so long."""


def eventually(
    condition: Callable[[], T],
    timeout_s: float = PATIENCE_S,
    what: str | Callable[[], str] = "the condition holds",
    *,
    poll_s: float = POLL_S,
) -> T:
    """Call `condition` until it returns something true, and return that.

    Raises AssertionError after `timeout_s`, with `what` was waited for and the last value seen.
    `what` may be a function, for a message that is only worth making once the wait has failed.
    """
    began = time.monotonic()
    while not (found := condition()):
        waited_s = time.monotonic() - began
        if waited_s >= timeout_s:
            told = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:g} s: {told} (last seen: {found!r})")
        time.sleep(max(poll_s, min(waited_s / 10, SLOWEST_POLL_S)))
    return found
