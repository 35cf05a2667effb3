"""Reads a file into its batch, in constant memory: checks the whole file first, then records and
enqueues its tasks in parts. Owns where a run stops and where the next one continues; not how lines
are read (`taskfleet.scheduler.filelines`) nor how a part is kept (`taskfleet.scheduler.parts`) and
enqueued (`taskfleet.scheduler.enqueue`).

The batch records the progress, and the same file always makes the same parts, so an interrupted run
can be repeated. A part that was recorded is always enqueued, even when the batch was cancelled or
the file vanished meanwhile, since every recorded task must get a result.

A run reads for a slice of time, then puts the batch behind those of other clients. The next run
goes on at the byte where this one stopped, and every run gets further, if only by lines without
tasks. So a file ends after a number of runs that its size bounds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from itertools import chain

from msgspec.structs import replace

from taskfleet.batch import BATCH_MAX_BUNDLES, BatchRecord, Mark, Upload, kinds_of
from taskfleet.errors import InvalidTask
from taskfleet.log import bound, fields
from taskfleet.ports import Clock, ObjectStore, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.scheduler.after import Precedence, request_expansion
from taskfleet.scheduler.ended import UNHEARD, Ended
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.filelines import LineReader, PlacedLine, lines_after
from taskfleet.scheduler.limit import NO_LIMIT, ClientLimit
from taskfleet.scheduler.parts import Parts
from taskfleet.scheduler.plan import Planner
from taskfleet.task import Task
from taskfleet.wire.taskfile import holds_task

_log = logging.getLogger(__name__)

PART_TASKS = 20_000
"""Most tasks in one part."""
PART_BYTES = 4 * 1024 * 1024
"""Size in bytes at which a part is full. The line that fills it still belongs to it."""
SLICE_S = 20.0
"""Seconds after which a run hands on, so that a large file holds a place of the reader from another
client's file no longer. Starting the next run costs some calls to SQS, DynamoDB and S3."""
RESERVE_S = 10.0
"""Seconds of a run that are kept for finishing the current part."""
TIME_CHECK_LINES = 5_000
"""Most lines that are read between two looks at the time left."""
TIME_CHECK_BYTES = PART_BYTES
"""Most bytes that are read between two looks at the time left, but for the last line."""
IDLE_LINES_MAX = 1_000_000
"""Lines without a task that any file may have. Reading them takes about a second."""
IDLE_LINES_A_TASK = 3
"""Further lines without a task that a file may have for each task before them. With this, the time
to read a file is bounded by the work in it."""
ERROR_MAX_CHARS = 500
"""Longest error message recorded with a batch, in characters."""


