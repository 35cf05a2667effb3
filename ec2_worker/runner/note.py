"""The note of the task in progress: a few bytes that a runner shares with its worker, so that the
worker knows which task runs since when without a message; and, behind it, how earlier tasks ended
that the runner has not told of yet, so that they need not run again when the next one ends the
process. It outlives the runner."""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

PAGE = 4096
"""Bytes of the shared memory before what is not told yet: one page."""
UNTOLD_MAX_BYTES = 64 * 1024
"""Most bytes of what is not told yet."""
SIZE = PAGE + UNTOLD_MAX_BYTES
"""Bytes of the shared memory."""
NOBODY = -1
"""Place in the note of a runner in which no task runs."""
_NOTE = struct.Struct("<dqq")
_LENGTH = struct.Struct("<I")
_LENGTH_AT = _NOTE.size


class Started(NamedTuple):
    """A task in progress.

    at: its start on the system's monotonic clock, in seconds.
    task: its place in the batch; `NOBODY` when none runs.
    printed_from: where in the runner's output file its output begins.
    """

    at: float
    task: int
    printed_from: int


class Note:
    """One end of the shared memory behind the descriptor `fd`, which may be closed afterwards."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, SIZE)

    @staticmethod
    def new() -> int:
        """Returns the descriptor of new shared memory, in which no task runs."""
        fd = os.memfd_create("taskfleet-note")
        os.ftruncate(fd, SIZE)
        os.pwrite(fd, _NOTE.pack(0.0, NOBODY, 0), 0)
        return fd

    def write(self, at: float, task: int, printed_from: int) -> None:
        _NOTE.pack_into(self._memory, 0, at, task, printed_from)

    def clear(self) -> None:
        """Note that no task runs."""
        _NOTE.pack_into(self._memory, 0, 0.0, NOBODY, 0)

    def read(self) -> Started:
        return Started._make(_NOTE.unpack_from(self._memory, 0))

    def keep(self, data: bytes) -> bool:
        """Keep some bytes until they are told. Returns whether there is room."""
        (length,) = _LENGTH.unpack_from(self._memory, _LENGTH_AT)
        end = length + _LENGTH.size + len(data)
        if end > UNTOLD_MAX_BYTES:
            return False
        start = PAGE + length
        self._memory[start : PAGE + end] = _LENGTH.pack(len(data)) + data
        _LENGTH.pack_into(self._memory, _LENGTH_AT, end)  # last: the process may end anywhere
        return True

    def told(self) -> None:
        """Forget what was kept."""
        _LENGTH.pack_into(self._memory, _LENGTH_AT, 0)

    def untold(self) -> list[bytes]:
        """Returns what was kept and not told, as far as it is whole."""
        (length,) = _LENGTH.unpack_from(self._memory, _LENGTH_AT)
        data = self._memory[PAGE : PAGE + min(length, UNTOLD_MAX_BYTES)]
        found, place = [], 0
        while place + _LENGTH.size <= len(data):
            (size,) = _LENGTH.unpack_from(data, place)
            place += _LENGTH.size
            found.append(data[place : place + size])
            place += size
        return found

    def close(self) -> None:
        self._memory.close()
