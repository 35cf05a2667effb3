"""What an executor needs of the service. Owns the port and its way over HTTP; the way in memory is
`taskfleet.executor.local`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, Unpack

import requests

from taskfleet.client import ApiError, Client, Unreachable
from taskfleet.client.transport import no_auth
from taskfleet.options import BatchFields
from taskfleet.wire.http.batches import Accepted, BatchView
from taskfleet.wire.http.results import ResultView

FETCH_TIMEOUT_S = 60.0
"""Longest time without a byte of a stored file, in seconds."""
_PART_BYTES = 1 << 20
"""Bytes of a stored file that are read at a time."""


class Completed(Protocol):
    """Rows that ended since the last look. `cursor` is None only when every row was given."""

    @property
    def rows(self) -> Sequence[ResultView]: ...

    @property
    def cursor(self) -> str | None: ...

    @property
    def finished(self) -> bool: ...


class Workers(Protocol):
    """What `GET /kinds` says."""

    @property
    def kinds(self) -> Sequence[Any]: ...

    @property
    def workers(self) -> Any: ...


class Desk(Protocol):
    """The service as one thread of an executor sees it. Methods raise `ApiError` and `Unreachable`
    as those of `taskfleet.client.Client` do."""

    def kinds(self) -> Workers:
        """Returns the kinds of the stage and the versions of its workers."""
        ...

    def put(self, data: bytes | Path) -> str:
        """Store data under its SHA-256, which is returned."""
        ...

    def open(
        self,
        *,
        name: str | None,
        idempotency_key: str | None,
        **options: Unpack[BatchFields],
    ) -> Accepted:
        """Make an open batch, or find the one that the key made before."""
        ...

    def add(self, batch_id: str, first: int, tasks: Sequence[Any]) -> int:
        """Add tasks from the index `first` on. Returns the new total."""
        ...

    def close_batch(self, batch_id: str) -> BatchView:
        """Let the batch end with the tasks that it has."""
        ...

    def cancel(self, batch_id: str) -> BatchView:
        """Cancel the tasks that have not started."""
        ...

    def status(self, batch_id: str) -> BatchView:
        """Returns the batch now."""
        ...

    def completed(
        self, batch_id: str, cursor: str | None = None, wait_s: float = 0.0, *, brief: bool = False
    ) -> Completed:
        """Returns the rows that ended since `cursor`, as soon as there are some; with `brief`
        perhaps without their tasks."""
        ...

    def log_text(self, batch_id: str, index: int) -> str:
        """Returns what a task printed, empty if nothing."""
        ...

    def fetch(self, url: str) -> bytes:
        """Returns a large result from the URL that its row names."""
        ...

    def save(self, url: str, path: Path) -> None:
        """Write what is at a URL that a row names to a file."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


DeskMaker = Callable[[], Desk]
"""Makes a desk for one more thread."""


class HttpDesk:
    """A desk over HTTP, on a client of its own."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.kinds = client.kinds
        self.put = client.put
        self.open = client.open
        self.add = client.add
        self.close_batch = client.close_batch
        self.cancel = client.cancel
        self.completed = client.completed
        self.close = client.close

    def status(self, batch_id: str) -> BatchView:
        return self._client.status(batch_id)

    def log_text(self, batch_id: str, index: int) -> str:
        parts: list[str] = []
        offset = 0
        while True:
            try:
                page = self._client.log(batch_id, index, offset=offset)
            except ApiError as error:
                if error.status == 404:
                    return "".join(parts)
                raise
            parts.append(page.text)
            if page.end >= page.length or page.end <= offset:
                return "".join(parts)
            offset = page.end

    def fetch(self, url: str) -> bytes:
        with _answer(url) as answer:
            return answer.content

    def save(self, url: str, path: Path) -> None:
        with _answer(url) as answer, path.open("wb") as file:
            for part in answer.iter_content(_PART_BYTES):
                file.write(part)


@contextmanager
def _answer(url: str) -> Iterator[requests.Response]:
    """The answer to a GET of a presigned URL, which needs no token. Raises ApiError; and
    Unreachable, also for a connection that breaks while it is read."""
    try:
        with requests.get(
            url, timeout=FETCH_TIMEOUT_S, allow_redirects=False, stream=True, auth=no_auth
        ) as answer:
            if answer.status_code != 200:
                raise ApiError(answer.status_code, f"a stored file was refused: {answer.reason}")
            yield answer
    except requests.RequestException as error:
        raise Unreachable(f"a stored file could not be fetched: {error}") from error
