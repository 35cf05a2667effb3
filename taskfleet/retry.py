"""What happens after a failed attempt: one pure decision, one backoff formula."""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec

from taskfleet.errors import InvalidTask, PermanentError, TaskStopped, TransientError

BACKOFF_BASE_S = 5.0
BACKOFF_CAP_S = 900.0


class RetryDecision(StrEnum):
    RETRY = "RETRY"
    """The task returns to QUEUED; this attempt is spent."""
    GIVE_BACK = "GIVE_BACK"
    """The task returns to QUEUED; no attempt is spent."""
    FAIL = "FAIL"
    """The error is the task's result."""
    EXHAUSTED = "EXHAUSTED"
    """As FAIL, and the task belongs on the dead-letter queue: it might have worked."""


class RetryPolicy(msgspec.Struct, frozen=True):
    """Of one task kind. Only errors of the `transient` types are tried again: a bug in a task's
    code fails at once, since running it again would cost money and change nothing."""

    max_attempts: int = 5
    transient: tuple[type[BaseException], ...] = (TransientError, ConnectionError, TimeoutError)

    def decide(self, error: BaseException, attempt: int) -> RetryDecision:
        """`attempt` is the number, from 1, of the one that ended with `error`."""
        if isinstance(error, TaskStopped):
            return RetryDecision.GIVE_BACK
        if isinstance(error, PermanentError | InvalidTask) or not isinstance(error, self.transient):
            return RetryDecision.FAIL
        return RetryDecision.EXHAUSTED if self.is_last(attempt) else RetryDecision.RETRY

    def is_last(self, attempt: int) -> bool:
        """Whether no attempt may follow the one of this number, counted from 1."""
        return attempt >= self.max_attempts


def backoff_s(attempt: int, rng: random.Random) -> float:
    """Seconds until the attempt after `attempt`: full jitter of min(900, 5 * 2^attempt)
    ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015)."""
    return rng.uniform(0, min(BACKOFF_CAP_S, BACKOFF_BASE_S * 2 ** min(attempt, 30)))
