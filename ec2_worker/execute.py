"""Running tasks in a slot: the context that a task sees, and what the end of its run means. Which
task is next is decided by `ec2_worker.workload`."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

import msgspec

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.workload import CHUNK_S
from taskfleet import spill
from taskfleet.errors import PermanentError, TaskfleetError, TaskStopped, TransientError
from taskfleet.log import bound, fields
from taskfleet.ports import Clock, ObjectStore
from taskfleet.registry import Registry, TaskKind
from taskfleet.retry import RetryDecision
from taskfleet.task import Task, TaskResult, TaskStatus, task_id
from taskfleet.wire.strictjson import MAX_DEPTH, check_depth

_log = logging.getLogger(__name__)

RESULT_MAX_BYTES = 1_000_000
"""Largest JSON of one result."""
ERROR_MAX_CHARS = 2_000
"""Longest error of one task, in characters."""
LARGE_RESULT_BYTES = 32_000
"""Most bytes of JSON of a result in the table; a larger one is stored as an object by itself."""
PROGRESS_MAX = 1e15
"""Largest number in a report of progress."""
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class SlotContext:
    """`taskfleet.registry.TaskContext` for one task in one slot."""

    __slots__ = ("_claimed", "_clock", "_started_at", "attempt", "index", "store")

    def __init__(
        self,
        claimed: ClaimedBundle,
        task: Task,
        store: ObjectStore,
        clock: Clock,
        started_at: float,
    ) -> None:
        self._claimed = claimed
        self._clock = clock
        self._started_at = started_at
        self.index = task.index
        self.attempt = claimed.attempt(task.index)
        self.store = store

    @property
    def batch_id(self) -> str:
        return self._claimed.bundle.batch_id

    @property
    def client_id(self) -> str:
        return self._claimed.bundle.client_id

    @property
    def stopped(self) -> bool:
        return self._claimed.stopped.is_set()

    def check_stopped(self) -> None:
        if self._claimed.stopped.is_set():
            raise TaskStopped("the worker leaves, or lost its lease")

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:
        return self._claimed.on_stop(action)

    def sleep(self, seconds: float) -> None:
        self._claimed.stopped.wait(seconds)
        self.check_stopped()

    def progress(self, done: int, total: int) -> None:
        for value in (done, total):
            if not isinstance(value, int | float) or not abs(value) <= PROGRESS_MAX:
                raise PermanentError(f"progress takes two numbers, not {value!r:.60}")
        self._claimed.has_news = True
        self._claimed.running[self.index] = TaskResult(
            self.index,
            TaskStatus.RUNNING,
            attempts=self._claimed.attempts_spent(self.index),
            started_at=self._started_at,
            progress=[done, total],
        )


class Executor:
    """Runs chunks. One object serves all slots."""

    def __init__(
        self, registry: Registry, store: ObjectStore, clock: Clock, worker_id: str
    ) -> None:
        self._registry = registry
        self._store = store
        self._clock = clock
        self._worker_id = worker_id

    def run(self, chunk: Chunk) -> list[Task]:
        """Run the chunk's tasks one after the other and record each result in the claimed bundle.
        Returns the tasks that were not started, because the worker is to stop, or because tasks
        took longer than expected and idle slots should share the rest."""
        with bound(chunk.claimed.bundle.trace_id):
            return self._run(chunk)

    def _run(self, chunk: Chunk) -> list[Task]:
        claimed, kind = chunk.claimed, self._registry[chunk.kind]
        started_at = self._clock.now()
        give_back_at = started_at + 2 * CHUNK_S
        for position, task in enumerate(chunk.tasks):
            if position and (started_at > give_back_at or claimed.stopped.is_set()):
                return chunk.tasks[position:]
            try:
                started_at = self._run_one(claimed, kind, task, started_at)
            except Exception as error:  # noqa: BLE001 - one task must not stop the others
                _log.exception(
                    "a task's end could not be recorded", extra=fields("task_unrecorded")
                )
                started_at = self._fail(claimed, task, started_at, error)
        return []

    def _fail(
        self, claimed: ClaimedBundle, task: Task, started_at: float, error: Exception
    ) -> float:
        """Record FAILED for a task whose kind or whose error broke this module, and return the
        time."""
        claimed.results[task.index] = TaskResult(
            task.index,
            TaskStatus.FAILED,
            error=f"the worker could not record its result: {type(error).__name__}",
            attempts=claimed.attempt(task.index),
            started_at=round(started_at, 3),
            worker_id=self._worker_id,
        )
        return self._clock.now()

    def _run_one(
        self, claimed: ClaimedBundle, kind: TaskKind, task: Task, started_at: float
    ) -> float:
        """Run one task, record its result, and return when it ended."""
        context = SlotContext(claimed, task, self._store, self._clock, started_at)
        status, result, text = TaskStatus.SUCCEEDED, None, None
        stored: str | None = None
        try:
            result = kind.run(task.params, context)
            if result is not None:
                result, stored = self._kept(result)
        except BaseException as error:  # noqa: BLE001 - whatever a task raises is its result
            decision = kind.retry.decide(error, context.attempt)
            if decision is RetryDecision.GIVE_BACK:
                return self._clock.now()
            result, text = None, describe(error)
            retry = decision is RetryDecision.RETRY
            status = TaskStatus.QUEUED if retry else TaskStatus.FAILED
            if decision is RetryDecision.EXHAUSTED:
                claimed.poison = f"task {task.index}: out of attempts ({context.attempt}): {text}"
            self._log_failure(context, kind, error, decision, text)
        ended_at = self._clock.now()
        claimed.results[task.index] = TaskResult(
            task.index,
            status,
            result,
            text,
            context.attempt,
            round(started_at, 3),
            round(max(ended_at - started_at, 0.0), 6),
            self._worker_id,
            stored=stored,
        )
        if claimed.running:
            claimed.running.pop(task.index, None)
        return ended_at

    def _kept(self, result: Any) -> tuple[Any, str | None]:
        """The result as it is recorded: the value, or None and the key of the object that holds it.
        The value is a copy in JSON's own types, which the task's code cannot change later."""
        encoded = encode_result(result)
        if len(encoded) > LARGE_RESULT_BYTES:
            try:
                return None, spill.put(self._store, encoded)
            except TransientError as error:
                # The commit will store it, and tries for as long as the lease lives.
                _log.warning(
                    "a result was not stored", extra=fields("store_failed", reason=str(error))
                )
        return _decode(encoded), None

    def _log_failure(
        self,
        context: SlotContext,
        kind: TaskKind,
        error: BaseException,
        decision: RetryDecision,
        text: str,
    ) -> None:
        retry = decision is RetryDecision.RETRY
        # A permanent error is an answer to the client. Only an unexpected one is an error here.
        expected = retry or isinstance(error, PermanentError)
        _log.log(
            logging.INFO if expected else logging.ERROR,
            "a task failed and will be tried again" if retry else "a task failed",
            extra=fields(
                "task_retried" if retry else "task_failed",
                task_id=task_id(context.batch_id, context.index),
                batch_id=context.batch_id,
                kind=kind.name,
                attempt=context.attempt,
                worker_id=self._worker_id,
                error=text,
                where=_where(error),
            ),
        )


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


def _where(error: BaseException) -> str | None:
    """File and line that raised the error."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else None
