"""One attempt at one task: the context that the task sees, and what the end of its run means. It is
the same in a thread of the worker and in a runner process; who records the outcome is not its
matter."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from ec2_worker.stop import Stop
from taskfleet import spill
from taskfleet.errors import (
    PermanentError,
    TaskFailed,
    TaskfleetError,
    TaskStopped,
    TransientError,
)
from taskfleet.log import fields
from taskfleet.ports import Clock, ObjectStore
from taskfleet.registry import TaskKind
from taskfleet.retry import RetryDecision
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.strictjson import MAX_DEPTH, check_depth

_log = logging.getLogger(__name__)

RESULT_MAX_BYTES = 1_000_000
"""Largest JSON of one result."""
ERROR_MAX_CHARS = 2_000
"""Longest error of one task, in characters."""
TRACEBACK_MAX_BYTES = 8_000
"""Longest traceback of one task, in bytes of UTF-8."""
LARGE_RESULT_BYTES = 32_000
"""Most bytes of JSON of a result in the table; a larger one is stored as an object by itself."""
PROGRESS_MAX = 1e15
"""Largest number in a report of progress."""
SHORTEST_WAIT_S = 20e-6
"""Seconds of sleep below which a task does not wait but passes the time. The system's shortest wait
takes about 60 microseconds ("PR_SET_TIMERSLACK", prctl(2)), and each gives the interpreter's lock
away: 100,000 waits of no length cost 8 s of the processor."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Scene:
    """What the tasks of a chunk share.

    stop: the request that they end.
    report: called with a task's index, its start and its progress.
    """

    batch_id: str
    client_id: str
    worker_id: str
    store: ObjectStore
    stop: Stop
    clock: Clock
    report: Callable[[int, float, list[Any]], None]


class SlotContext:
    """`taskfleet.registry.TaskContext` for one task."""

    __slots__ = ("_scene", "_started_at", "attempt", "index")

    def __init__(self, scene: Scene, index: int, attempt: int, started_at: float) -> None:
        self._scene = scene
        self._started_at = started_at
        self.index = index
        self.attempt = attempt

    @property
    def batch_id(self) -> str:
        return self._scene.batch_id

    @property
    def client_id(self) -> str:
        return self._scene.client_id

    @property
    def store(self) -> ObjectStore:
        return self._scene.store

    @property
    def stopped(self) -> bool:
        return self._scene.stop.event.is_set()

    def check_stopped(self) -> None:
        if self._scene.stop.event.is_set():
            raise TaskStopped("the task must end: its time is up, or its worker leaves")

    def begin(self) -> None:
        self._started_at = self._scene.clock.now()

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:
        return self._scene.stop.on_stop(action)

    def sleep(self, seconds: float) -> None:
        if seconds < SHORTEST_WAIT_S:
            until = time.perf_counter() + seconds
            while time.perf_counter() < until:
                pass
        else:
            self._scene.stop.event.wait(seconds)
        self.check_stopped()

    def progress(self, done: int, total: int) -> None:
        for value in (done, total):
            if not isinstance(value, int | float) or not abs(value) <= PROGRESS_MAX:
                raise PermanentError(f"progress takes two numbers, not {value!r:.60}")
        self._scene.report(self.index, self._started_at, [done, total])


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Why an attempt brought no result, for the log.

    text: the error in words.
    where: file and line that raised it; None when unknown.
    expected: whether it is an answer to the client, or will be tried again, and so no fault here.
    """

    index: int
    attempt: int
    decision: RetryDecision
    text: str
    where: str | None
    expected: bool


class Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The end of an attempt: the row to record, and why it failed if it did."""

    row: TaskResult
    failure: Failure | None = None


def run(
    kind: TaskKind, params: Any, context: SlotContext, clock: Clock
) -> tuple[TaskResult | None, Failure | None, float]:
    """Run one task. Returns the row to record, None if the attempt does not count; why it failed,
    if it did; and the time of its end. Raises nothing that the task raised."""
    scene = context._scene
    result, stored, failure, text, trace = None, None, None, None, None
    status = TaskStatus.SUCCEEDED
    try:
        result = kind.run(params, context)
        if result is not None:
            result, stored = _kept(result, scene.store)
    except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
        decision = kind.retry.decide(error, context.attempt)
        if decision is RetryDecision.GIVE_BACK:
            return None, None, clock.now()
        status = status_after(decision)
        result, stored = _left_by(error, scene.store) if status.final else (None, None)
        text, trace = describe(error), own_traceback(error)
        failure = Failure(
            context.index,
            context.attempt,
            decision,
            text,
            _where(error),
            decision is RetryDecision.RETRY or isinstance(error, PermanentError | TaskFailed),
        )
    ended_at, started_at = clock.now(), context._started_at
    row = TaskResult(
        context.index,
        status,
        result,
        text,
        context.attempt,
        round(started_at, 3),
        round(max(ended_at - started_at, 0.0), 6),
        scene.worker_id,
        stored=stored,
        traceback=trace,
    )
    return row, failure, ended_at


