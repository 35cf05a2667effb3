"""The client: submits, follows and reads batches over HTTP. Owns the calls; not the pace of polling
(`taskfleet.client.pace`), HTTP itself (`taskfleet.client.transport`), the shapes of the answers
(`taskfleet.wire.http`) nor the command line (`taskfleet.cli.main`).

    with Client.from_env() as client:
        batch = client.submit(["sleep 1000"] * 80)
        client.wait(batch.batch_id)
        for row in client.results(batch.batch_id):
            ...
"""

from __future__ import annotations

import math
import os
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal, Unpack

import msgspec

from taskfleet.batch import BatchStatus
from taskfleet.client.answers import ApiError, ClientError, Unreachable
from taskfleet.client.body import pack, unpacked
from taskfleet.client.content import ContentUploads
from taskfleet.client.endpoint import find
from taskfleet.client.growing import GrowingBatches, batch_path, status_param, trace_headers
from taskfleet.client.pace import HOLD_S, next_poll
from taskfleet.client.schedules import ScheduleCalls
from taskfleet.client.transport import BACKOFF_S, READ_TIMEOUT_S, Transport
from taskfleet.client.watching import Watching
from taskfleet.clock import SystemClock
from taskfleet.options import BatchFields, read_batch
from taskfleet.output import LogPage
from taskfleet.ports import Clock
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import BATCHES_PAGE_MAX, Accepted, BatchList, BatchView
from taskfleet.wire.http.fleet import FleetView
from taskfleet.wire.http.kinds import KindList
from taskfleet.wire.http.results import PAGE_MAX, ResultPage, ResultView
from taskfleet.wire.http.tasks import LOG_BYTES_HEADER, LOG_DROPPED_HEADER, LOG_END_HEADER, TaskView
from taskfleet.wire.http.uploads import UploadForm

OUTAGE_S = 60.0
"""Seconds for which `wait` goes on while the API cannot be reached or fails. A throttle is no
outage. The first call must succeed."""
_OUTAGE_PAUSE_S = 1.0
"""Seconds between two polls while the API cannot be reached or fails."""


class NotFinished(ClientError):
    """`wait` ran into its time-out. `batch` is the batch as last seen; it goes on."""

    def __init__(self, batch: BatchView, timeout_s: float) -> None:
        super().__init__(f"batch {batch.batch_id} was not finished after {timeout_s:g} s")
        self.batch = batch


