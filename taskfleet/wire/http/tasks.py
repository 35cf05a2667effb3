"""Answers about one task and its output."""

from __future__ import annotations

import msgspec

from taskfleet.options import Limits
from taskfleet.wire.http.results import ResultView

LOG_END_HEADER = "X-Log-End"
"""Header of an answer with a part of an output: where the part ends in the output, in bytes."""
LOG_BYTES_HEADER = "X-Log-Bytes"
"""Header of the same: the size of the output, as far as it was kept, in bytes."""
LOG_DROPPED_HEADER = "X-Log-Dropped"
"""Header of the same: the bytes after the end of the output that were not kept."""


class AttemptView(msgspec.Struct, frozen=True):
    """One execution of a task.

    `attempt` is its number, from 1. `outcome` is `RUNNING`, `SUCCEEDED` or `FAILED`, or `LOST` when
    its worker ended or lost its lease, of which nothing else is known. `error` is why it failed;
    `log_bytes` is the size of what it printed. Times are in ISO 8601, UTC.
    """

    attempt: int
    outcome: str
    worker_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    error: str | None = None
    log_bytes: int = 0


class TaskView(ResultView, frozen=True, kw_only=True):
    """A task, its result and its attempts. The fields of a row of results mean the same here; a
    task without a result has the status `QUEUED` or `RUNNING`, and `task` is null until a worker
    has taken it in.

    `history` has its executions, oldest first; of very many, the first are left out. `limits` are
    those that count for it: of the task itself, else its batch, else its kind; null until a worker
    has taken it in. `log_tail` is the end of what the last execution printed, `log_bytes` the size
    of all that is kept of it, and `log_dropped` counts the bytes that were not kept. `why` says
    what the task waits for now.
    """

    history: list[AttemptView]
    limits: Limits | None
    log_tail: str | None
    log_bytes: int
    log_dropped: int
    why: str