class Expansion:
    """Expands batches that were made of files.

    upload_queue: the queue of batches whose files are to be read.
    limit: bounds the tasks of each client, so of each file.
    ended: is told of a batch that ends here, since its file has a fault or one for which it waited
        failed.
    precedence: tells when a batch that waits for others goes; one on the same ports unless given.
    part_tasks, part_bytes, time_check_lines, idle_lines_max: as the constants of the same names.
    max_bundles: as `taskfleet.batch.BATCH_MAX_BUNDLES`.
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
        limit: ClientLimit = NO_LIMIT,
        ended: Ended = UNHEARD,
        precedence: Precedence | None = None,
        part_tasks: int = PART_TASKS,
        part_bytes: int = PART_BYTES,
        time_check_lines: int = TIME_CHECK_LINES,
        idle_lines_max: int = IDLE_LINES_MAX,
        max_bundles: int = BATCH_MAX_BUNDLES,
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._enqueuer = enqueuer
        self._store = store
        self._parts = Parts(store, enqueuer)
        self._upload_queue = upload_queue
        self._monitor = monitor
        self._clock = clock
        self._limit = limit
        self._ended = ended
        self._precedence = precedence or Precedence(monitor, upload_queue, clock)
        self._part_tasks = part_tasks
        self._part_bytes = part_bytes
        self._time_check_lines = time_check_lines
        self._idle_lines_max = idle_lines_max
        self._max_bundles = max_bundles

    def expand(
        self,
        batch_id: str,
        time_left_s: Callable[[], float],
        *,
        ended: str | None = None,
        again: bool = False,
    ) -> None:
        """Continue with a batch until all of it is enqueued, its slice of time is over or the
        run's time is nearly up; in the latter two cases the batch is put on the upload queue again.
        Does nothing for a batch that waits for others, unless they have ended.

        A file with a fault cancels its batch with the reason. After any other error the caller
        calls again. `time_left_s` returns the seconds until this run must end. `ended` is the batch
        whose end is the occasion; None for none. `again` says that the same message was read
        before, by a run that may have died.
        """
        batch = self._monitor.batch(batch_id)
        if batch is None or batch.upload is None:
            _log.warning("no such upload", extra=fields("upload_unknown", batch_id=batch_id))
            return
        if _ended(batch):
            # The earlier run may have died before it could tell. A first message tells nothing: it
            # is one of several for this batch, and along a chain they would multiply.
            if again:
                self._ended.tell(batch)
            return
        with bound(batch.trace_id):
            if not batch.waiting or self._goes(batch, ended):
                self._expand(batch, batch.upload, time_left_s)

    def _goes(self, batch: BatchRecord, ended: str | None) -> bool:
        """Returns whether the turn of a batch that waits has come. Cancels it if it never will."""
        turn = self._precedence.turn(batch, ended)
        if turn.fault is not None:
            self._cancel(batch, turn.fault)
        return turn.fault is None and turn.waits_for is None

    def _cancel(self, batch: BatchRecord, reason: str) -> None:
        cancelled = self._monitor.cancel_batch(batch.batch_id, self._clock.now(), reason)
        if cancelled is not None:
            self._ended.tell(cancelled)

    def _expand(self, batch: BatchRecord, upload: Upload, time_left_s: Callable[[], float]) -> None:
        slice_end = self._clock.now() + SLICE_S

        def is_late() -> bool:
            return time_left_s() < RESERVE_S or self._clock.now() >= slice_end

        try:
            done = self._continue(batch, upload, is_late)
        except InvalidTask as error:
            reason = error.reason[:ERROR_MAX_CHARS]
            _log.info("a file was refused", extra=fields("upload_refused", batch_id=batch.batch_id))
            self._cancel(batch, reason)
            return
        if not done:
            request_expansion(self._upload_queue, batch)

    def _continue(self, batch: BatchRecord, upload: Upload, is_late: Callable[[], bool]) -> bool:
        """Check and enqueue what is left of the batch. Returns False when the time was up before
        the end."""
        if not upload.checked:
            upload = self._check(upload, is_late)
            self._monitor.record_upload(batch.batch_id, upload)
        return upload.checked and self._hand_in(batch, upload, is_late)

    def _check(self, upload: Upload, is_late: Callable[[], bool]) -> Upload:
        """Check the lines that were not checked yet, until the end of the file or of the time.
        Returns the progress. Raises InvalidTask for the first faulty line."""
        task_on = LineReader(self._registry).task_on
        number, tasks, offset = upload.lines, upload.tasks, upload.offset
        look = self._looks(number, offset, is_late)
        for number, offset, line in lines_after(  # noqa: B020 - it goes on from these
            self._store, upload, number, offset
        ):
            if task_on(number, line) is not None:
                tasks += 1
                self._limit.check_size(tasks)
            elif number - tasks > self._idle_lines_max + IDLE_LINES_A_TASK * tasks:
                raise InvalidTask(
                    f"line {number}: {number - tasks} lines so far hold no task; a file may have "
                    f"{self._idle_lines_max} such lines and {IDLE_LINES_A_TASK} more for each task"
                )
            if look(number, offset):
                return replace(upload, lines=number, tasks=tasks, offset=offset)
        if not tasks:
            raise InvalidTask("there is no task in the file")
        return replace(upload, lines=number, tasks=tasks, offset=offset, checked=True)

    def _looks(
        self, number: int, offset: int, is_late: Callable[[], bool]
    ) -> Callable[[int, int], bool]:
        """Returns a function that tells, after the line of this number and end, whether the time
        is up. It looks at the time only after enough lines or bytes, so that a run gets on."""
        next_number, next_offset = number + self._time_check_lines, offset + TIME_CHECK_BYTES

        def look(number: int, offset: int) -> bool:
            nonlocal next_number, next_offset
            if number < next_number and offset < next_offset:
                return False
            next_number, next_offset = number + self._time_check_lines, offset + TIME_CHECK_BYTES
            return is_late()

        return look

    # --- handing in ---

    def _hand_in(self, batch: BatchRecord, upload: Upload, is_late: Callable[[], bool]) -> bool:
        """Enqueue part after part. Returns False, with the place recorded, when the time was up
        before the last one."""
        batch = self._parts.enqueue_kept(batch)  # that of an earlier run, without the file
        if _ended(batch):
            return True
        mark = upload.handed
        reader = LineReader(self._registry)
        rest = lines_after(self._store, upload, mark.lines, mark.offset)
        while True:
            mark, first = self._skip(mark, rest, batch.enqueued, is_late)
            if first is not None:
                rest = chain([first], rest)
                extended, mark = self._enqueue_part(batch, upload.tasks, rest, reader, mark)
                if extended is None or _ended(extended):
                    return True
                batch = extended
            if first is None or is_late():
                self._monitor.record_handed(batch.batch_id, mark)
                return False

    def _skip(
        self, mark: Mark, rest: Iterator[PlacedLine], tasks: int, is_late: Callable[[], bool]
    ) -> tuple[Mark, PlacedLine | None]:
        """Go past lines until `tasks` tasks of the file lie behind, to the next line with a task.
        Returns the place before that line, and the line; None instead of it when the time was
        up."""
        look = self._looks(mark.lines, mark.offset, is_late)
        lines, seen, offset = mark.lines, mark.tasks, mark.offset
        for number, end, line in rest:
            if holds_task(line, number):
                if seen == tasks:
                    return Mark(lines, seen, offset), (number, end, line)
                seen += 1
            lines, offset = number, end
            if look(number, end):
                return Mark(lines, seen, offset), None
        raise InvalidTask("the file has fewer tasks than were counted")

    def _enqueue_part(
        self,
        batch: BatchRecord,
        total: int,
        rest: Iterator[PlacedLine],
        reader: LineReader,
        mark: Mark,
    ) -> tuple[BatchRecord | None, Mark]:
        """Keep and record the next part of the batch, and enqueue it. A part that an earlier
        version recorded and did not keep is read from the file again. Returns the
        batch with it and the place after it; None instead of the batch when the batch was cancelled
        or another run is ahead of this one."""
        spent_before = self._enqueuer.spent()
        first = batch.enqueued
        recorded = batch.total - first
        tasks, mark = self._read_part(rest, reader, mark, recorded)
        bundles = self._planner.cut(tasks, batch.plan)
        if not recorded:
            if batch.bundles + len(bundles) > self._max_bundles:
                raise InvalidTask(
                    f"the file makes more than {self._max_bundles} bundles, the most of one batch; "
                    f"its first {first} tasks were handed in; split the file"
                )
            self._parts.keep_next(batch, bundles)
            extended = self._monitor.add_part(
                batch.batch_id,
                first=first,
                tasks=len(tasks),
                bundles=len(bundles),
                closed=first + len(tasks) == total,
                kinds=kinds_of(tasks),
            )
            if extended is None:
                return None, mark
            batch = extended
        self._enqueuer.enqueue(batch, bundles, spent_before)
        return replace(batch, enqueued=batch.total), mark

    def _read_part(
        self, rest: Iterator[PlacedLine], reader: LineReader, mark: Mark, recorded: int
    ) -> tuple[list[Task], Mark]:
        """Returns the tasks of the part that begins at `mark`, with their indexes, and the place
        after it. `recorded` is the number of tasks that an earlier run recorded of this part; 0
        when none did."""
        tasks: list[Task] = []
        number, end = mark.lines, mark.offset
        for number, end, line in rest:
            task = reader.task_on(number, line)
            if task is not None:
                tasks.append(Task(mark.tasks + len(tasks), task.kind, task.params, task.options))
            full = end - mark.offset >= self._part_bytes or len(tasks) >= self._part_tasks
            if (len(tasks) >= recorded) if recorded else full:
                break
        return tasks, Mark(number, mark.tasks + len(tasks), end)


def _ended(batch: BatchRecord) -> bool:
    """Returns whether the batch gets no more tasks and all that it has are enqueued."""
    final = batch.closed or batch.cancelled_at is not None
    return final and batch.enqueued == batch.total
