"""Reads an uploaded file into its batch, in constant memory: checks the whole file first, then
records and enqueues its tasks in parts. Owns where a run stops and where the next one continues;
not what a line means (`taskfleet.wire.taskfile`) nor how a part is enqueued
(`taskfleet.scheduler.enqueue`).

The batch records the progress, and the same file always makes the same parts, so an interrupted run
can be repeated. A part that was recorded is always enqueued, even when the batch was cancelled
meanwhile, since every recorded task must get a result.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import islice

from msgspec.structs import replace

from taskfleet.batch import BatchRecord, Upload
from taskfleet.errors import InvalidTask, NotFound, TooLarge
from taskfleet.log import fields
from taskfleet.ports import LINE_MAX_BYTES, Clock, ObjectStore, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.upload import request_expansion
from taskfleet.task import Task
from taskfleet.wire.taskfile import holds_task, read_line

_log = logging.getLogger(__name__)

PART_TASKS = 20_000
"""Most tasks in one part."""
PART_BYTES = 4 * 1024 * 1024
"""Size in bytes at which a part is full. The line that fills it still belongs to it."""
RESERVE_S = 10.0
"""Seconds of a run that are kept for finishing the current part."""
TIME_CHECK_LINES = 5_000
"""Lines that are checked between two looks at the time left."""
ERROR_MAX_CHARS = 500
"""Longest error message recorded with a batch, in characters."""

_CACHED_LINES = 10_000
"""Most lines in the cache of parsed lines."""
_CACHED_LINE_MAX_BYTES = 256
"""Longest line that is cached, in bytes."""

NumberedLine = tuple[int, bytes]
"""A line's number, from 1, and its bytes."""


class Expansion:
    """Expands batches that were made of uploads.

    upload_queue: the queue of batches whose files are to be read.
    part_tasks, part_bytes, time_check_lines: as the constants of the same names.
    """

    def __init__(
        self,
        registry: Registry,
        planner: Planner,
        enqueuer: Enqueuer,
        store: ObjectStore,
        upload_queue: TaskQueue,
        monitor: TaskMonitor,
        clock: Clock,
        *,
        part_tasks: int = PART_TASKS,
        part_bytes: int = PART_BYTES,
        time_check_lines: int = TIME_CHECK_LINES,
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._enqueuer = enqueuer
        self._store = store
        self._upload_queue = upload_queue
        self._monitor = monitor
        self._clock = clock
        self._part_tasks = part_tasks
        self._part_bytes = part_bytes
        self._time_check_lines = time_check_lines

    def expand(self, batch_id: str, time_left_s: Callable[[], float]) -> None:
        """Continue with a batch until all of it is enqueued or the time is nearly up; in the
        latter case the batch is put on the upload queue again.

        A file with a fault cancels its batch with the reason. After any other error the caller
        calls again. `time_left_s` returns the seconds until this run must end.
        """
        batch = self._monitor.batch(batch_id)
        if batch is None or batch.upload is None:
            _log.warning("no such upload", extra=fields("upload_unknown", batch_id=batch_id))
            return
        if _ended(batch):
            return
        try:
            done = self._continue(batch, batch.upload, lambda: time_left_s() < RESERVE_S)
        except InvalidTask as error:
            reason = error.reason[:ERROR_MAX_CHARS]
            self._monitor.cancel_batch(batch_id, self._clock.now(), reason)
            _log.info("a file was refused", extra=fields("upload_refused", batch_id=batch_id))
            return
        if not done:
            request_expansion(self._upload_queue, batch)

    def _continue(self, batch: BatchRecord, upload: Upload, is_late: Callable[[], bool]) -> bool:
        """Check and enqueue what is left of the batch. Returns False when the time was up before
        the end."""
        if not upload.checked:
            upload = self._check(upload, is_late)
            self._monitor.record_upload(batch.batch_id, upload)
        return upload.checked and self._enqueue_rest(batch, upload, is_late)

    def _check(self, upload: Upload, is_late: Callable[[], bool]) -> Upload:
        """Check the lines that were not checked yet, until the end of the file or of the time.
        Returns the progress. Raises InvalidTask for the first faulty line."""
        task_on = _Reader(self._registry).task_on
        number, tasks = upload.lines, upload.tasks
        for number, line in islice(self._lines(upload), upload.lines, None):
            if task_on(number, line) is not None:
                tasks += 1
            if number % self._time_check_lines == 0 and is_late():
                return replace(upload, lines=number, tasks=tasks)
        if not tasks:
            raise InvalidTask("there is no task in the file")
        return replace(upload, lines=number, tasks=tasks, checked=True)

    def _enqueue_rest(
        self, batch: BatchRecord, upload: Upload, is_late: Callable[[], bool]
    ) -> bool:
        """Enqueue part after part. Returns False when the time was up before the last one."""
        task_lines = (
            (number, line) for number, line in self._lines(upload) if holds_task(line, number)
        )
        rest = islice(task_lines, batch.enqueued, None)
        reader = _Reader(self._registry)
        while True:
            extended = self._enqueue_part(batch, upload.tasks, rest, reader)
            if extended is None or _ended(extended):
                return True
            if is_late():
                return False
            batch = extended

    def _enqueue_part(
        self, batch: BatchRecord, total: int, rest: Iterator[NumberedLine], reader: _Reader
    ) -> BatchRecord | None:
        """Record the next part of the batch, unless an earlier run did, and enqueue it. Returns the
        batch with it; None when the batch was cancelled or another run is ahead of this one."""
        spent_before = self._enqueuer.spent()
        first = batch.enqueued
        recorded = batch.total - first
        tasks = self._read_part(rest, reader, first, recorded)
        bundles = self._planner.cut(tasks, batch.plan)
        if not recorded:
            extended = self._monitor.add_part(
                batch.batch_id,
                first=first,
                tasks=len(tasks),
                bundles=len(bundles),
                closed=first + len(tasks) == total,
            )
            if extended is None:
                return None
            batch = extended
        self._enqueuer.enqueue(batch, bundles, spent_before)
        return replace(batch, enqueued=batch.total)

    def _read_part(
        self, rest: Iterator[NumberedLine], reader: _Reader, first: int, recorded: int
    ) -> list[Task]:
        """Returns the tasks of the next part, with indexes from `first`. `recorded` is the number
        of tasks that an earlier run recorded of this part; 0 when none did."""
        tasks: list[Task] = []
        room = self._part_bytes
        for number, line in islice(rest, recorded or self._part_tasks):
            task = reader.task_on(number, line)
            if task is not None:  # always true: `holds_task` selected the line
                tasks.append(Task(first + len(tasks), task.kind, task.params))
            room -= len(line)
            if room <= 0 and not recorded:
                break
        return tasks

    def _lines(self, upload: Upload) -> Iterator[NumberedLine]:
        """Yields the lines of the file. Raises InvalidTask for a line that is too long, and when
        the file was deleted or replaced."""
        number = 0
        try:
            for line in self._store.lines(upload.key, etag=upload.etag):
                number += 1
                yield number, line
        except TooLarge:
            reason = f"over the cap of {LINE_MAX_BYTES} bytes"
            raise InvalidTask(f"line {number + 1}: {reason}") from None
        except NotFound:
            raise InvalidTask("the file is gone, or another was sent in its place") from None


class _Reader:
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


def _ended(batch: BatchRecord) -> bool:
    """Returns whether the batch gets no more tasks and all that it has are enqueued."""
    final = batch.closed or batch.cancelled_at is not None
    return final and batch.enqueued == batch.total