def cut_short(
    text: str,
    decision: RetryDecision,
    *,
    index: int,
    attempt: int,
    started_at: float,
    duration_s: float,
    worker_id: str,
) -> Outcome:
    """Returns the outcome of an attempt that was ended from outside, for the reason `text`."""
    row = TaskResult(
        index,
        status_after(decision),
        error=text,
        attempts=attempt,
        started_at=round(started_at, 3),
        duration_s=round(max(duration_s, 0.0), 6),
        worker_id=worker_id,
    )
    expected = decision is RetryDecision.RETRY
    return Outcome(row, Failure(index, attempt, decision, text, None, expected))


def status_after(decision: RetryDecision) -> TaskStatus:
    """Returns the status of a task after a failed attempt that counts."""
    return TaskStatus.QUEUED if decision is RetryDecision.RETRY else TaskStatus.FAILED


def _kept(result: Any, store: ObjectStore) -> tuple[Any, str | None]:
    """The result as it is recorded: the value, or None and the key of the object that holds it. The
    value is a copy in JSON's own types, which the task's code cannot change later."""
    encoded = encode_result(result)
    if len(encoded) > LARGE_RESULT_BYTES:
        try:
            return None, spill.put(store, encoded)
        except TransientError as error:
            # The commit will store it, and tries for as long as the lease lives.
            _log.warning("a result was not stored", extra=fields("store_failed", reason=str(error)))
    return _decode(encoded), None


def _left_by(error: BaseException, store: ObjectStore) -> tuple[Any, str | None]:
    """What a failure leaves beside its message, as `_kept` returns it. One that is no result is
    left out: the message is worth more."""
    if not isinstance(error, TaskFailed) or error.result is None:
        return None, None
    try:
        return _kept(error.result, store)
    except PermanentError as fault:
        _log.warning("a failure's result was dropped", extra=fields("dropped", reason=str(fault)))
        return None, None


def encode_result(result: Any) -> bytes:
    """Returns the result as JSON. Raises PermanentError if it is not JSON, is over
    `RESULT_MAX_BYTES`, or is nested more deeply than readers can follow."""
    try:
        encoded = _encode(result)
        if encoded.count(b"[") + encoded.count(b"{") > MAX_DEPTH:
            check_depth(_decode(encoded))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise PermanentError(f"the result is not JSON: {error}") from error
    if len(encoded) > RESULT_MAX_BYTES:
        raise PermanentError(
            f"the result has {len(encoded)} bytes of JSON, over the cap of {RESULT_MAX_BYTES}; "
            "put it into context.store and return its key"
        )
    return encoded


def describe(error: BaseException) -> str:
    """The error in words for the task's owner: its text, after its type unless Taskfleet defines
    the error. At most `ERROR_MAX_CHARS` characters, all of which UTF-8 can encode."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - the error is the task's own code, too
        text = "(the error has no text)"
    if not isinstance(error, TaskfleetError):
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    text = text.encode(errors="replace").decode()
    return text if len(text) <= ERROR_MAX_CHARS else text[: ERROR_MAX_CHARS - 1] + "…"


def own_traceback(error: BaseException) -> str | None:
    """The traceback of an error that a task raised, without the frames of Taskfleet that called it,
    at most `TRACEBACK_MAX_BYTES` long. None for the errors that Taskfleet defines: their text is
    the answer."""
    if isinstance(error, TaskFailed) and error.traceback is not None:
        return _bounded(error.traceback)
    if isinstance(error, TaskfleetError) or error.__traceback__ is None:
        return None
    try:
        frames = error.__traceback__.tb_next
        lines = traceback.format_exception(type(error), error, frames)
    except Exception:  # noqa: BLE001 - the error is the task's own code, too
        return None
    return _bounded("".join(lines))


def _bounded(trace: str) -> str:
    """The beginning and the end of a traceback, at most `TRACEBACK_MAX_BYTES` together."""
    text = trace.encode(errors="replace")
    if len(text) > TRACEBACK_MAX_BYTES:
        half = (TRACEBACK_MAX_BYTES - 40) // 2
        text = text[:half] + b"\n  [...]\n" + text[-half:]
    return text.decode(errors="ignore")


def _where(error: BaseException) -> str | None:
    """File and line that raised the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
