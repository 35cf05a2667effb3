"""Batches that stay open while their client adds parts. Owns the order of a part's steps, what a
part that is sent again means, and when a batch that nobody closes is closed; not how parts are kept
(`taskfleet.scheduler.parts`) nor enqueued (`taskfleet.scheduler.enqueue`).

A part is recorded by one conditional write, together with its digest and the place where its
bundles are kept; then it is enqueued, and recorded as enqueued. The next part is recorded only
after that. So of each batch at most one part is recorded and not enqueued, and whoever meets such a
part enqueues it from what is kept: the same driver that sends it again, another one that adds or
opens or closes, or a reader.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from taskfleet.batch import (
    BATCH_MAX_BUNDLES,
    PARTS_REMEMBERED,
    BatchRecord,
    Part,
    keyed_batch_id,
    kinds_of,
    random_batch_id,
)
from taskfleet.errors import (
    Conflict,
    InvalidTask,
    NotFound,
    TaskfleetError,
    TooLarge,
    TransientError,
)
from taskfleet.log import bound, fields
from taskfleet.options import BatchOptions
from taskfleet.ports import Added, Clock, TaskMonitor
from taskfleet.registry import Registry
from taskfleet.scheduler.ended import UNHEARD, Ended
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.limit import NO_LIMIT, ClientLimit
from taskfleet.scheduler.parts import Parts
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.record import payload_hash, record_once
from taskfleet.scheduler.submit import SEND_MAX_BUNDLES, validate
from taskfleet.task import Task

_log = logging.getLogger(__name__)

IDLE_S = 86_400.0
"""Seconds after its last part when an open batch is closed by whoever reads it."""
LEFT_S = 60.0
"""Seconds after which a reader enqueues a part that is still not enqueued. A request that records a
part takes at most half of that."""
DIGEST_CHARS = 16
"""Hexadecimal digits of a part's digest. It tells a client's parts from each other."""
_TRIES = 5
"""Most tries to record a part. One fails when another driver's part is recorded just before."""


