"""Downloads files from URLs that clients wrote and nobody vetted. Owns the limits on size and
time, redirects and retries, and whether a failure is permanent; not which address is connected to
(`taskfleet.fetch.connect`) nor what the file contains.

Proxies, cookies, ~/.netrc and decompression are not used. Each redirect is checked like a first
URL.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from typing import BinaryIO
from urllib.parse import urljoin

import urllib3
from urllib3.exceptions import HTTPError, LocationValueError, SSLError

from taskfleet.errors import NotFound, TaskfleetError, TaskStopped, TooLarge, TransientError
from taskfleet.fetch.budget import Budget
from taskfleet.fetch.connect import Resolve, Transfer, Unfetchable, pool_manager, resolve
from taskfleet.fetch.source import UPLOAD, url_fault, without_query

_HEADERS = {"User-Agent": "taskfleet", "Accept": "*/*", "Accept-Encoding": "identity"}
_REDIRECTS = (301, 302, 303, 307, 308)
_TRANSIENT_STATUS = (408, 425, 429)
"""HTTP statuses worth another try, besides 500 to 599."""
_MALFORMED = (ValueError, LookupError, TypeError, ArithmeticError, HTTPException)
"""What the standard library and urllib3 raise on parts of an answer that they do not expect. Which
part it is cannot be listed in full, so all of it is the fault of the server."""
_CHUNK_BYTES = 1 << 16
"""Most bytes read from a connection at a time."""


@dataclass(frozen=True)
class DownloadLimits:
    """Limits on the downloads of one job."""

    file_bytes: int = 25_000_000
    """Largest file."""
    job_bytes: int = 500_000_000
    """Most bytes of all files together."""
    redirects: int = 3
    """Most redirects followed for one file."""
    connect_s: float = 5.0
    """Longest time to open a connection, in seconds."""
    silence_s: float = 10.0
    """Longest wait for the next byte, in seconds."""
    job_s: float = 900.0
    """Longest time of all downloads of one job together, in seconds. It is far above what 500 MB
    take on a slow line, and far below what 500 servers can take that send slowly."""
    total_s: float = 60.0
    """Longest time for one try with its redirects, in seconds; ends servers that send slowly
    without ever falling silent."""
    tries: int = 3
    """Most tries to fetch one file."""
    pause_s: float = 0.5
    """Pause before the second try, in seconds; it doubles for each later one."""


class _CannotStore(TransientError):
    """The file cannot be written to disk. Not tried again here; another worker may have room."""


class Downloader:
    """Fetches the files of one job; usable from several threads. Must be closed.

    allow_private: admits private addresses, for the local cloud.
    connections: number of connections kept open to one server.
    limits: defaults to `DownloadLimits()`.
    resolver: finds the addresses of a host name.
    uploaded: (upload id, cap in bytes) -> the uploaded file's bytes; raises NotFound or TooLarge.
    job: what the files are for, for messages.
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        connections: int,
        limits: DownloadLimits | None = None,
        resolver: Resolve = resolve,
        uploaded: Callable[[str, int], bytes] | None = None,
        job: str = "movie",
    ) -> None:
        self._limits = limits or DownloadLimits()
        self._allow_private = allow_private
        self._resolver = resolver
        self._uploaded = uploaded
        self._http = pool_manager(connections)
        self._budget = Budget(self._limits.job_bytes, self._limits.job_s, job)
        self._lock = threading.Lock()
        self._transfers: set[Transfer] = set()
        self._stopped = threading.Event()

    def fetch(self, url: str, path: str) -> int:
        """Stores the file at `url`, or the uploaded file that it names, at `path`. Returns the
        number of bytes.

        Raises Unfetchable if another try is pointless, TransientError if a later one may
        succeed, PermanentError if the job's files together are too large or take too long, and
        TaskStopped after `stop`.
        """
        if url.startswith(UPLOAD):
            return self._copy(url.removeprefix(UPLOAD), path)
        with self._budget.running():
            return self._fetch(url, path)

    def _fetch(self, url: str, path: str) -> int:
        """Fetches `url`, in several tries if need be; returns the size in bytes."""
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
            pause = min(wait_s, self._limits.silence_s, max(0.0, self._budget.left_s()))
            if self._stopped.wait(pause):
                raise TaskStopped("the download was stopped")
            self._budget.check_time()

    def _copy(self, upload_id: str, path: str) -> int:
        """Stores an uploaded file at `path`; returns its size in bytes."""
        if self._uploaded is None:
            raise Unfetchable("uploads cannot be fetched here")
        try:
            data = self._uploaded(upload_id, self._limits.file_bytes)
        except (NotFound, TooLarge) as error:
            raise Unfetchable(str(error)) from error
        self._budget.reserve(len(data))
        with _new_file(path) as file:
            _write(file, data)
        return len(data)

    def stop(self) -> None:
        """Ends all transfers at once, and each later one as it starts; callable from any thread."""
        self._stopped.set()
        with self._lock:
            transfers = list(self._transfers)
        for transfer in transfers:
            transfer.cut()

    def close(self) -> None:
        """Closes the connections kept open."""
        self._http.clear()

    def _try(self, url: str, path: str) -> int:
        """Fetches `url` once; returns the size in bytes."""
        left_s = self._budget.left_s()
        expired = (
            self._budget.out_of_time()
            if left_s < self._limits.total_s
            else TransientError(f"took longer than {self._limits.total_s:g} s")
        )
        transfer = Transfer(self._resolver, allow_private=self._allow_private)
        with self._lock:
            self._transfers.add(transfer)
        try:
            with transfer.within(min(left_s, self._limits.total_s)):
                self._check(transfer, expired)
                size = self._follow(url, path)
        except (HTTPError, OSError) as error:
            self._check(transfer, expired)
            raise _network_error(error) from error
        except _MALFORMED as error:
            self._check(transfer, expired)
            raise Unfetchable(f"the answer is malformed: {type(error).__name__}") from error
        else:
            # An answer that was cut within its headers looks complete, with an empty body.
            self._check(transfer, expired)
            return size
        finally:
            with self._lock:
                self._transfers.discard(transfer)

    def _check(self, transfer: Transfer, expired: TaskfleetError) -> None:
        """Raises TaskStopped, or `expired` if the transfer's time is up."""
        if self._stopped.is_set():
            raise TaskStopped("the download was stopped")
        if transfer.expired:
            raise expired

    def _follow(self, url: str, path: str) -> int:
        """Requests `url`, follows redirects, and stores the answer; returns its size in bytes."""
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
            # Closing is safe for kept-open connections: urllib3 reuses one only after its answer
            # was read to the end.
            try:
                if response.status == 200:
                    return self._read(response, path)
                if response.status not in _REDIRECTS:
                    raise _status_error(response)
                url = _target(url, response)
            finally:
                response.close()
            fault = url_fault(url)
            if fault:
                raise Unfetchable(f"is redirected to an invalid URL: {fault}")
        raise Unfetchable(
            f"is redirected more than {self._limits.redirects} times, last to {without_query(url)}"
        )

    def _read(self, response: urllib3.BaseHTTPResponse, path: str) -> int:
        """Stores the body of `response` at `path`; returns its size in bytes."""
        cap = self._limits.file_bytes
        expected = _number(response, "Content-Length")
        if expected is not None and expected > cap:
            raise Unfetchable(f"{expected:.0f} bytes is over the cap of {cap} per file")
        size = 0
        try:
            with _new_file(path) as file:
                # read1 returns what has arrived; read would wait until its buffer is full.
                while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                    size += len(chunk)
                    if size > cap:
                        raise Unfetchable(f"is over the cap of {cap} bytes per file")
                    self._budget.reserve(len(chunk))
                    _write(file, chunk)
            if expected is not None and size != expected:
                raise TransientError(f"the answer broke off after {size} of {expected:.0f} bytes")
        except BaseException:
            self._budget.reserve(-size)
            raise
        return size


