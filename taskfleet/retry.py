"""The retry rule: what follows a failed attempt, and after which delay. Owns the decision and the
backoff formula, as pure functions; not their execution (`ec2_worker`)."""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec

from taskfleet.errors import InvalidTask, PermanentError, TaskFailed, TaskStopped, TransientError

BACKOFF_BASE_S = 5.0
"""Half of the longest delay after the first attempt, in seconds."""
BACKOFF_CAP_S = 900.0
"""Longest delay after any attempt, in seconds."""


class RetryDecision(StrEnum):
    """What follows an execution that raised an error."""

    RETRY = "RETRY"
    """The task returns to QUEUED. The execution counts as an attempt."""
    GIVE_BACK = "GIVE_BACK"
    """The task returns to QUEUED. The execution does not count as an attempt."""
    FAIL = "FAIL"
    """The task fails with the error."""
    EXHAUSTED = "EXHAUSTED"
    """The task fails with the error, which was transient, since it has no attempts left. Its
    message goes to the dead-letter queue."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """How a task kind is retried. Only errors of the `transient` types are. A bug in a task's code
    fails the task at once, since another run would cost money and end the same way.

    max_attempts: most executions of one task, including the first.
    transient: types of errors that are retried.
    """

    max_attempts: int = 5
    transient: tuple[type[BaseException], ...] = (TransientError, ConnectionError, TimeoutError)

    def decide(self, error: BaseException, attempt: int) -> RetryDecision:
        """Returns what follows `error`. `attempt` is the number of the failed attempt, from 1."""
        if isinstance(error, TaskStopped):
            return RetryDecision.GIVE_BACK
        if isinstance(error, PermanentError | InvalidTask) or not isinstance(error, self.transient):
            return RetryDecision.FAIL
        if not self.is_last(attempt):
            return RetryDecision.RETRY
        # A user's own program that fails concerns its user only, and is no dead letter.
        return RetryDecision.FAIL if isinstance(error, TaskFailed) else RetryDecision.EXHAUSTED

    def is_last(self, attempt: int) -> bool:
        """Returns whether no attempt may follow attempt number `attempt`, counted from 1."""
        return attempt >= self.max_attempts


def backoff_s(attempt: int, rng: random.Random) -> float:
    """Returns the seconds between attempt number `attempt`, counted from 1, and the next one: a
    random number between 0 and min(900, 5 * 2^attempt). This is "full jitter" of M. Brooker,
    "Exponential Backoff And Jitter", AWS Architecture Blog, 2015."""
    return rng.uniform(0, longest_backoff_s(attempt))


def longest_backoff_s(attempt: int) -> float:
    """Returns the most seconds between attempt number `attempt`, counted from 1, and the next."""
    doublings = min(attempt, 30)  # keeps the power within a float
    return min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2.0**doublings)
