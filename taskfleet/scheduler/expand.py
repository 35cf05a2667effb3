"""Reading an uploaded file into its batch, in constant memory: first all of it is checked, then its
tasks are handed in, part by part. Owns where to stop and where to go on; what a line means is
`taskfleet.wire.taskfile`'s, how a part gets in `taskfleet.scheduler.enqueue`'s.

How far it came stands in the batch, and the same file makes the same parts: a run that is cut short
is simply done again. What was recorded is always enqueued, also of a batch that was cancelled
meanwhile, since each recorded task is owed a result.
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
from taskfleet.scheduler.upload import send_to_expand
from taskfleet.task import Task
from taskfleet.wire.taskfile import holds_task, read_line

_log = logging.getLogger(__name__)

PART_TASKS = 20_000
PART_BYTES = 4 * 1024 * 1024
"""Of a part's lines, give or take one."""
RESERVE_S = 10.0
"""Of a run's time, for the part in hand."""
LOOK_LINES = 5_000
"""Between two looks at the time, while checking."""
ERROR_MAX_CHARS = 500

_KNOWN_LINES = 10_000
_KNOWN_LINE_BYTES = 256

NumberedLine = tuple[int, bytes]


class Expansion:
    """Expands batches. `uploads` is the queue that they come by."""

    def __init__(
        self,
        registry: Registry,
        planner: Planner,
        enqueuer: Enqueuer,
        store: ObjectStore,
        uploads: TaskQueue,
        monitor: TaskMonitor,
        clock: Clock,
        *,
        part_tasks: int = PART_TASKS,
        part_bytes: int = PART_BYTES,
        look_lines: int = LOOK_LINES,
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._enqueuer = enqueuer
        self._store = store
        self._uploads = uploads
        self._monitor = monitor
        self._clock = clock
        self._part_tasks = part_tasks
        self._part_bytes = part_bytes
        self._look_lines = look_lines

    def expand(self, batch_id: str, time_left_s: Callable[[], float]) -> None:
        """Go on with a batch where it stands, until all of it is handed in or the time is nearly
        up: then it goes on the queue again. A file that cannot be used cancels its batch, with the
        reason. After any other error, do the same again."""
        batch = self._monitor.batch(batch_id)
        if batch is None or batch.upload is None:
            _log.warning("no such upload", extra=fields("upload_unknown", batch_id=batch_id))
            return
        if _ended(batch):
            return
        try:
            done = self._go_on(batch, batch.upload, lambda: time_left_s() < RESERVE_S)
        except InvalidTask as error:
            reason = error.reason[:ERROR_MAX_CHARS]
            self._monitor.cancel_batch(batch_id, self._clock.now(), reason)
            _log.info("a file was refused", extra=fields("upload_refused", batch_id=batch_id))
            return
        if not done:
            send_to_expand(self._uploads, batch)

    def _go_on(self, batch: BatchRecord, upload: Upload, is_late: Callable[[], bool]) -> bool:
        """Whether nothing is left to do."""
        if not upload.checked:
            upload = self._check(upload, is_late)
            self._monitor.record_upload(batch.batch_id, upload)
        return upload.checked and self._hand_in(batch, upload, is_late)

    def _check(self, upload: Upload, is_late: Callable[[], bool]) -> Upload:
        """Read on until the end of the file, or of the time. InvalidTask names the line."""
        task_on = _Reader(self._registry).task_on
        number, tasks = upload.lines, upload.tasks
        for number, line in islice(self._lines(upload), upload.lines, None):
            if task_on(number, line) is not None:
                tasks += 1
            if number % self._look_lines == 0 and is_late():
                return replace(upload, lines=number, tasks=tasks)
        if not tasks:
            raise InvalidTask("there is no task in the file")
        return replace(upload, lines=number, tasks=tasks, checked=True)

    def _hand_in(self, batch: BatchRecord, upload: Upload, is_late: Callable[[], bool]) -> bool:
        numbered = (each for each in self._lines(upload) if holds_task(each[1], each[0]))
        rest = islice(numbered, batch.enqueued, None)
        reader = _Reader(self._registry)
        while True:
            grown = self._hand_in_part(batch, upload.tasks, rest, reader)
            if grown is None or _ended(grown):
                return True
            if is_late():
                return False
            batch = grown

    def _hand_in_part(
        self, batch: BatchRecord, total: int, rest: Iterator[NumberedLine], reader: _Reader
    ) -> BatchRecord | None:
        """The batch with its next part on the queue; None when none can join: it was cancelled, or
        another run is ahead, and goes on."""
        spent_before = self._enqueuer.spent()
        first = batch.enqueued
        tasks = self._take(rest, reader, first, batch.total - first)
        bundles = self._planner.cut(tasks, batch.plan)
        if batch.total == first:
            grown = self._monitor.add_part(
                batch.batch_id,
                first=first,
                tasks=len(tasks),
                bundles=len(bundles),
                closed=first + len(tasks) == total,
            )
            if grown is None:
                return None
            batch = grown
        self._enqueuer.enqueue(batch, bundles, spent_before)
        return replace(batch, enqueued=batch.total)

    def _take(
        self, rest: Iterator[NumberedLine], reader: _Reader, first: int, recorded: int
    ) -> list[Task]:
        """The next part: as many tasks as an earlier run recorded of it, if one did."""
        tasks: list[Task] = []
        room = self._part_bytes
        for number, line in islice(rest, recorded or self._part_tasks):
            task = reader.task_on(number, line)
            if task is not None:  # as `holds_task` said
                tasks.append(Task(first + len(tasks), task.kind, task.params))
            room -= len(line)
            if room <= 0 and not recorded:
                break
        return tasks

    def _lines(self, upload: Upload) -> Iterator[NumberedLine]:
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
    """From lines to tasks, all with index 0. Remembers some lines: files repeat the same ones many
    times over."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._known: dict[bytes, Task | None] = {}

    def task_on(self, number: int, line: bytes) -> Task | None:
        """None for a line that is skipped. InvalidTask names the line."""
        known = self._known
        if line in known:
            return known[line]
        task = self._read(number, line)
        if number > 1 and len(line) <= _KNOWN_LINE_BYTES:  # the first line has a rule of its own
            if len(known) >= _KNOWN_LINES:
                known.clear()
            known[line] = task
        return task

    def _read(self, number: int, line: bytes) -> Task | None:
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
    """Whether nothing is left to enqueue."""
    final = batch.closed or batch.cancelled_at is not None
    return final and batch.enqueued == batch.total
