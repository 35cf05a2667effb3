"""What the tasks of a claimed bundle printed: kept in one file without a name while the bundle is
in hand. Owns the file, the places of the tasks in it, and the bounds; not how a process's output is
caught (`ec2_worker.runner`) nor when the file is stored (`ec2_worker.logs`).

A place that was given out once is never written over, so that whoever has an older copy of the
places reads the right bytes of a newer copy of the file. The output of a running task grows in its
*room*, a part of the file with space left; when that is full, the output is copied to a room of
twice the size at the end of the file. So the file is at most a few times as large as what was
printed, and a task that ended before anybody looked takes what it printed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import tempfile
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from taskfleet.output import PREFIX, LogRef

OUTPUT_MAX_BYTES = 1_000_000
"""Most bytes that are kept of what one attempt at a task printed: the first ones."""
ROOM_BYTES = 4_096
"""Size of a running task's first room."""
_COPY_BYTES = 1 << 18
"""Most bytes copied at a time."""
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 1, 2
"""From linux/falloc.h."""


class Place(NamedTuple):
    """Where a task's output is in the bundle's. `dropped` is how many bytes were not kept."""

    offset: int
    length: int
    dropped: int


class Snapshot(NamedTuple):
    """The output at one moment.

    file: descriptor of a copy of the file; its owner closes it.
    places: where the output of each task is, by index.
    started: start of the running tasks among them, by index, in epoch seconds.
    """

    file: int
    places: dict[int, Place]
    started: dict[int, float]


@dataclass
class Stored:
    """What of a bundle's output is in the store, and where. `ec2_worker.logs` fills it.

    storing: held while the output is stored, so that no older one is stored last.
    at: when that was last done, in epoch seconds.
    changes: what `BundleOutput.changes` was then.
    shown: by index, what the rows of the tasks say (`taskfleet.task.TaskResult.log`), and the start
        in epoch seconds of a task that was running, None of one that had ended.
    """

    storing: threading.Lock = field(default_factory=threading.Lock)
    at: float = 0.0
    changes: int = 0
    shown: dict[int, tuple[LogRef, float | None]] = field(default_factory=dict)


def key(batch_id: str, number: int, owner: str) -> str:
    """Returns the key of a bundle's output. The owner is that of the claim, so no other claim
    writes the same object."""
    return f"{PREFIX}{batch_id}/{number}/{owner.replace('/', '-')}"


class BundleOutput:
    """The output of a bundle's tasks in one claim. Its methods may be called from any thread.

    places: where the output of each task is, by index.
    changes: counts what changed in `places`.
    """

    def __init__(self) -> None:
        self.places: dict[int, Place] = {}
        self.changes = 0
        self._started: dict[int, float] = {}
        self._rooms: dict[int, int] = {}
        self._watched: set[Callable[[], None]] = set()
        self._lock = threading.Lock()
        self._fd = -1
        self._size = 0

    def keep(self, index: int, source: int, start: int, end: int) -> None:
        """Keep what a task printed that has ended: the bytes from `start` to `end` of the file
        `source`."""
        with self._lock:
            self._keep(index, source, start, end)
            self._rooms.pop(index, None)
            self._started.pop(index, None)

    def keep_running(
        self, index: int, source: int, start: int, end: int, started_at: float
    ) -> None:
        """Keep what a running task has printed so far; the other arguments are those of `keep`."""
        with self._lock:
            if index not in self._rooms:
                if end <= start:
                    return
                self._rooms[index] = 0
                self._started[index] = started_at
            self._keep(index, source, start, end)

    def _keep(self, index: int, source: int, start: int, end: int) -> None:
        printed = max(0, end - start)  # a task may have cut its own output
        length = min(printed, OUTPUT_MAX_BYTES)
        room = self._rooms.get(index)
        old = self.places.get(index) if room else None
        if old is not None and old.length <= length <= (room or 0):
            offset, copied = old.offset, old.length
        else:
            offset, copied = self._size, 0
            if room is not None:
                room = self._rooms[index] = max(ROOM_BYTES, min(2 * length, OUTPUT_MAX_BYTES))
            self._size += room or length
        if self._fd < 0:
            self._fd = unnamed_file(appended=False)
        while copied < length:
            data = os.pread(source, min(length - copied, _COPY_BYTES), start + copied)
            if not data:
                break
            copied += os.pwrite(self._fd, data, offset + copied)
        place = Place(offset, copied, printed - copied)
        if place != self.places.get(index):
            self.places[index] = place
            self.changes += 1

    def forget_running(self, indexes: Iterable[int]) -> None:
        """Forget what tasks printed that neither run nor have ended: they are to start again."""
        with self._lock:
            for index in indexes:
                if self._rooms.pop(index, None) is not None:
                    del self.places[index], self._started[index]
                    self.changes += 1

    # --- running tasks -------------------------------------------------------------------------

    def watch(self, look: Callable[[], None]) -> None:
        """Have `look` called by `refresh`. It keeps what running tasks have printed so far."""
        with self._lock:
            self._watched.add(look)

    def unwatch(self, look: Callable[[], None]) -> None:
        with self._lock:
            self._watched.discard(look)

    @property
    def is_used(self) -> bool:
        """Returns whether there is or may soon be anything that tasks printed."""
        return bool(self.places or self._watched)

    def refresh(self) -> None:
        """Take in what running tasks have printed so far."""
        with self._lock:
            looks = list(self._watched)
        for look in looks:
            look()

    # --- reading -------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def read(self, index: int, last: int) -> bytes:
        """Returns the last bytes, at most `last`, of what a task printed."""
        with self._lock:
            place = self.places.get(index)
            if place is None:
                return b""
            length = min(last, place.length)
            return os.pread(self._fd, length, place.offset + place.length - length)

    def snapshot(self) -> Snapshot:
        """Returns the output as it is now. Raises OSError."""
        copy = unnamed_file(appended=False)
        try:
            with self._lock:
                done = 0
                while self._fd >= 0 and done < self._size:
                    data = os.pread(self._fd, min(_COPY_BYTES, self._size - done), done)
                    if not data:
                        break  # the rest is room
                    done += os.write(copy, data)
                places, started = dict(self.places), dict(self._started)
        except OSError:
            os.close(copy)
            raise
        os.lseek(copy, 0, os.SEEK_SET)
        return Snapshot(copy, places, started)

    def __del__(self) -> None:
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                os.close(self._fd)


def unnamed_file(*, appended: bool, mode: int = 0o600) -> int:
    """Returns the descriptor of a new file without a name.

    appended: whether all writers append to it.
    mode: its permissions, for those who have a descriptor of it and open it once more.
    """
    flags = os.O_RDWR | os.O_CLOEXEC | (os.O_APPEND if appended else 0)
    try:
        fd = os.open(tempfile.gettempdir(), flags | os.O_TMPFILE, 0o600)
    except OSError:  # not every file system has such files
        fd, path = tempfile.mkstemp(prefix="taskfleet-output-")
        os.close(fd)
        fd = os.open(path, flags)
        os.unlink(path)
    os.fchmod(fd, mode)
    return fd


def punch(fd: int, start: int, end: int) -> None:
    """Give back the disk space of a file from the byte `start` to `end`. The file keeps its length,
    so whoever measures what a task has printed need not know of this. On a file system without
    holes the file is cut instead, and what is cut is not counted as dropped.
    """
    if end <= start:
        return
    mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
    fallocate = ctypes.CDLL(None, use_errno=True).fallocate
    if fallocate(fd, mode, ctypes.c_int64(start), ctypes.c_int64(end - start)):
        os.ftruncate(fd, start)
