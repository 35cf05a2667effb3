"""Kinds of tasks whose results are functions of their params, and what these are. They stand in a
module of their own, since workers import it."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from taskfleet.errors import PermanentError, TransientError
from taskfleet.registry import task_kind


def result_of(kind: str, params: Any) -> Any:
    """Returns the result that a task must have."""
    if kind == "large":
        return random.Random(params).randbytes(400_000).hex()
    return hashlib.sha256(f"{kind} {params}".encode()).hexdigest()


@task_kind("echo", expected_s=lambda _params: 0.3)
def echo(params: Any, _context: Any) -> Any:
    """Prints, so that its output is stored."""
    print(params)
    return result_of("echo", params)


@task_kind("linger", runs_in="thread", expected_s=lambda _params: 4.0)
def linger(params: Any, context: Any) -> Any:
    """Takes longer than a lease."""
    context.sleep(4.0)
    return result_of("linger", params)


@task_kind("large", expected_s=lambda _params: 0.5)
def large(params: Any, _context: Any) -> Any:
    """Has a result that is an object of its own."""
    return result_of("large", params)


@task_kind("flaky", expected_s=lambda _params: 0.1)
def flaky(params: Any, context: Any) -> Any:
    """Fails at its first attempt."""
    if context.attempt == 1:
        raise TransientError("not yet")
    return result_of("flaky", params)


@task_kind("known", expected_s=lambda _params: 0.1, deterministic=True)
def known(params: Any, _context: Any) -> Any:
    """Has a result that may serve again."""
    return result_of("known", params)


@task_kind("broken", expected_s=lambda _params: 0.1)
def broken(_params: Any, _context: Any) -> Any:
    """Always fails."""
    raise PermanentError("broken on purpose")
