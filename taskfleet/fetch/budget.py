"""What the downloads of one job may use together: bytes and time. Owns the counting and the errors
when nothing is left; not the limits of one file (`taskfleet.fetch.download`)."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from taskfleet.errors import PermanentError


class Budget:
    """The bytes and seconds left to the downloads of one job; usable from several threads.

    size_bytes: most bytes of all files together.
    seconds: longest time in which at least one download runs. Time in which none does, since the
        encoder has not yet asked for more pictures, does not count.
    job: what the files are for, for messages.
    """

    def __init__(self, size_bytes: int, seconds: float, job: str = "movie") -> None:
        self._size_bytes = size_bytes
        self._seconds = seconds
        self._job = job
        self._lock = threading.Lock()
        self._bytes_left = size_bytes
        self._used_s = 0.0
        self._running = 0
        self._since = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Context in which a download runs, so that time counts. Raises PermanentError if no time
        is left."""
        self.check_time()
        with self._lock:
            if not self._running:
                self._since = time.monotonic()
            self._running += 1
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1
                if not self._running:
                    self._used_s += time.monotonic() - self._since

    def left_s(self) -> float:
        """Returns the seconds left; not above 0 when there are none."""
        with self._lock:
            running_s = time.monotonic() - self._since if self._running else 0.0
            return self._seconds - self._used_s - running_s

    def check_time(self) -> None:
        """Raises PermanentError if no time is left."""
        if self.left_s() <= 0:
            raise self.out_of_time()

    def out_of_time(self) -> PermanentError:
        """Returns the error that says that no time is left."""
        return PermanentError(
            f"fetching all files of the {self._job} took longer than {self._seconds:g} s together"
        )

    def reserve(self, size: int) -> None:
        """Counts `size` bytes; a negative size gives bytes back. Raises PermanentError if so many
        are not left."""
        with self._lock:
            if size > self._bytes_left:
                raise PermanentError(
                    f"the files together are over the cap of {self._size_bytes} bytes "
                    f"per {self._job}"
                )
            self._bytes_left -= size
