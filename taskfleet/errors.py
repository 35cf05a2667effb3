"""The errors that Taskfleet raises, in one class tree. Owns the classes; not the mapping from AWS
error codes (`taskfleet.aws.errors`) nor the mapping to HTTP statuses (`chalice_app.errors`).

A message states what was wrong, where, and what to do about it, in one line.
"""

from __future__ import annotations


class TaskfleetError(Exception):
    """Base class of all errors that Taskfleet raises on purpose."""


class TransientError(TaskfleetError):
    """A failure that may not happen again: a throttle, an HTTP status 5xx, a time-out.

    A task's code raises it to be retried. `retry_after_s` is the shortest delay before the retry,
    in seconds; None leaves the delay to the usual backoff.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class PermanentError(TaskfleetError):
    """A failure that a retry cannot help. A task that raises it fails with this message."""


class TaskFailed(TaskfleetError):
    """A failure of a task that leaves more than its message. The kinds that run users' own work
    raise it; it is retried if the kind's retry policy names it.

    result: JSON value that is recorded beside the error, such as the exit status of a command;
        None for none.
    traceback: the user's own frames, in words; None for none.
    """

    def __init__(
        self, message: str, result: object = None, *, traceback: str | None = None
    ) -> None:
        super().__init__(message)
        self.result = result
        self.traceback = traceback


class LeaseLost(TaskfleetError):
    """The lease on a bundle is gone: another worker may own it. Drop the work and write nothing."""


class TaskStopped(TaskfleetError):
    """Raised inside a running task when its worker drains or has lost the lease. The execution does
    not count as an attempt."""


class InvalidTask(TaskfleetError):
    """A task that no worker could run. `reason` is the message without the task's place; `index` is
    the task's place in the submission, from 0, or None if unknown."""

    def __init__(self, message: str, index: int | None = None) -> None:
        super().__init__(message if index is None else f"task {index}: {message}")
        self.reason = message
        self.index = index

    def at(self, index: int) -> InvalidTask:
        """Returns a copy of this error for the task at `index`."""
        return type(self)(self.reason, index)


class UnknownKind(InvalidTask):
    """The task's kind is defined in none of the loaded modules."""


class Undecodable(TaskfleetError):
    """A queue message in no known form. It belongs on the dead-letter queue."""


class NotFound(TaskfleetError):
    """The requested thing does not exist, or it belongs to another client. Callers must not tell
    the two cases apart."""


class Conflict(TaskfleetError):
    """The request contradicts the records, such as one idempotency key with two payloads."""


class TooLarge(TaskfleetError):
    """Something is larger than its cap."""


class LimitReached(TaskfleetError):
    """A client has as much as it may have at a time. `retry_after_s` is the delay in seconds after
    which it may try again."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class SettingsError(TaskfleetError):
    """Settings that cannot work. The message lists all faults."""
