"""The kinds of tasks of a history, whose results follow from the task alone. Owns the kinds and
their right results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskfleet.errors import PermanentError, TransientError
from taskfleet.registry import TaskKind
from taskfleet.task import TaskStatus
from tests.support.worker import thread_kind

KINDS = ("double", "double", "double", "pooled", "flaky", "gone", "killer", "bulky")
"""double: its result is twice its number. pooled: the same, and it may take an earlier result.
flaky: the same, after one or two attempts that fail. bulky: the same, with a result of many bytes.
gone: it fails for good. killer: it ends its worker."""
MOST = {"killer": 2, "bulky": 5}
"""Most tasks of a history of these kinds. One that ends its worker takes five workers until it is
given up."""
BULK = "x" * 300_000
"""A result with this goes to the store, since no item holds it."""


def right_result(task: dict[str, Any]) -> tuple[TaskStatus, Any]:
    """Returns how a task ends that runs to its end, and its result."""
    kind, number = task["kind"], task["params"]["n"]
    if kind in ("gone", "killer"):
        return TaskStatus.FAILED, None
    result = {"is": 2 * number}
    return TaskStatus.SUCCEEDED, result | {"bulk": BULK} if kind == "bulky" else result


def expected_s(params: Any) -> float | None:
    """Returns what is expected of a task. Of some, it is what was learned by then."""
    known: list[float | None] = [0.0, 0.7, None]
    return known[params["n"] % 3]


def kinds(kill: Callable[[], None], ran: Callable[[], None]) -> list[TaskKind]:
    """Returns the kinds. `kill` ends the worker, and `ran` is called for each execution."""

    def run(params: Any, context: Any) -> Any:
        ran()
        if context.attempt <= params.get("fail", 0):
            raise TransientError("not yet")
        return {"is": 2 * params["n"]} | ({"bulk": BULK} if "bulk" in params else {})

    def fail(_params: Any, _context: Any) -> None:
        ran()
        raise PermanentError("404")

    def die(_params: Any, _context: Any) -> None:
        ran()
        kill()

    def kind(name: str, run: Callable[[Any, Any], Any], **options: Any) -> TaskKind:
        return thread_kind(name, run, expected_s=expected_s, **options)

    return [
        kind("double", run),
        kind("pooled", run, deterministic=True),
        kind("flaky", run),
        kind("bulky", run),
        kind("gone", fail),
        kind("killer", die),
    ]
