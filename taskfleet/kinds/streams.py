"""What is kept of the streams that a command prints to: the end of each for its result, the
beginning of both for the task's output. Owns the bounds; not the reading
(`taskfleet.kinds.process`)."""

from __future__ import annotations

import contextlib
import os

from taskfleet import procfs

TAIL_BYTES = 16_384
"""Most bytes that are kept of the end of each stream."""
PASSED_MAX_BYTES = 1_000_000
"""Bytes that are written to the output of this process, of which the worker keeps as many. What
follows is counted only."""


class Tail:
    """The last bytes of a stream."""

    def __init__(self, most: int = TAIL_BYTES) -> None:
        self._most = most
        self._data = bytearray()
        self._cut = False

    def add(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > 4 * self._most:
            self._trim()

    def _trim(self) -> None:
        if len(self._data) > self._most:
            del self._data[: -self._most]
            self._cut = True

    def read(self) -> bytes:
        """Returns the last bytes, without a character of UTF-8 that begins before them."""
        self._trim()
        data = bytes(self._data)
        if self._cut:
            first = next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
            data = data[first:]
        return data


class Passed:
    """Passes what a command prints on to the output of this process, which its worker keeps, if it
    is a runner."""

    def __init__(self) -> None:
        self._open = procfs.adopts_orphans()
        self._room = PASSED_MAX_BYTES
        self._skipped = 0

    def write(self, data: bytes) -> None:
        while self._open and data and self._room:
            try:
                written = os.write(1, data[: self._room])
            except OSError:  # such as a full disk; the command goes on
                self._open = False
                return
            self._room -= written
            data = data[written:]
        self._skipped += len(data)

    def close(self) -> None:
        """Have what was not written counted: the output's file becomes so much longer, by a hole,
        which takes no room on the disk."""
        if self._open and self._skipped:
            with contextlib.suppress(OSError):
                os.ftruncate(1, os.fstat(1).st_size + self._skipped)
