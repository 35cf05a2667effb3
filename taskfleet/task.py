"""Task and its result: what a client hands in and gets back. Owns their compact wire form;
not how kinds read their params (`taskfleet.registry`) nor how tasks travel (`taskfleet.bundle`).

Times are seconds since the epoch, UTC, as floats, because they travel in JSON; the HTTP API
shows them as ISO 8601.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class TaskStatus(StrEnum):
    """`QUEUED` and `RUNNING` are on their way; the other three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        return self not in _ON_THEIR_WAY


_ON_THEIR_WAY = (TaskStatus.QUEUED, TaskStatus.RUNNING)


class Task(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One unit of work, on the wire `[index, kind, params]`.

    `index` is its place in the batch, from 0; `params` is JSON in the canonical form that the
    kind's parser returned.
    """

    index: int
    kind: str
    params: Any = None

    @property
    def submitted_form(self) -> str | dict[str, Any]:
        """As a client would write it: `"sleep 1000"`, or an object when params are not plain
        (text that a line of words cannot hold, such as empty or padded text, is not)."""
        params = self.params
        if params is None:
            return self.kind
        is_text = isinstance(params, str) and params and params == params.strip()
        if is_text or (isinstance(params, int | float) and not isinstance(params, bool)):
            return f"{self.kind} {params}"
        return {"kind": self.kind, "params": self.params}


class TaskResult(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is known of one task, on the wire an array in the order of the fields.

    `attempts` counts the executions that ended, those that were given back aside; `progress` is
    `[done, total]` as a running task reports of itself.
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


def task_id(batch_id: str, index: int) -> str:
    """`<batch_id>/<index>`."""
    return f"{batch_id}/{index}"
