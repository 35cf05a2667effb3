"""Answers with results, as a page of rows or as the stream of a batch."""

from __future__ import annotations

from typing import Any

import msgspec

from taskfleet.task import TaskStatus
from taskfleet.wire import faces

PAGE_DEFAULT = 1_000
"""Results in a page when the request does not set a limit."""
PAGE_MAX = 5_000
"""Most results in a page."""
PREFER, RETURN_MINIMAL = "Prefer", "return=minimal"
"""Header and value with which a client asks for rows without their tasks. A server that does not
know a preference ignores it (RFC 7240)."""
STREAM_PAGE_MAX = 20_000
"""Most tasks in an answer of the stream of a batch."""
STREAM_ERROR_CHARS = 200
"""Longest error in the stream of a batch, in characters."""


class ResultView(msgspec.Struct, frozen=True, gc=False):
    """A task and its result.

    `index` is the task's place in the batch, from 0. `task` is the task as it was submitted, with
    its params in normal form, or null in an answer to `Prefer: return=minimal`. `result` is what
    the task returned, null if nothing; `error` is why it failed, null if it did not. `attempts`
    counts its executions, except those that a worker broke off and gave back. `started_at` (ISO
    8601, UTC), `duration_s` and `worker_id` are those of the last execution. `progress` is `[done,
    total]` while a running task reports it, null otherwise. `traceback` has the task's own frames
    at its last error, null if there are none. `reused_from` is the id of the earlier task whose
    result this is, null if the task ran itself.
    """

    task_id: str
    index: int
    task: Any
    status: TaskStatus
    result: Any
    error: str | None
    attempts: int
    started_at: str | None
    duration_s: float | None
    worker_id: str | None
    progress: Any = None
    traceback: str | None = None
    reused_from: str | None = None

    def __repr__(self) -> str:
        return faces.row_text(self)

    def _repr_html_(self) -> str:
        return faces.rows_html([self])


class ResultPage(msgspec.Struct, frozen=True):
    """One page of a batch's results, in the order that was asked for.

    `cursor` is the value of the query parameter `cursor` for the next page, null on the last page.
    A page before the last may be short or even empty. Tasks that no worker has reported on yet are
    left out.
    """

    results: list[ResultView]
    cursor: str | None

    def __repr__(self) -> str:
        return faces.page_text(self)

    def _repr_html_(self) -> str:
        return faces.rows_html(self.results, more=self.cursor is not None)


class StreamRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task that has ended, as an array.

    `index` is the task's place in the batch. `kind`, `worker` and `error` are places in the lists
    of the same answer, -1 for none. `status` is 0 for SUCCEEDED, 1 for FAILED, 2 for CANCELLED.
    `started_ms` is the start of the last execution in milliseconds since 1970, UTC, and
    `duration_ms` its duration; both are null for a task that never started.
    """

    index: int
    kind: int
    status: int
    started_ms: int | None
    duration_ms: float | None
    worker: int
    error: int


class StreamPage(msgspec.Struct, frozen=True):
    """Tasks of a batch that have ended, in the order of their ends, in a compact form.

    `kinds`, `workers` and `errors` are the texts to which the rows point; an error is cut to 200
    characters. `cursor` is the value of the query parameter `cursor` with which the next answer
    goes on where this one ends. It is null once no task can join the batch and all of its tasks
    were given; until then an answer may have no rows.
    """

    kinds: list[str]
    workers: list[str]
    errors: list[str]
    rows: list[StreamRow]
    cursor: str | None
