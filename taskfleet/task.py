"""Tasks and their results. Owns the compact JSON form of both; not the parsing of params
(`taskfleet.registry`) nor the messages that carry tasks (`taskfleet.wire.queues`).

Times are floats, in epoch seconds, UTC. The HTTP API shows them in ISO 8601
(`taskfleet.wire.http`).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from taskfleet.options import Options


class TaskStatus(StrEnum):
    """State of a task. SUCCEEDED, FAILED and CANCELLED are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Returns whether a task in this state never changes again."""
        return self not in _NOT_FINAL


_NOT_FINAL = (TaskStatus.QUEUED, TaskStatus.RUNNING)


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One unit of work. In JSON it is the array `[index, kind, params, options]`; in
    messages the last element is left out if there are none (`compacted`).

    index: place in the batch, from 0.
    kind: name of the task kind.
    params: JSON value in the canonical form that the kind's parser returns.
    options: the task's own options; None if it has none.
    """

    index: int
    kind: str
    params: Any = None
    options: Options | None = None

    @property
    def as_object(self) -> dict[str, Any]:
        """The task as the object that a client may submit."""
        options = {} if self.options is None else self.options.as_fields()
        return {"kind": self.kind, "params": self.params, **options}

    @property
    def submitted_form(self) -> str | dict[str, Any]:
        """The task as a client would submit it: text such as `"sleep 1000"`, or the object
        `{"kind": ..., "params": ...}` if it has options or the text could not be parsed back to the
        same params."""
        params, form = self.params, type(self.params)
        if self.options is not None:
            return self.as_object
        if form is float or form is int or (form is str and params and params == params.strip()):
            return f"{self.kind} {params}"
        return self.kind if params is None else self.as_object


def compacted(tasks: Iterable[Task]) -> list[Task | tuple[int, str, Any]]:
    """Returns the tasks as they are sent and measured: without the fourth element if they have no
    options, as in messages of earlier versions."""
    return [
        (task.index, task.kind, task.params) if task.options is None else task for task in tasks
    ]


HISTORY_MAX = 20
"""Most earlier attempts that a row keeps: the latest ones."""
HISTORY_ERROR_CHARS = 200
"""Longest error of an earlier attempt, in characters."""


class Attempt(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An attempt that has ended and after which the task was tried again. In JSON it is an array in
    the order of the fields.

    number: number of the attempt, from 1.
    worker_id, started_at, duration_s, error, log: as in `TaskResult`.
    """

    number: int
    worker_id: str | None
    started_at: float | None
    duration_s: float | None
    error: str | None = None
    log: tuple[str, int, int, int] | None = None


class TaskResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """State and outcome of one task. In JSON it is an array in the order of the fields.

    index: place of the task in the batch, from 0.
    result: JSON value that the kind returned, or that its failure left
        (`taskfleet.errors.TaskFailed`); None while the task has not ended.
    error: why the task failed or was cancelled, or the message of its last failed attempt.
    attempts: executions that ended, without those that were given back; in a row that `is_note`,
        with the one that runs.
    started_at: start of the last execution, in epoch seconds, UTC.
    duration_s: duration of the last execution, in seconds.
    worker_id: worker of the last execution.
    progress: `[done, total]` as the running task last reported it.
    stored: key of the object that holds the result, if it is too large for the table
        (`taskfleet.spill`); `result` is then None.
    traceback: the task's own frames at its last error, if that was not one of Taskfleet's.
    log: where the object with the task's output is: `[key, offset, length, dropped]`, all in bytes;
        None when it printed nothing.
    earlier: the attempts before the last execution, oldest first, at most `HISTORY_MAX`; None if
        there were none.
    reused_from: id of the earlier task whose result this is; None if the task ran itself.
    """

    index: int
    status: TaskStatus
    result: Any = None
    error: str | None = None
    attempts: int = 0
    started_at: float | None = None
    duration_s: float | None = None
    worker_id: str | None = None
    progress: Any = None
    stored: str | None = None
    traceback: str | None = None
    log: tuple[str, int, int, int] | None = None
    earlier: list[Attempt] | None = None
    reused_from: str | None = None

    @property
    def is_note(self) -> bool:
        """Returns whether the row notes that the task was about to start in a careful bundle
        (`taskfleet.lease`), so that it can be charged when its worker is lost. The RUNNING row of a
        task that reports progress in an ordinary bundle names no worker, and charges nobody."""
        return self.status is TaskStatus.RUNNING and self.worker_id is not None

    @property
    def as_attempt(self) -> Attempt | None:
        """The last execution as an attempt; None if none has ended."""
        if self.duration_s is None or not self.attempts:
            return None
        error = None if self.error is None else self.error[:HISTORY_ERROR_CHARS]
        return Attempt(
            self.attempts, self.worker_id, self.started_at, self.duration_s, error, self.log
        )

    def following(self, before: TaskResult | None) -> TaskResult:
        """Returns this row with the attempts of the row that was recorded before it, None if none
        was. Every row of a task that is to replace a recorded one is made so."""
        last = None if before is None else before.as_attempt
        if before is None or (last is None and not before.earlier):
            return self
        earlier = [*(before.earlier or ()), *([] if last is None else [last])]
        return msgspec.structs.replace(self, earlier=earlier[-HISTORY_MAX:])


def task_id(batch_id: str, index: int) -> str:
    """Returns the id of a task: `<batch_id>/<index>`."""
    return f"{batch_id}/{index}"
