import random

import pytest

from taskfleet.errors import InvalidTask, PermanentError, TaskFailed, TaskStopped, TransientError
from taskfleet.retry import BACKOFF_CAP_S, RetryDecision, RetryPolicy, backoff_s


@pytest.mark.parametrize(
    ("error", "attempt", "decision"),
    [
        (TransientError("throttled"), 1, RetryDecision.RETRY),
        (TransientError("throttled"), 2, RetryDecision.RETRY),
        (TransientError("throttled"), 3, RetryDecision.EXHAUSTED),
        (TransientError("throttled"), 9, RetryDecision.EXHAUSTED),
        (ConnectionResetError(), 1, RetryDecision.RETRY),
        (TimeoutError(), 1, RetryDecision.RETRY),
        (ValueError("a bug"), 1, RetryDecision.FAIL),
        (PermanentError("404"), 1, RetryDecision.FAIL),
        (InvalidTask("bad"), 1, RetryDecision.FAIL),
        (TaskStopped("drain"), 1, RetryDecision.GIVE_BACK),
        (TaskStopped("drain"), 9, RetryDecision.GIVE_BACK),
    ],
)
def test_the_retry_rule(error, attempt, decision):
    assert RetryPolicy(max_attempts=3).decide(error, attempt) is decision


def test_a_kind_may_name_its_own_transient_errors():
    policy = RetryPolicy(max_attempts=2, transient=(KeyError,))
    assert policy.decide(KeyError("x"), 1) is RetryDecision.RETRY
    assert policy.decide(TransientError("x"), 1) is RetryDecision.FAIL


def test_a_permanent_error_is_final_even_when_its_base_counts_as_transient():
    policy = RetryPolicy(transient=(Exception,))
    assert policy.decide(PermanentError("404"), 1) is RetryDecision.FAIL


def test_a_users_failing_program_is_no_dead_letter():
    policy = RetryPolicy(max_attempts=2, transient=(Exception,))
    assert policy.decide(TaskFailed("exit status 3"), 1) is RetryDecision.RETRY
    assert policy.decide(TaskFailed("exit status 3"), 2) is RetryDecision.FAIL
    assert policy.decide(TransientError("store"), 2) is RetryDecision.EXHAUSTED


@pytest.mark.parametrize(
    ("attempt", "ceiling"),
    [(1, 10), (2, 20), (5, 160), (8, BACKOFF_CAP_S), (10_000, BACKOFF_CAP_S)],
)
def test_backoff_is_full_jitter_under_a_doubling_ceiling(attempt, ceiling):
    draws = [backoff_s(attempt, random.Random(seed)) for seed in range(400)]
    assert 0 <= min(draws) < ceiling * 0.05
    assert ceiling * 0.95 < max(draws) <= ceiling
