"""The one tree of errors. Owns what can go wrong; not how AWS spells it (`taskfleet.aws.errors`)
nor how HTTP does (`chalice_app.errors`).

Every message is for the person who reads it: what was wrong, where, what to do.
"""

from __future__ import annotations


class TaskfleetError(Exception):
    """Base of every error that Taskfleet raises on purpose."""


class TransientError(TaskfleetError):
    """It may work when tried again: a throttle, a 5xx, a time-out.

    A task's code raises it to be retried; `retry_after_s` is the earliest sensible moment,
    in seconds from now, or None when the usual backoff will do.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(TaskfleetError):
    """Trying again cannot help: the task fails with this message."""


class LeaseLost(TaskfleetError):
    """Somebody else may own the bundle now: drop the work, touch nothing."""


class TaskStopped(TaskfleetError):
    """Raised inside a running task when its worker drains or lost the lease; spends no attempt."""


class InvalidTask(TaskfleetError):
    """A task that no worker could run. `index` is its place in what was submitted, from 0."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message if index is None else f"task {index}: {message}")
        self.reason = message
        self.index = index

    def at(self, index: int) -> InvalidTask:
        """The same fault, named by the task's place."""
        return type(self)(self.reason, index)


class UnknownKind(InvalidTask):
    """No loaded module defines a task kind of that name."""


class Undecodable(TaskfleetError):
    """A message on a queue that is not of any known form; it belongs on the dead-letter queue."""


class NotFound(TaskfleetError):
    """No such batch, or it belongs to another client; callers must not tell the two apart."""


class Conflict(TaskfleetError):
    """The request contradicts what is recorded, such as one idempotency key for two payloads."""


class TooLarge(TaskfleetError):
    """Over a stated cap."""


class SettingsError(TaskfleetError):
    """Settings that cannot work; the message lists every fault found."""
