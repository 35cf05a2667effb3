"""The client: batches handed in, followed and read over HTTP. Owns which calls there are and how
they are paced; not HTTP itself (`taskfleet.client.transport`), the shapes of the answers
(`taskfleet.scheduler.results`) nor the command line (`taskfleet.cli.main`).

    with Client.from_env() as client:
        batch = client.submit(["sleep 1000"] * 80)
        client.wait(batch.batch_id)
        for row in client.results(batch.batch_id):
            ...
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from taskfleet.batch import is_id
from taskfleet.client.body import pack
from taskfleet.client.endpoint import find
from taskfleet.client.transport import (
    BACKOFF_S,
    READ_TIMEOUT_S,
    ApiError,
    ClientError,
    Transport,
    Unreachable,
)
from taskfleet.clock import SystemClock
from taskfleet.ports import Clock
from taskfleet.wire.http import (
    BATCHES_PAGE_MAX,
    PAGE_MAX,
    Accepted,
    BatchList,
    BatchView,
    FleetView,
    ResultPage,
    ResultView,
    UploadForm,
)

LONG_POLL_S = 20.0
OUTAGE_S = 60.0
"""How long `wait` bears an API that cannot be reached, once it was."""
_FASTEST_POLL_S = 0.1
_SLOWEST_POLL_S = 1.0
_POLLS_A_WAIT = 50
"""A batch that changes all the time is looked at so often over the time that it takes."""


class NotFinished(ClientError):
    """`wait` ran out of its time; `batch` is as last seen, and goes on."""

    def __init__(self, batch: BatchView, timeout_s: float) -> None:
        super().__init__(f"batch {batch.batch_id} was not finished after {timeout_s:g} s")
        self.batch = batch


class Client:
    """Speaks to the API at `url`, as the client that `token` names; ValueError for either that is
    none. Throttles, outages of a moment and lost connections are retried (`backoff_s` sets the
    pace); every call then raises ApiError or Unreachable. Not to be shared between threads."""

    def __init__(
        self,
        url: str,
        token: str,
        *,
        backoff_s: float = BACKOFF_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        clock: Clock | None = None,
    ) -> None:
        self._http = Transport(url, token, backoff_s=backoff_s, read_timeout_s=read_timeout_s)
        self._clock = SystemClock() if clock is None else clock

    @classmethod
    def from_env(cls) -> Client:
        """For the API that `TASKFLEET_URL` and `TASKFLEET_TOKEN` name, or that a local cloud serves
        from this directory. SettingsError when neither is there."""
        endpoint = find(os.environ, Path.cwd())
        return cls(endpoint.url, endpoint.token)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(
        self,
        tasks: Iterable[str | dict[str, Any]],
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        on_sent: Callable[[int, int], None] | None = None,
    ) -> Accepted:
        """Hand a batch in, of any size; what is too much for one POST goes as a file with one task
        a line (see `submit_file`), by way of a temporary one. Calling again with the same key,
        after any error, is the same batch.

        ApiError or InvalidTask names the task at fault by its place in `tasks`.
        """
        if isinstance(tasks, str | bytes | Mapping):
            raise TypeError(f"tasks must be several tasks, not one {type(tasks).__name__}")
        key = str(uuid.uuid4()) if idempotency_key is None else idempotency_key
        packed = pack(tasks, name=name, idempotency_key=key)
        if isinstance(packed, bytes):
            return self._http.call("POST", "/batches", Accepted, body=packed)
        with packed:
            return self.submit_file(packed, name=name, idempotency_key=key, on_sent=on_sent)

    def submit_file(
        self,
        file: IO[bytes],
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        on_sent: Callable[[int, int], None] | None = None,
    ) -> Accepted:
        """Hand in a task file of any size, which can be sought in, as it is; `on_sent` sees bytes
        sent and their total. It is read after the answer: a line with a fault cancels the batch,
        nothing of it runs, and the batch's `error` names the line."""
        upload_id = self.upload(file, on_sent)
        words = {"upload_id": upload_id, "name": name, "idempotency_key": idempotency_key}
        body = msgspec.json.encode({k: v for k, v in words.items() if v is not None})
        return self._http.call("POST", "/batches", Accepted, body=body)

    def upload(self, file: IO[bytes], on_sent: Callable[[int, int], None] | None = None) -> str:
        """Hand in a file of any kind, which can be sought in; returns the upload's id, for a batch
        or a task to name it by. It is kept for some days, and only your tasks may read it."""
        form = self._http.call("POST", "/uploads", UploadForm)
        self._http.send_form(form.url, form.fields, file, on_sent or (lambda _sent, _total: None))
        return form.upload_id

    def status(self, batch_id: str, wait_s: float = 0.0) -> BatchView:
        """The batch now; with `wait_s` (at most 25) as soon as something changes, or then."""
        params = {"wait": f"{wait_s:g}"} if wait_s else {}
        return self._http.call("GET", _path(batch_id), BatchView, params=params)

    def wait(
        self,
        batch_id: str,
        timeout_s: float | None = None,
        on_progress: Callable[[BatchView], None] | None = None,
    ) -> BatchView:
        """The batch once every task of it has its result; `on_progress` sees each state on the
        way, the last too. NotFinished after `timeout_s`. An API that goes away for less than a
        minute is waited for."""
        began = polled = self._clock.now()
        batch = self.status(batch_id)
        while True:
            if on_progress is not None:
                on_progress(batch)
            if batch.finished_at is not None:
                return batch
            now = self._clock.now()
            left_s = LONG_POLL_S if timeout_s is None else began + timeout_s - now
            if timeout_s is not None and left_s <= 0:
                raise NotFinished(batch, timeout_s)
            self._clock.sleep(max(0.0, min(polled + _pace_s(now - began, batch) - now, left_s)))
            polled = self._clock.now()
            batch = self._patient_status(batch_id, min(LONG_POLL_S, left_s))

    def _patient_status(self, batch_id: str, wait_s: float) -> BatchView:
        began = self._clock.now()
        while True:
            try:
                return self.status(batch_id, wait_s)
            except Unreachable:
                if self._clock.now() - began >= OUTAGE_S:
                    raise
                self._clock.sleep(_SLOWEST_POLL_S)

    def results(self, batch_id: str) -> Iterator[ResultView]:
        """Every result there is by now, in order of index, read page by page."""
        params = {"limit": str(PAGE_MAX)}
        while True:
            page = self._http.call("GET", f"{_path(batch_id)}/results", ResultPage, params=params)
            yield from page.results
            if page.cursor is None:
                return
            params["cursor"] = page.cursor

    def batches(self) -> Iterator[BatchView]:
        """Your batches, newest first, read page by page."""
        params = {"limit": str(BATCHES_PAGE_MAX)}
        while True:
            page = self._http.call("GET", "/batches", BatchList, params=params)
            yield from page.batches
            if page.cursor is None:
                return
            params["cursor"] = page.cursor

    def cancel(self, batch_id: str) -> BatchView:
        """Let the tasks not yet started become CANCELLED."""
        return self._http.call("DELETE", _path(batch_id), BatchView)

    def fleet(self) -> FleetView:
        """Machines, workers, the last decisions, and why nothing runs when nothing does."""
        return self._http.call("GET", "/fleet", FleetView)

    def health(self) -> dict[str, Any]:
        """`{"status": "ok", "version": ...}`; needs no token."""
        return self._http.call("GET", "/health", dict[str, Any])


def _pace_s(elapsed_s: float, batch: BatchView) -> float:
    """Between two looks: often at first, later less so, and often again near the end, so that it
    is not seen late."""
    pace_s = elapsed_s / _POLLS_A_WAIT
    if batch.eta_s is not None:
        pace_s = min(pace_s, batch.eta_s / 2)
    return min(max(_FASTEST_POLL_S, pace_s), _SLOWEST_POLL_S)


def _path(batch_id: str) -> str:
    """What could not be an id is kept out of the URL, where it may mean something else."""
    if not is_id(batch_id):
        raise ApiError(404, f"no batch {batch_id!r}")
    return f"/batches/{batch_id}"