def _new_file(path: str) -> BinaryIO:
    """Opens a file for unbuffered writing. Raises _CannotStore."""
    try:
        return open(path, "wb", buffering=0)
    except OSError as error:
        raise _CannotStore(f"cannot write {path}: {error.strerror}") from error


def _write(file: BinaryIO, chunk: bytes) -> None:
    """Writes all of `chunk`; an unbuffered file may take less at a time. Raises _CannotStore."""
    try:
        while chunk:
            chunk = chunk[file.write(chunk) :]
    except OSError as error:
        raise _CannotStore(f"cannot write {file.name}: {error.strerror}") from error


def _number(response: urllib3.BaseHTTPResponse, name: str) -> float | None:
    """Returns the number in a header of the answer; None if it is missing or no whole number.
    However many digits it has, it costs nothing: it becomes infinite."""
    text = response.headers.get(name, "")
    return float(text) if text.isascii() and text.isdigit() else None


def _target(url: str, response: urllib3.BaseHTTPResponse) -> str:
    """Returns the URL to which the answer of `url` redirects. Raises Unfetchable."""
    try:
        return urljoin(url, response.headers.get("Location", ""))
    except ValueError as error:
        raise Unfetchable(f"is redirected to an invalid URL: {error}") from error


def _status_error(response: urllib3.BaseHTTPResponse) -> Exception:
    """Returns the error for an answer with a status other than 200."""
    message = f"answered {response.status} {response.reason or ''}".rstrip()
    if response.status in _TRANSIENT_STATUS or response.status >= 500:
        return TransientError(message, _number(response, "Retry-After"))
    return Unfetchable(message)


def _network_error(error: Exception) -> Exception:
    """Returns the error for an exception that urllib3 or a socket raised."""
    if isinstance(error, LocationValueError):
        return Unfetchable("the URL is malformed")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unfetchable("the server's certificate is not valid")
    cause = error.__cause__ or error
    return TransientError(f"no complete answer: {type(cause).__name__}: {str(cause)[:200]}")
