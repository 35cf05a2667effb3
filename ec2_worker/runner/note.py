"""The note of the task in progress: a few bytes that a runner shares with its worker, so that the
worker knows which task runs since when without a message. It outlives the runner."""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

SIZE = 4096
"""Bytes of the shared memory: one page."""
NOBODY = -1
"""Place in the note of a runner in which no task runs."""
_NOTE = struct.Struct("<dqq")


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

    def close(self) -> None:
        self._memory.close()
