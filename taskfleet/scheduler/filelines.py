"""Reads the lines of an uploaded file from any place on, and parses them into tasks. Owns the
numbers of lines and offsets, and the errors that name a line; not what a line means
(`taskfleet.wire.taskfile`) nor when a run stops (`taskfleet.scheduler.expand`).
"""

from __future__ import annotations

from collections.abc import Iterator

from taskfleet.batch import Upload
from taskfleet.errors import InvalidTask, NotFound, TooLarge
from taskfleet.ports import LINE_MAX_BYTES, ObjectStore
from taskfleet.registry import Registry
from taskfleet.task import Task
from taskfleet.wire.taskfile import read_line

_CACHED_LINES = 10_000
"""Most lines in the cache of parsed lines."""
_CACHED_LINE_MAX_BYTES = 256
"""Longest line that is cached, in bytes."""

PlacedLine = tuple[int, int, bytes]
"""A line's number, from 1, the offset of its end in the file, and its bytes with their end."""


def lines_after(
    store: ObjectStore, upload: Upload, lines: int = 0, offset: int = 0
) -> Iterator[PlacedLine]:
    """Yields the lines of the file after the first `lines`, which end at `offset`. An offset of 0
    means that it is not known: the file is then read from its start.

    Raises InvalidTask for a line that is too long, and when the file was deleted or replaced.
    """
    number = lines if offset else 0
    try:
        for line in store.lines(upload.key, etag=upload.etag, offset=offset):
            number += 1
            offset += len(line)
            if number > lines:
                yield number, offset, line
    except TooLarge:
        reason = f"over the cap of {LINE_MAX_BYTES} bytes"
        raise InvalidTask(f"line {number + 1}: {reason}") from None
    except NotFound:
        raise InvalidTask("the file is gone, or another was sent in its place") from None


class LineReader:
    """Parses lines into tasks, all with index 0. Caches short lines, since large files repeat the
    same line many times."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._cache: dict[bytes, Task | None] = {}

    def task_on(self, number: int, line: bytes) -> Task | None:
        """Returns the task on the line, None for a blank line or a comment. Raises InvalidTask,
        which names the line by its number."""
        cache = self._cache
        if line in cache:
            return cache[line]
        task = self._parse(number, line)
        # Not the first line: a byte order mark is skipped there only.
        if number > 1 and len(line) <= _CACHED_LINE_MAX_BYTES:
            if len(cache) >= _CACHED_LINES:
                cache.clear()
            cache[line] = task
        return task

    def _parse(self, number: int, line: bytes) -> Task | None:
        try:
            raw = read_line(line.decode(), number)
        except UnicodeDecodeError as error:
            raise InvalidTask(
                f"line {number}: not UTF-8: byte {error.start} cannot be read"
            ) from None
        if raw is None:
            return None
        try:
            return self._registry.parse(raw, 0)
        except InvalidTask as error:
            raise InvalidTask(f"line {number}: {error.reason}") from None
