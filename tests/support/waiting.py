"""Waiting for a condition, for tests of what happens in other threads and processes."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05
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
    deadline = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() >= deadline:
            told = what() if callable(what) else what
            raise AssertionError(f"not within {timeout_s:g} s: {told} (last seen: {found!r})")
        time.sleep(poll_s)
    return found