class OpenBatches:
    """Takes in open batches, their parts and their end.

    random_bytes: returns the given number of random bytes, such as `os.urandom`.
    limit: bounds the tasks of each client.
    ended: is told of a batch that ends by being closed.
    send_max_bundles: most bundles of one part.
    max_bundles: most bundles of one batch.
    idle_s: seconds without a part after which a batch is closed.
    """

    def __init__(
        self,
        registry: Registry,
        planner: Planner,
        enqueuer: Enqueuer,
        parts: Parts,
        monitor: TaskMonitor,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        *,
        limit: ClientLimit = NO_LIMIT,
        ended: Ended = UNHEARD,
        send_max_bundles: int = SEND_MAX_BUNDLES,
        max_bundles: int = BATCH_MAX_BUNDLES,
        idle_s: float = IDLE_S,
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._enqueuer = enqueuer
        self._parts = parts
        self._monitor = monitor
        self._clock = clock
        self._random_bytes = random_bytes
        self._limit = limit
        self._ended = ended
        self._send_max_bundles = send_max_bundles
        self._max_bundles = max_bundles
        self._idle_s = idle_s

    def open(
        self,
        raw_tasks: Sequence[Any] = (),
        *,
        client_id: str,
        name: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        options: BatchOptions | None = None,
    ) -> BatchRecord:
        """Record an open batch, whose first part are the given tasks, if any. Returns the batch as
        recorded, all of whose tasks are enqueued. The same key, name and options are the same
        batch, with all parts that it has by now.

        Raises InvalidTask, LimitReached and TooLarge, with nothing done; Conflict when the client
        used the key before for another name, options, first part or kind of batch; TransientError
        when the queue or the table is busy: the caller may send the same again.
        """
        if options is not None and (options.after or options.after_failures):
            raise InvalidTask(
                "after: an open batch cannot wait for others; submit its tasks at once"
            )
        spent_before = self._enqueuer.spent()
        if idempotency_key is None:
            batch_id = random_batch_id(self._random_bytes(32))
        else:
            batch_id = keyed_batch_id(client_id, idempotency_key)
        now = self._clock.now()
        wanted = BatchRecord(
            batch_id=batch_id,
            client_id=client_id,
            name=name,
            created_at=now,
            total=0,
            bundles=0,
            payload_hash=payload_hash(name, {"open": True}, options),
            closed=False,
            traceparent=traceparent,
            options=options,
        )
        bundles: list[list[Task]] = []
        if raw_tasks:
            tasks = validate(self._registry, raw_tasks)
            self._limit.check(self._monitor, client_id, batch_id, len(tasks))
            bundles = self._cut(tasks)
            wanted = replace(
                wanted,
                total=len(tasks),
                bundles=len(bundles),
                parts=(Part(0, _digest(raw_tasks)),),
                kept=self._parts.keep(batch_id, bundles),
                added_at=now,
                kinds=kinds_of(tasks),
            )
        try:
            batch = record_once(self._monitor, wanted)
            if batch is not wanted:
                return self._join(batch, raw_tasks)
            if bundles:
                self._enqueuer.enqueue(batch, bundles, spent_before)
        except TaskfleetError:
            if idempotency_key is None:
                # Nobody can send this batch again, as in `taskfleet.scheduler.submit`.
                self._monitor.cancel_batch(batch_id, self._clock.now())
            raise
        return batch

    def _join(self, batch: BatchRecord, raw_tasks: Sequence[Any]) -> BatchRecord:
        """Take in a request for an open batch that is recorded already."""
        if raw_tasks:
            return self.add(batch.batch_id, 0, raw_tasks, client_id=batch.client_id)
        return self._parts.enqueue_kept(batch)

    def add(
        self,
        batch_id: str,
        first: int,
        raw_tasks: Sequence[Any],
        *,
        client_id: str,
        close: bool = False,
    ) -> BatchRecord:
        """Add the part of these tasks to the client's open batch, and close it if `close`. Returns
        the batch as recorded. A part that is sent again changes nothing, and is enqueued if it was
        not; that is so for a batch that is closed by now, too.

        first: tasks of the batch before this part.

        Raises NotFound when the client has no such batch; Conflict when `first` is not the number
        of its tasks, unless this part was added there, or no part can join the batch; InvalidTask,
        LimitReached and TooLarge, with nothing done; TransientError when the queue or the table is
        busy: the caller may send the same again.
        """
        spent_before = self._enqueuer.spent()
        tasks = [
            Task(first + task.index, task.kind, task.params, task.options)
            for task in validate(self._registry, raw_tasks, what="part")
        ]
        self._limit.check(self._monitor, client_id, batch_id, len(tasks), first=first)
        part = Part(first, _digest(raw_tasks))
        bundles = self._cut(tasks)
        kept = self._parts.keep(batch_id, bundles)
        for _ in range(_TRIES):
            batch = self._monitor.add_part(
                batch_id,
                first=first,
                tasks=len(tasks),
                bundles=len(bundles),
                closed=close,
                added=Added(client_id, part, kept, self._clock.now(), self._max_bundles),
                kinds=kinds_of(tasks),
            )
            if batch is not None and batch.kept == kept:
                self._enqueuer.enqueue(batch, bundles, spent_before)
                return replace(batch, enqueued=batch.total, kept=None)
            batch = self._own(batch_id, client_id) if batch is None else batch
            with bound(batch.trace_id):
                batch = self._parts.enqueue_kept(batch)
            if _has(batch, part):
                return self._closed(batch, first + len(tasks)) if close else batch
            self._check_takes(batch, first, len(bundles))
        raise TransientError(f"other parts of batch {batch_id} are recorded at the same time")

    def close(self, batch_id: str, *, client_id: str) -> BatchRecord:
        """Close the client's batch, so that it ends when its tasks have. Returns the batch; one
        that is closed or cancelled stays as it is.

        Raises NotFound when the client has no such batch, Conflict when it is made of a file that
        is being read, TransientError when the queue or the table is busy.
        """
        batch = self._monitor.close_batch(batch_id, self._clock.now(), client_id=client_id)
        if batch is None or batch.client_id != client_id:
            raise NotFound(f"no batch {batch_id!r}")
        if batch.upload is not None and not batch.closed and batch.cancelled_at is None:
            raise Conflict(f"batch {batch_id} is made of a file, whose last task closes it")
        batch = self._parts.enqueue_kept(batch)
        self._ended.tell(batch)
        return batch

    def settle(self, batch: BatchRecord) -> BatchRecord:
        """Do for a batch that is read what nobody else may do any more: close one that is idle for
        too long, and enqueue a part that was left behind. Returns the batch as it is then."""
        if batch.upload is not None:
            return batch
        now = self._clock.now()
        idle_s = now - max(batch.created_at, batch.added_at or 0.0)
        try:
            if batch.is_open and idle_s > self._idle_s:
                _log.info("an idle batch is closed", extra=fields("open_idle", idle_s=idle_s))
                closed = self._monitor.close_batch(batch.batch_id, now, client_id=batch.client_id)
                batch = closed or batch
                self._ended.tell(batch)
            if batch.kept is not None and (not batch.is_open or idle_s > LEFT_S):
                batch = self._parts.enqueue_kept(batch)
        except TaskfleetError as error:  # the next reader tries again
            _log.warning(
                "an open batch could not be settled",
                extra=fields("open_unsettled", batch_id=batch.batch_id, reason=str(error)),
            )
        return batch

    def _cut(self, tasks: Sequence[Task]) -> list[list[Task]]:
        """Returns the bundles of a part. Each part is planned by itself, with what was learned by
        then. Raises TooLarge."""
        bundles = self._planner.cut(tasks, self._planner.plan(tasks))
        if len(bundles) > self._send_max_bundles:
            raise TooLarge(
                f"the {len(tasks)} tasks make {len(bundles)} bundles, over the cap of "
                f"{self._send_max_bundles} bundles of one part; send them in smaller parts"
            )
        return bundles

    def _closed(self, batch: BatchRecord, total: int) -> BatchRecord:
        """Close the batch if the last part that was sent is still its last one."""
        if batch.is_open and batch.total == total:
            return self.close(batch.batch_id, client_id=batch.client_id)
        self._ended.tell(batch)  # an earlier request may have died before it could
        return batch

    def _check_takes(self, batch: BatchRecord, first: int, bundles: int) -> None:
        """Raise Conflict if the batch can never take a new part at `first`."""
        name = f"batch {batch.batch_id}"
        if batch.upload is not None or (not batch.parts and batch.total):
            raise Conflict(f'{name} was not opened with "open": true, so no part can join it')
        if first < batch.total:
            raise Conflict(
                f"another part of {name} was added at first={first} or across it; its next part "
                f"begins at first={batch.total}"
            )
        if not batch.is_open:
            ended = "closed" if batch.cancelled_at is None else "cancelled"
            raise Conflict(f"{name} is {ended}, so no part can join it; open another one")
        if first > batch.total:
            raise Conflict(
                f"{name} has {batch.total} tasks, so first={first} leaves a gap; send the parts in "
                "order"
            )
        if batch.bundles + bundles > self._max_bundles:
            raise Conflict(
                f"{name} would have more than {self._max_bundles} bundles, the most of one batch; "
                "close it and open another one"
            )

    def _own(self, batch_id: str, client_id: str) -> BatchRecord:
        batch = self._monitor.batch(batch_id)
        if batch is None or batch.client_id != client_id:
            raise NotFound(f"no batch {batch_id!r}")
        return batch


def _digest(raw_tasks: Sequence[Any]) -> str:
    """Returns a hash of the tasks as they were sent. It does not depend on the order of keys."""
    data = msgspec.json.encode(raw_tasks, order="sorted")
    return hashlib.sha256(data).hexdigest()[:DIGEST_CHARS]


def _has(batch: BatchRecord, part: Part) -> bool:
    """Returns whether the part was added to the batch, as far as that is remembered: one between
    the first and the last parts is taken for one that is sent again."""
    if part in batch.parts:
        return True
    if len(batch.parts) < 2 or part.first in {each.first for each in batch.parts}:
        return False
    forgotten = batch.parts[0].first < part.first < batch.parts[1].first
    return forgotten and len(batch.parts) >= PARTS_REMEMBERED
