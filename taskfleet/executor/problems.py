"""The errors with which calls end that did not end by themselves. Owns the classes; not which row
becomes which error (`taskfleet.executor.outcome`).
"""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import Any

from taskfleet.errors import TaskfleetError


class TaskError(TaskfleetError):
    """A call failed without an exception of its own that could be sent: it timed out, its process
    died, it used too much memory, or its exception or result could not be pickled.

    task_id: id of the task; None if the call was never handed over.
    result: what the failure left, such as exit status and output of a command; None for nothing.
    """

    def __init__(self, message: str, task_id: str | None = None, result: Any = None) -> None:
        super().__init__(message)
        self.task_id = task_id
        self.result = result

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.task_id, self.result)


class Disconnected(BrokenExecutor, TaskfleetError):
    """The service was away for too long. Calls that were handed over go on there."""


def lost_contact(error: BaseException, batch_id: str | None) -> Disconnected:
    """Returns the error of calls whose service is away, with how to get their results later."""
    if batch_id is None:
        failure = Disconnected(f"nothing was handed over: {error}")
    else:
        failure = Disconnected(
            f"lost contact with batch {batch_id}, whose calls go on: {error}; get their results "
            f'with FleetExecutor.attach("{batch_id}")'
        )
    failure.__cause__ = error
    return failure
