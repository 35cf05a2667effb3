"""Fetching a file from a URL that anybody may have written. Owns how much and how long is read,
redirects, and what a failure means; not which address is connected to (`animoto.connect`) nor
what the file holds.

No proxy, cookie, netrc or decompression; redirects are followed by hand and checked again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from animoto.connect import Resolve, Transfer, Unfetchable, pool_manager, resolve
from animoto.spec import UPLOAD, url_fault, without_query
from taskfleet.errors import NotFound, PermanentError, TaskStopped, TooLarge, TransientError

_HEADERS = {"User-Agent": "taskfleet-animoto", "Accept": "*/*", "Accept-Encoding": "identity"}
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT = (408, 425, 429)
"""Besides 500 to 599."""
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Limits:
    file_bytes: int = 25_000_000
    job_bytes: int = 500_000_000
    redirects: int = 3
    connect_s: float = 5.0
    silence_s: float = 10.0
    """Longest wait for the next byte."""
    total_s: float = 60.0
    """Of one try, redirects included: a slow drip never falls silent."""
    tries: int = 3
    pause_s: float = 0.5
    """Before the second try; it doubles."""


class _CannotStore(TransientError):
    """The disk, not the network; another worker may have room."""


class Downloader:
    """Fetches the files of one job, from several threads at once; close it when done.

    allow_private: admits private addresses, for the local cloud.
    connections: how many are kept open to one server.
    uploaded: upload id -> the file's bytes, at most so many; NotFound or TooLarge.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        connections: int,
        limits: Limits | None = None,
        resolver: Resolve = resolve,
        uploaded: Callable[[str, int], bytes],
    ) -> None:
        self._limits = limits or Limits()
        self._allow_private = allow_private
        self._resolver = resolver
        self._uploaded = uploaded
        self._http = pool_manager(connections)
        self._lock = threading.Lock()
        self._room = self._limits.job_bytes
        self._transfers: set[Transfer] = set()
        self._stopped = threading.Event()

    def fetch(self, url: str, path: str) -> int:
        """Store what `url` answers, or an uploaded file, at `path`; returns the number of bytes.
        Unfetchable when the file cannot be had whoever tries again, TransientError when it might
        later, PermanentError when the job as a whole is too large, TaskStopped after `stop`."""
        if url.startswith(UPLOAD):
            return self._copy(url.removeprefix(UPLOAD), path)
        pause_s = self._limits.pause_s
        tries_left = self._limits.tries
        while True:
            tries_left -= 1
            try:
                return self._try(url, path)
            except TransientError as error:
                if not tries_left or isinstance(error, _CannotStore):
                    raise
                wait_s = pause_s if error.retry_after_s is None else error.retry_after_s
            pause_s *= 2
            if self._stopped.wait(min(wait_s, self._limits.silence_s)):
                raise TaskStopped("the download was stopped")

    def _copy(self, upload_id: str, path: str) -> int:
        try:
            data = self._uploaded(upload_id, self._limits.file_bytes)
        except (NotFound, TooLarge) as error:
            raise Unfetchable(str(error)) from error
        self._take_room(len(data))
        with _new_file(path) as file:
            _write(file, data)
        return len(data)

    def stop(self) -> None:
        """End every transfer, now and to come, at once; callable from any thread."""
        self._stopped.set()
        with self._lock:
            transfers = list(self._transfers)
        for transfer in transfers:
            transfer.cut()

    def close(self) -> None:
        self._http.clear()

    def _try(self, url: str, path: str) -> int:
        transfer = Transfer(self._resolver, allow_private=self._allow_private)
        with self._lock:
            self._transfers.add(transfer)
        try:
            with transfer.within(self._limits.total_s):
                self._check(transfer)
                size = self._follow(url, path)
        except (HTTPError, OSError) as error:
            self._check(transfer)
            raise _meaning(error) from error
        else:
            # Cut among the headers, an answer looks like a whole one without a body.
            self._check(transfer)
            return size
        finally:
            with self._lock:
                self._transfers.discard(transfer)

    def _check(self, transfer: Transfer) -> None:
        """Raise when the transfer was cut."""
        if self._stopped.is_set():
            raise TaskStopped("the download was stopped")
        if transfer.expired:
            raise TransientError(f"took longer than {self._limits.total_s:g} s")

    def _follow(self, url: str, path: str) -> int:
        timeout = urllib3.Timeout(connect=self._limits.connect_s, read=self._limits.silence_s)
        for _ in range(self._limits.redirects + 1):
            response = self._http.request(
                "GET",
                url,
                headers=_HEADERS,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            # A connection is used again only when its answer was read to the end.
            try:
                if response.status == 200:
                    return self._read(response, path)
                if response.status not in _REDIRECTS:
                    raise _refusal(response)
                url = urljoin(url, response.headers.get("Location", ""))
            finally:
                response.close()
            fault = url_fault(url)
            if fault:
                raise Unfetchable(f"is redirected to a bad place: {fault}")
        raise Unfetchable(
            f"is redirected more than {self._limits.redirects} times, at last to "
            f"{without_query(url)}"
        )

    def _read(self, response: urllib3.BaseHTTPResponse, path: str) -> int:
        cap = self._limits.file_bytes
        length = response.headers.get("Content-Length", "")
        expected = int(length) if length.isascii() and length.isdigit() else None
        if expected is not None and expected > cap:
            raise Unfetchable(f"{expected} bytes is over the cap of {cap} a file")
        size = 0
        try:
            with _new_file(path) as file:
                # read1: what has arrived; read would sit out a drip until its buffer is full.
                while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                    size += len(chunk)
                    if size > cap:
                        raise Unfetchable(f"is over the cap of {cap} bytes a file")
                    self._take_room(len(chunk))
                    _write(file, chunk)
            if expected is not None and size != expected:
                raise TransientError(f"the answer broke off after {size} of {expected} bytes")
        except BaseException:
            self._take_room(-size)
            raise
        return size

    def _take_room(self, size: int) -> None:
        with self._lock:
            if size > self._room:
                raise PermanentError(
                    f"the files together are over the cap of {self._limits.job_bytes} bytes a movie"
                )
            self._room -= size


def _new_file(path: str) -> BinaryIO:
    try:
        return open(path, "wb", buffering=0)
    except OSError as error:
        raise _CannotStore(f"cannot write {path}: {error.strerror}") from error


def _write(file: BinaryIO, chunk: bytes) -> None:
    try:
        while chunk:
            chunk = chunk[file.write(chunk) :]
    except OSError as error:
        raise _CannotStore(f"cannot write {file.name}: {error.strerror}") from error


def _refusal(response: urllib3.BaseHTTPResponse) -> Exception:
    """What a status other than 200 means."""
    said = f"answered {response.status} {response.reason or ''}".rstrip()
    if response.status in _TRANSIENT or response.status >= 500:
        after = response.headers.get("Retry-After", "")
        return TransientError(said, float(after) if after.isascii() and after.isdigit() else None)
    return Unfetchable(said)


def _meaning(error: Exception) -> Exception:
    """What an error of the network means."""
    if isinstance(error, LocationValueError):
        return Unfetchable("the URL is malformed")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unfetchable("the server's certificate is not valid")
    cause = error.__cause__ or error
    return TransientError(f"no complete answer: {type(cause).__name__}: {str(cause)[:200]}")