class Client(GrowingBatches, ContentUploads, Watching, ScheduleCalls):
    """Calls the API at `url` as the client that `token` names. For one thread at a time.

    A throttle is waited out for minutes; short outages and lost connections are retried. After the
    last retry every method raises `ApiError` or `Unreachable`. `batch_id` is the id of one of your
    batches everywhere; for any other, methods raise `ApiError` with the status 404.

    backoff_s: factor of the growing pause between retries, in seconds.
    read_timeout_s: longest time without a byte of an answer, in seconds.
    clock: paces `wait` and the retries; the system's clock unless given.

    Raises ValueError if the URL or the token is malformed.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        backoff_s: float = BACKOFF_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        self._clock = clock or SystemClock()
        self._url, self._token = url, token
        self._backoff_s, self._read_timeout_s = backoff_s, read_timeout_s
        self._http = Transport(
            url, token, backoff_s=backoff_s, read_timeout_s=read_timeout_s, clock=self._clock
        )

    @classmethod
    def from_env(cls) -> Client:
        """Returns a client for the API that `TASKFLEET_URL` and `TASKFLEET_TOKEN` name, or for the
        local cloud that was started in this directory. Raises SettingsError if there is neither."""
        endpoint = find(os.environ, Path.cwd())
        return cls(endpoint.url, endpoint.token)

    def another(self) -> Client:
        """Returns another client of the same API and token, for another thread."""
        return Client(
            self._url,
            self._token,
            backoff_s=self._backoff_s,
            read_timeout_s=self._read_timeout_s,
            clock=self._clock,
        )

    def __repr__(self) -> str:
        return f"<Client of {self._url}>"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    def submit(
        self,
        tasks: Iterable[str | dict[str, Any]],
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        on_sent: Callable[[int, int], None] | None = None,
        traceparent: str | None = None,
        **options: Unpack[BatchFields],
    ) -> Accepted:
        """Submit a batch of any size. A task is text such as `sleep 1000`, or an object
        `{"kind": ..., "params": ...}`, which may have options too, such as `"timeout_s": 60`. Tasks
        that are too much for one request, by our count or by that of the API or of whatever stands
        before it, are written to a temporary file and sent as by `submit_file`.

        name: a name for the batch, to show.
        idempotency_key: submitting again with the same key, after any error, gives the same batch
            and runs nothing twice; a new random key unless given.
        on_sent: called with the bytes of the file that were sent so far and their total.
        traceparent: the trace context of the caller ("Trace Context", W3C), by whose trace id the
            service's logs and spans of the batch are found; a trace begins there unless given.
        options: those of the batch, and those of the tasks that do not have their own, as in
            `taskfleet.options.BatchOptions`.

        Raises ApiError or InvalidTask, which name a faulty task by its place in `tasks`, and
        ValueError for a malformed `traceparent` or option.
        """
        if isinstance(tasks, str | bytes | Mapping):
            raise TypeError(
                f"tasks must be a list of several tasks, not one {type(tasks).__name__}"
            )
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        headers = trace_headers(traceparent)
        packed = pack(tasks, name=name, idempotency_key=key, options=read_batch(options))
        if isinstance(packed, bytes):
            try:
                return self._http.call("POST", "/batches", Accepted, body=packed, headers=headers)
            except ApiError as error:
                if error.status != 413:
                    raise
                packed = unpacked(packed)
        with packed:
            return self.submit_file(
                packed,
                name=name,
                idempotency_key=key,
                on_sent=on_sent,
                traceparent=traceparent,
                **options,
            )

    def submit_file(
        self,
        file: IO[bytes],
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        on_sent: Callable[[int, int], None] | None = None,
        traceparent: str | None = None,
        **options: Unpack[BatchFields],
    ) -> Accepted:
        """Submit a task file of any size as a batch. `file` must be seekable.

        The service reads the file after its answer. If a line is faulty, the batch is cancelled,
        none of its tasks runs, and its `error` names the line.

        name, on_sent, traceparent, options: as for `submit`.
        idempotency_key: submitting the same content again with the same key gives the same batch.
        """
        headers = trace_headers(traceparent)
        read_batch(options)  # an error in them must not cost an upload
        fields = {
            "upload_id": self.upload(file, on_sent),
            "name": name,
            "idempotency_key": idempotency_key,
            **options,
        }
        body = msgspec.json.encode({k: v for k, v in fields.items() if v is not None})
        return self._http.call("POST", "/batches", Accepted, body=body, headers=headers)

    def upload(self, file: IO[bytes], on_sent: Callable[[int, int], None] | None = None) -> str:
        """Send a file of any kind. Returns the upload's id, with which a batch or a task refers to
        the file. The file is kept for some days, and only your tasks can read it.

        file: must be seekable.
        on_sent: called with the bytes that were sent so far and their total.
        """
        form = self._http.call("POST", "/uploads", UploadForm)
        self._http.send_form(form.url, form.fields, file, on_sent or (lambda _sent, _total: None))
        return form.upload_id

    def status(self, batch_id: str, wait_s: float = 0.0) -> BatchView:
        """Returns the batch now. With `wait_s` (seconds, at most 25) the answer is held until the
        batch changes or the time is up. The API may answer earlier, so that it can serve others."""
        return self._status(batch_id, wait_s, None)

    def _status(self, batch_id: str, wait_s: float, until: float | None) -> BatchView:
        params = {"wait": f"{wait_s:g}"} if wait_s else {}
        return self._http.call("GET", batch_path(batch_id), BatchView, params=params, until=until)

    def wait(
        self,
        batch_id: str,
        timeout_s: float | None = None,
        on_progress: Callable[[BatchView], None] | None = None,
        *,
        progress: bool = False,
    ) -> BatchView:
        """Wait until every task of the batch has its result. Returns the finished batch. An API
        that cannot be reached or fails for less than a minute is tolerated, and one that throttles
        for as long as it takes.

        timeout_s: raise NotFinished after so many seconds; never unless given.
        on_progress: called with each state of the batch that is seen, also the last.
        progress: show a bar, on standard error or in the notebook. Where there is neither a
            terminal nor a notebook, as in a log, nothing is shown.
        """
        if progress:
            from taskfleet.client.progress import shown_progress, state_of

            with shown_progress() as show:

                def show_too(batch: BatchView) -> None:
                    show(state_of(batch))
                    if on_progress is not None:
                        on_progress(batch)

                return self.wait(batch_id, timeout_s, show_too)
        began = polled = news_at = self._clock.now()
        until = None if timeout_s is None else began + timeout_s
        hold_s = next_poll(0.0, 0.0, None).hold_s
        batch = self._status(
            batch_id, hold_s if timeout_s is None else min(hold_s, timeout_s), until
        )
        while True:
            if on_progress is not None:
                on_progress(batch)
            if batch.finished_at is not None:
                return batch
            now = self._clock.now()
            left_s = math.inf if until is None else until - now
            if timeout_s is not None and left_s <= 0:
                raise NotFinished(batch, timeout_s)
            poll = next_poll(now - began, now - news_at, batch.eta_s)
            pause_s = polled + poll.period_s - now
            self._clock.sleep(max(0.0, min(pause_s, left_s)))
            polled = self._clock.now()
            before = batch
            batch = self._patient_status(batch, min(poll.hold_s, left_s), until)
            if _state(batch) != _state(before):
                news_at = self._clock.now()

    def _patient_status(self, batch: BatchView, wait_s: float, until: float | None) -> BatchView:
        """Returns the batch, or what was known of it when `until` came without an answer."""
        began = self._clock.now()
        while True:
            try:
                return self._status(batch.batch_id, wait_s, until)
            except (ApiError, Unreachable) as error:
                now = self._clock.now()
                throttled = isinstance(error, ApiError) and error.status == 429
                if not error.retried or (not throttled and now - began >= OUTAGE_S):
                    raise
                if until is not None and now >= until:
                    return batch
                self._clock.sleep(_OUTAGE_PAUSE_S)

    def results(
        self,
        batch_id: str,
        order: Literal["index", "completion"] = "index",
        *,
        status: Collection[TaskStatus | str] = (),
    ) -> Iterator[ResultView]:
        """Yields the results that exist so far, in order of index. Pages are read as needed. With
        the order `completion`, yields each result as it comes, until the batch has ended.

        status: the statuses of the results that are wanted, such as `["FAILED"]`; all unless given.
        """
        if order == "completion":
            cursor, finished = None, False
            while not finished:
                page = self.completed(batch_id, cursor, wait_s=HOLD_S, status=status)
                yield from page.rows
                cursor, finished = page.cursor, page.finished
            return
        params = {"limit": str(PAGE_MAX), **status_param(status)}
        while True:
            page_ = self._http.call(
                "GET", f"{batch_path(batch_id)}/results", ResultPage, params=params
            )
            yield from page_.results
            if page_.cursor is None:
                return
            params["cursor"] = page_.cursor

    def task(self, batch_id: str, index: int) -> TaskView:
        """Returns the task of the batch at `index`, from 0: its result, its attempts, the end of
        what it printed, and `why`: what it waits for now. Raises ApiError with the status 404 if
        the batch has no such task."""
        return self._http.call("GET", _task_path(batch_id, index), TaskView)

    def log(
        self, batch_id: str, index: int, *, attempt: int | None = None, offset: int = 0
    ) -> LogPage:
        """Returns what a task printed, from the byte `offset` on, as far as one answer holds it,
        which is about a megabyte; the next part begins at its `end`. Raises ApiError with the
        status 404 if the task printed nothing.

        attempt: number of the attempt, from 1; the last execution unless given.
        """
        params = {"offset": str(offset)} | ({} if attempt is None else {"attempt": str(attempt)})
        text, headers = self._http.call_text(f"{_task_path(batch_id, index)}/log", params)
        try:
            end, length, dropped = (
                int(headers[name])
                for name in (LOG_END_HEADER, LOG_BYTES_HEADER, LOG_DROPPED_HEADER)
            )
        except (KeyError, ValueError):
            raise ApiError(200, "this API does not tell how long an output is") from None
        return LogPage(text, end, length, dropped)

    def batches(
        self,
        *,
        name: str | None = None,
        status: BatchStatus | str | None = None,
        kind: str | None = None,
    ) -> Iterator[BatchView]:
        """Yields your batches, newest first. Pages are read as needed. A batch that was made within
        about the last second may be missing.

        name: only those with this in their name, in any case of its letters, or at the start of
            their id.
        status, kind: only those of this status, and with tasks of this kind.
        """
        search = {"name": name, "status": status, "kind": kind}
        params = {"limit": str(BATCHES_PAGE_MAX)}
        params |= {key: str(value) for key, value in search.items() if value is not None}
        while True:
            page = self._http.call("GET", "/batches", BatchList, params=params)
            yield from page.batches
            if page.cursor is None:
                return
            params["cursor"] = page.cursor

    def cancel(self, batch_id: str) -> BatchView:
        """Cancel the tasks that have not started. Returns the batch."""
        return self._http.call("DELETE", batch_path(batch_id), BatchView)

    def fleet(self) -> FleetView:
        """Returns the machines, the workers, the provisioner's last decisions, and, if tasks wait
        and none runs, the reason."""
        return self._http.call("GET", "/fleet", FleetView)

    def kinds(self) -> KindList:
        """Returns the kinds of tasks that the stage runs, and the versions of its workers."""
        return self._http.call("GET", "/kinds", KindList)

    def health(self) -> dict[str, Any]:
        """Returns `{"status": "ok", "version": ...}` if the API answers."""
        return self._http.call("GET", "/health", dict[str, Any])


def _state(batch: BatchView) -> tuple[str, int, int, int, int]:
    """Returns what counts as news of a batch."""
    return batch.status, batch.total, batch.succeeded, batch.failed, batch.cancelled


def _task_path(batch_id: str, index: int) -> str:
    """Returns the path of a task. Raises ApiError for what can be neither id nor index."""
    if not isinstance(index, int) or index < 0:
        raise ApiError(404, f"no task {index!r:.60}: an index is a number, from 0")
    return f"{batch_path(batch_id)}/tasks/{index}"
