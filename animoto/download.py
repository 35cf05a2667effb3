"""Downloads files from URLs that clients wrote and nobody vetted. Owns the limits on size and
time, redirects and retries, and whether a failure is permanent; not which address is connected to
(`animoto.connect`) nor what the file contains.

Proxies, cookies, ~/.netrc and decompression are not used. Each redirect is checked like a first
URL.
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
_TRANSIENT_STATUS = (408, 425, 429)
"""HTTP statuses worth another try, besides 500 to 599."""
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
    """

    def __init__(
        self,
        *,
        allow_private: bool,
        connections: int,
        limits: DownloadLimits | None = None,
        resolver: Resolve = resolve,
        uploaded: Callable[[str, int], bytes],
    ) -> None:
        self._limits = limits or DownloadLimits()
        self._allow_private = allow_private
        self._resolver = resolver
        self._uploaded = uploaded
        self._http = pool_manager(connections)
        self._lock = threading.Lock()
        self._bytes_left = self._limits.job_bytes
        self._transfers: set[Transfer] = set()
        self._stopped = threading.Event()

    def fetch(self, url: str, path: str) -> int:
        """Stores the file at `url`, or the uploaded file that it names, at `path`. Returns the
        number of bytes.

        Raises Unfetchable if another try is pointless, TransientError if a later one may
        succeed, PermanentError if the job's files together are too large, and TaskStopped after
        `stop`.
        """
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
        """Stores an uploaded file at `path`; returns its size in bytes."""
        try:
            data = self._uploaded(upload_id, self._limits.file_bytes)
        except (NotFound, TooLarge) as error:
            raise Unfetchable(str(error)) from error
        self._reserve(len(data))
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
        transfer = Transfer(self._resolver, allow_private=self._allow_private)
        with self._lock:
            self._transfers.add(transfer)
        try:
            with transfer.within(self._limits.total_s):
                self._check(transfer)
                size = self._follow(url, path)
        except (HTTPError, OSError) as error:
            self._check(transfer)
            raise _network_error(error) from error
        else:
            # An answer that was cut within its headers looks complete, with an empty body.
            self._check(transfer)
            return size
        finally:
            with self._lock:
                self._transfers.discard(transfer)

    def _check(self, transfer: Transfer) -> None:
        """Raises TaskStopped or TransientError if the transfer was cut."""
        if self._stopped.is_set():
            raise TaskStopped("the download was stopped")
        if transfer.expired:
            raise TransientError(f"took longer than {self._limits.total_s:g} s")

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
                url = urljoin(url, response.headers.get("Location", ""))
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
        length = response.headers.get("Content-Length", "")
        expected = int(length) if length.isascii() and length.isdigit() else None
        if expected is not None and expected > cap:
            raise Unfetchable(f"{expected} bytes is over the cap of {cap} per file")
        size = 0
        try:
            with _new_file(path) as file:
                # read1 returns what has arrived; read would wait until its buffer is full.
                while chunk := response.read1(_CHUNK_BYTES, decode_content=False):
                    size += len(chunk)
                    if size > cap:
                        raise Unfetchable(f"is over the cap of {cap} bytes per file")
                    self._reserve(len(chunk))
                    _write(file, chunk)
            if expected is not None and size != expected:
                raise TransientError(f"the answer broke off after {size} of {expected} bytes")
        except BaseException:
            self._reserve(-size)
            raise
        return size

    def _reserve(self, size: int) -> None:
        """Counts `size` bytes against the cap of the job; a negative size gives bytes back."""
        with self._lock:
            if size > self._bytes_left:
                raise PermanentError(
                    "the files together are over the cap of "
                    f"{self._limits.job_bytes} bytes per movie"
                )
            self._bytes_left -= size


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


def _status_error(response: urllib3.BaseHTTPResponse) -> Exception:
    """Returns the error for an answer with a status other than 200."""
    message = f"answered {response.status} {response.reason or ''}".rstrip()
    if response.status in _TRANSIENT_STATUS or response.status >= 500:
        after = response.headers.get("Retry-After", "")
        wait_s = float(after) if after.isascii() and after.isdigit() else None
        return TransientError(message, wait_s)
    return Unfetchable(message)


def _network_error(error: Exception) -> Exception:
    """Returns the error for an exception that urllib3 or a socket raised."""
    if isinstance(error, LocationValueError):
        return Unfetchable("the URL is malformed")
    if isinstance(error, SSLError) and "CERTIFICATE_VERIFY_FAILED" in str(error):
        return Unfetchable("the server's certificate is not valid")
    cause = error.__cause__ or error
    return TransientError(f"no complete answer: {type(cause).__name__}: {str(cause)[:200]}")
