"""What the tasks of a claimed bundle printed: kept in one file without a name while the bundle is
in hand, and stored as one object when it leaves. Owns the bounds and the object's key; not how a
process's output is caught (`ec2_worker.runner`)."""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from typing import NamedTuple

from taskfleet.errors import TransientError
from taskfleet.ports import ObjectStore

OUTPUT_MAX_BYTES = 1_000_000
"""Most bytes that are kept of what one attempt at a task printed: the first ones."""
PREFIX = "logs/"
"""Prefix of the keys of stored output."""
_COPY_BYTES = 1 << 18
"""Most bytes copied at a time."""


class Place(NamedTuple):
    """Where a task's output is in the bundle's. `dropped` is how many bytes were not kept, as far
    as they were counted."""

    offset: int
    length: int
    dropped: int


def key(batch_id: str, number: int, owner: str) -> str:
    """Returns the key of a bundle's output. The owner is that of the claim, so no other claim
    writes the same object."""
    return f"{PREFIX}{batch_id}/{number}/{owner.replace('/', '-')}"


class BundleOutput:
    """The output of a bundle's tasks in one claim. Its methods may be called from any thread.

    places: where the output of each task is, by index.
    """

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self._lock = threading.Lock()
        self._fd = -1
        self._size = 0

    def keep(self, index: int, source: int, start: int, end: int, dropped: int = 0) -> None:
        """Keep what a task printed: the bytes from `start` to `end` of the file `source`. `dropped`
        bytes of it are lost already."""
        length = min(end - start, OUTPUT_MAX_BYTES)
        dropped += end - start - length
        with self._lock:
            if self._fd < 0:
                self._fd = unnamed_file()
            offset = self._size
            copied = 0
            while copied < length:
                data = os.pread(source, min(length - copied, _COPY_BYTES), start + copied)
                if not data:
                    break
                copied += os.write(self._fd, data)
            self._size += copied
            self.places[index] = Place(offset, copied, dropped + length - copied)

    def read(self, index: int, last: int) -> bytes:
        """Returns the last bytes, at most `last`, of what a task printed."""
        with self._lock:
            place = self.places.get(index)
            if place is None:
                return b""
            length = min(last, place.length)
            return os.pread(self._fd, length, place.offset + place.length - length)

    def store(self, store: ObjectStore, name: str) -> None:
        """Store the output as the object `name`. Raises TransientError or PermanentError."""
        with self._lock:
            if self._fd < 0:
                return
            os.lseek(self._fd, 0, os.SEEK_SET)
            try:
                store.put_file(name, os.dup(self._fd), content_type="text/plain; charset=utf-8")
            except OSError as error:
                raise TransientError(f"output could not be read: {error}") from error

    def __del__(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)


def unnamed_file() -> int:
    """Returns the descriptor of a new file without a name, to which all writers append."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(tempfile.gettempdir(), flags | os.O_TMPFILE, 0o600)
    except OSError:  # not every file system has such files
        fd, path = tempfile.mkstemp(prefix="taskfleet-output-")
        os.close(fd)
        fd = os.open(path, flags)
        os.unlink(path)
        return fd
