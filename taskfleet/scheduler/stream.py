"""The stream of a batch: its tasks that have ended, in a compact form for charts of very many of
them. Owns that form; not the order of the tasks nor the cursor (`taskfleet.scheduler.completed`).
"""

from __future__ import annotations

import msgspec

from taskfleet.scheduler.completed import Completed
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.http.results import STREAM_ERROR_CHARS, STREAM_PAGE_MAX, StreamPage, StreamRow
from taskfleet.wire.payload import answer_bytes

_STATUS = {TaskStatus.SUCCEEDED: 0, TaskStatus.FAILED: 1, TaskStatus.CANCELLED: 2}


class Stream:
    """Reads streams on behalf of clients."""

    def __init__(self, completed: Completed) -> None:
        self._completed = completed

    def page(
        self,
        batch_id: str,
        *,
        client_id: str,
        limit: int = STREAM_PAGE_MAX,
        cursor: str | None = None,
    ) -> StreamPage:
        """Returns tasks that were not given to whoever has this cursor: up to `limit` (at most
        20,000), and no more than an answer holds. The cursor is that of
        `taskfleet.scheduler.completed.Completed.results`, and either continues the other.

        Raises NotFound when the client has no such batch, ValueError for a cursor that no page had.
        """
        form = _Form()
        limit = min(limit, STREAM_PAGE_MAX)
        rows, after = self._completed.rows(
            batch_id, form, client_id=client_id, limit=limit, cursor=cursor
        )
        return StreamPage(list(form.kinds), list(form.workers), list(form.errors), rows, after)


class _Form:
    """Makes the rows of one page, and the lists to which they point: each text with its place."""

    def __init__(self) -> None:
        self.kinds: dict[str, int] = {}
        self.workers: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self._encode = msgspec.json.Encoder().encode

    def __call__(
        self, _batch_id: str, task: Task | None, result: TaskResult
    ) -> tuple[StreamRow, int]:
        error = None if result.error is None else result.error[:STREAM_ERROR_CHARS]
        kind, kind_size = self._place(self.kinds, None if task is None else task.kind)
        worker, worker_size = self._place(self.workers, result.worker_id)
        place, error_size = self._place(self.errors, error)
        started, duration = result.started_at, result.duration_s
        row = StreamRow(
            result.index,
            kind,
            _STATUS[result.status],
            None if started is None else round(started * 1000),
            None if duration is None else round(duration * 1000, 3),
            worker,
            place,
        )
        # A row has no character that grows on its way through Lambda.
        return row, len(self._encode(row)) + 1 + kind_size + worker_size + error_size

    def _place(self, texts: dict[str, int], text: str | None) -> tuple[int, int]:
        """Returns the place of the text in the list, and the bytes by which the list grows."""
        if text is None:
            return -1, 0
        if (place := texts.get(text)) is not None:
            return place, 0
        texts[text] = len(texts)
        return len(texts) - 1, answer_bytes(self._encode(text)) + 1
