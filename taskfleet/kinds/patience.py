"""Trouble with the object store inside a task: tried again after short pauses, before it counts as
a failure. Owns the pauses; not what is asked of the store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from taskfleet.errors import TransientError
from taskfleet.registry import TaskContext

PAUSES_S = (0.2, 0.5, 1.5, 4.0)
"""Pauses between two tries, in seconds. What the store itself asks for, up to `PAUSE_MAX_S`, goes
before."""
PAUSE_MAX_S = 10.0
T = TypeVar("T")


def patiently(ask: Callable[[], T], context: TaskContext) -> T:
    """Returns what `ask` returns, tried again after TransientError. Raises what it raises at last,
    and TaskStopped as soon as the task must end."""
    for pause_s in PAUSES_S:
        try:
            return ask()
        except TransientError as error:
            context.sleep(min(max(pause_s, error.retry_after_s or 0.0), PAUSE_MAX_S))
    return ask()
