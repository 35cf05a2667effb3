"""The client's calls for batches that grow or run again: opening, adding parts, closing, retrying.
Owns how tasks are divided into requests; not what a part means (`taskfleet.scheduler.open`) nor
HTTP (`taskfleet.client.transport`)."""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Unpack

import msgspec

from taskfleet import trace
from taskfleet.batch import is_id
from taskfleet.client.answers import ApiError
from taskfleet.client.body import encode_task
from taskfleet.client.transport import Transport
from taskfleet.options import BatchFields, read_batch
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import Accepted, BatchView, Grown
from taskfleet.wire.http.caps import MAX_TASKS, body_fault
from taskfleet.wire.http.results import PAGE_MAX, PREFER, RETURN_MINIMAL, ResultPage, ResultView

Task = str | Mapping[str, Any] | msgspec.Raw
"""A task as `submit` takes it, or as JSON already."""


class Completed(NamedTuple):
    """Results in the order of completion.

    cursor: where the next ones begin; None if there are no more.
    finished: whether no task can join the batch and all of its results were given.
    """

    rows: list[ResultView]
    cursor: str | None
    finished: bool


class GrowingBatches:
    """The calls for open batches. Each may be made again after any error, and then changes nothing
    that it did before."""

    _http: Transport

    def open(
        self,
        tasks: Iterable[Task] = (),
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        **options: Unpack[BatchFields],
    ) -> Accepted:
        """Open a batch, to which `add` adds tasks until `close_batch` closes it, and hand in its
        first tasks, if any. With the key of an open batch, it is that one, and `total` is the
        number of tasks that it has by now, which is the `first` of the next ones.

        name, idempotency_key, traceparent, options: as for `submit`.

        Raises ApiError, with the status 409 if the key was used for another batch.
        """
        read_batch(options)
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        fields = {"open": True, "name": name, "idempotency_key": key, **options}
        fields = {field: value for field, value in fields.items() if value is not None}
        encoded = _encoded(tasks)
        body = _body(fields, encoded) if encoded else msgspec.json.encode(fields)
        headers = trace_headers(traceparent)
        rest: Sequence[bytes] = []
        if encoded and (len(encoded) > MAX_TASKS or body_fault(body)):
            body, rest = msgspec.json.encode(fields), encoded
        try:
            batch = self._http.call("POST", "/batches", Accepted, body=body, headers=headers)
        except ApiError as error:
            if error.status != 413 or not encoded:
                raise
            body, rest = msgspec.json.encode(fields), encoded
            batch = self._http.call("POST", "/batches", Accepted, body=body, headers=headers)
        if not rest:
            return batch
        total = self._add(batch.batch_id, 0, rest, close=False)
        return msgspec.structs.replace(batch, total=total)

    def add(self, batch_id: str, first: int, tasks: Iterable[Task], *, close: bool = False) -> int:
        """Add tasks to an open batch, in one request, or in several if they are too much for one.
        Returns the number of its tasks now, which is the `first` of the next ones.

        first: the number of tasks that were added before. The same tasks at the same place change
            nothing, so the call may be made again after any error.
        close: close the batch with them, as `close_batch` does.

        Raises ApiError: with the status 409 if other tasks were added at `first`, tasks before it
        are missing, or the batch is closed or cancelled; with 422 if a task is faulty, which it
        names by its place in `tasks`.
        """
        encoded = _encoded(tasks)
        if not encoded:
            return self.close_batch(batch_id).total if close else first
        return self._add(batch_id, first, encoded, close=close)

    def close_batch(self, batch_id: str) -> BatchView:
        """Close an open batch, so that it ends when its tasks have. Returns it. A closed or
        cancelled batch stays as it is."""
        return self._http.call("POST", f"{batch_path(batch_id)}/close", BatchView)

    def retry(
        self,
        batch_id: str,
        *,
        status: Collection[TaskStatus | str] = (TaskStatus.FAILED,),
        idempotency_key: str | None = None,
    ) -> Accepted:
        """Run the tasks of a batch again that ended with one of these statuses (`FAILED`,
        `CANCELLED`), as a new batch of the same name and options. Returns the new batch.

        idempotency_key: retrying again with the same key, after any error, gives the same batch; a
            new random key unless given.

        Raises ApiError: with the status 409 while the batch has not ended, 422 if it has no such
        task.
        """
        if isinstance(status, str):
            raise TypeError(one_status(status))
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        body = msgspec.json.encode({"status": list(status), "idempotency_key": key})
        return self._http.call("POST", f"{batch_path(batch_id)}/retry", Accepted, body=body)

    def completed(
        self,
        batch_id: str,
        cursor: str | None = None,
        wait_s: float = 0.0,
        *,
        status: Collection[TaskStatus | str] = (),
        brief: bool = False,
    ) -> Completed:
        """Returns results that ended since `cursor`, in the order of their ends, as many as one
        answer holds. With `wait_s` (seconds, at most 25) the answer is held until there is one. The
        API may answer earlier, so that it can serve others.

        cursor: that of the answer before; None to begin with the first result.
        status: the statuses of the results that are wanted; all unless given.
        brief: leave out the tasks of the rows, which are often most of an answer. An older API
            gives them nevertheless.
        """
        params = {"order": "completion", "limit": str(PAGE_MAX), **status_param(status)}
        params |= {} if cursor is None else {"cursor": cursor}
        params |= {"wait": f"{wait_s:g}"} if wait_s else {}
        path = f"{batch_path(batch_id)}/results"
        headers = {PREFER: RETURN_MINIMAL} if brief else {}
        page = self._http.call("GET", path, ResultPage, params=params, headers=headers)
        return Completed(page.results, page.cursor, page.cursor is None)

    def _add(self, batch_id: str, first: int, encoded: Sequence[bytes], *, close: bool) -> int:
        path = f"{batch_path(batch_id)}/tasks"
        parts = deque([encoded])
        done, total = 0, first
        while parts:
            part = parts.popleft()
            fields = {"first": first + done, "close": close and not parts}
            body = _body(fields, part)
            divisible = len(part) > 1
            if divisible and (len(part) > MAX_TASKS or body_fault(body)):
                parts.extendleft(reversed(_halves(part)))
                continue
            try:
                total = self._http.call("POST", path, Grown, body=body).total
            except ApiError as error:
                if error.status == 413 and divisible:
                    parts.extendleft(reversed(_halves(part)))
                    continue
                if error.index is not None and done:
                    text = f"task {done + error.index}: {error.reason}"
                    raise ApiError(error.status, text) from None
                raise
            done += len(part)
        return total


def trace_headers(traceparent: str | None) -> dict[str, str]:
    """Returns the headers that carry the trace context of a submission. Raises ValueError for a
    malformed one."""
    if traceparent is None:
        return {}
    if trace.read(traceparent) is None:
        raise ValueError(
            f"traceparent {traceparent!r:.80} is malformed; it is like "
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 (W3C Trace Context)"
        )
    return {trace.HEADER: traceparent}


def status_param(status: Collection[TaskStatus | str]) -> dict[str, str]:
    """Returns the query parameter that asks for results of these statuses only. Raises TypeError
    for a text, whose letters would be taken for statuses."""
    if isinstance(status, str):
        raise TypeError(one_status(status))
    return {"status": ",".join(status)} if status else {}


def one_status(status: str) -> str:
    """Returns the message for one text in place of a list of statuses."""
    return f"status must be a list such as [{str(status)!r:.40}], not one text"


def batch_path(batch_id: str) -> str:
    """Returns the path of a batch. Raises ApiError for text that cannot be an id, since a `/` or
    `?` in it would call another route."""
    if not is_id(batch_id):
        raise ApiError(
            404, f"no batch {batch_id!r:.60}: an id has 26 digits and lower-case letters"
        )
    return f"/batches/{batch_id}"


def _encoded(tasks: Iterable[Task]) -> list[bytes]:
    if isinstance(tasks, str | bytes | Mapping):
        raise TypeError(f"tasks must be a list of several tasks, not one {type(tasks).__name__}")
    return [encode_task(task, index) for index, task in enumerate(tasks)]


def _body(fields: Mapping[str, Any], encoded: Sequence[bytes]) -> bytes:
    return msgspec.json.encode({**fields, "tasks": msgspec.Raw(b"[" + b",".join(encoded) + b"]")})


def _halves(part: Sequence[bytes]) -> list[Sequence[bytes]]:
    middle = len(part) // 2
    return [part[:middle], part[middle:]]
