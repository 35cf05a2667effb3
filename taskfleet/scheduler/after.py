"""Batches that wait for others, their predecessors (the option `after`). Owns when such a batch
goes, when it is cancelled instead, and who asks for that; not how it goes, which is the way of
every batch made of a file (`taskfleet.scheduler.expand`).

A batch that waits is recorded first. Then it is noted in the record of each predecessor, by a write
that tells whether that one has ended. A predecessor that ends later has the note in its record, and
its end is told (`taskfleet.scheduler.ended`). Either way, a message on the queue of files asks for
the batch to be looked at. Whoever reads the message reads the predecessors and decides anew, so
every step can be repeated, and messages may come in any order and more often than once.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

import msgspec

from taskfleet.batch import BatchRecord, is_id
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.log import fields
from taskfleet.options import BatchOptions
from taskfleet.ports import Clock, OutgoingMessage, TaskMonitor, TaskQueue
from taskfleet.wire.queues import encode_upload

_log = logging.getLogger(__name__)

FOLLOWERS_MAX = 1_000
"""Most batches that may wait for one batch. Their ids, of 26 bytes each, stand in its item, and a
write to an item costs one unit for each KB."""
LEFT_S = 60.0
"""Seconds after the end of the last predecessor from which a reader asks for a batch to go that has
not gone."""


class Turn(msgspec.Struct, frozen=True):
    """The decision about a batch that waits: it goes if both fields are None.

    waits_for: a predecessor that has not ended.
    fault: why the batch is to be cancelled.
    ended_at: the latest end of a predecessor that was looked at, in epoch seconds; 0 for none.
    """

    waits_for: BatchRecord | None = None
    fault: str | None = None
    ended_at: float = 0.0


def decide(predecessors: Iterable[tuple[str, BatchRecord | None]], *, run_anyway: bool) -> Turn:
    """Returns what becomes of a batch with these predecessors, given by id; None for the record of
    one that has expired. Looks at no more of them than it must.

    run_anyway: whether the batch goes although tasks of a predecessor failed or were cancelled.
    """
    ended_at = 0.0
    for batch_id, record in predecessors:
        if record is not None and not record.finished:
            return Turn(waits_for=record, ended_at=ended_at)
        ended_at = max(ended_at, (record and record.finished_at) or 0.0)
        if not run_anyway and (fault := _fault(batch_id, record)):
            return Turn(fault=fault, ended_at=ended_at)
    return Turn(ended_at=ended_at)


def _fault(batch_id: str, record: BatchRecord | None) -> str | None:
    """Returns why a batch that follows this one, which has ended, is cancelled."""
    name = f"batch {batch_id}, for which this one waited,"
    if record is None:
        return f"{name} is not recorded any more"
    if record.cancelled_at is not None:
        return f"{name} was cancelled"
    counts = [("failed", record.tally.failed), ("were cancelled", record.tally.cancelled)]
    bad = " and ".join(f"{count} that {what}" for what, count in counts if count)
    return f"{name} ended with tasks that did not succeed: {bad}" if bad else None


class Precedence:
    """Lets batches wait for others.

    upload_queue: the queue of batches whose files are to be read.
    max_followers: as `FOLLOWERS_MAX`.
    """

    def __init__(
        self,
        monitor: TaskMonitor,
        upload_queue: TaskQueue,
        clock: Clock,
        *,
        max_followers: int = FOLLOWERS_MAX,
    ) -> None:
        self._monitor = monitor
        self._upload_queue = upload_queue
        self._clock = clock
        self._max_followers = max_followers

    def check(self, client_id: str, batch_id: str, options: BatchOptions | None) -> None:
        """Raises InvalidTask, which names the batch at fault, unless the client may submit a batch
        of this id with these options. What is recorded may always be sent again."""
        if options is None or (options.after is None and options.after_failures is None):
            return
        if options.after is None:
            raise InvalidTask("after_failures says what becomes of `after`, which is not given")
        try:
            for each in dict.fromkeys(options.after):
                self._check_one(client_id, each)
        except InvalidTask:
            if self._monitor.batch(batch_id) is None:
                raise

    def _check_one(self, client_id: str, predecessor: str) -> None:
        batch = self._monitor.batch(predecessor) if is_id(predecessor) else None
        if batch is None or batch.client_id != client_id:
            raise InvalidTask(f"after: no batch {predecessor!r:.60}")
        if len(batch.followers) >= self._max_followers:
            raise InvalidTask(
                f"after: {len(batch.followers)} batches wait for batch {predecessor} already, the "
                "most of one batch; let this one wait for one of them"
            )

    def note(self, batch: BatchRecord) -> None:
        """Note a batch that is recorded in its predecessors, and ask for it to be looked at if one
        of them has ended."""
        seen = [
            self._monitor.note_follower(each, batch.batch_id) for each in dict.fromkeys(batch.after)
        ]
        ended = [record for record in seen if record is None or record.finished]
        if ended:
            failed = (each for each in ended if each is not None and _fault(each.batch_id, each))
            first = next(failed, None)
            request_expansion(self._upload_queue, batch, None if first is None else first.batch_id)

    def hear(self, ended: BatchRecord) -> None:
        """Ask for the batches that wait for this one, which has ended, to be looked at."""
        if ended.followers:
            self._upload_queue.send(
                [
                    OutgoingMessage(encode_upload(each, ended.batch_id), group=ended.client_id)
                    for each in ended.followers
                ]
            )

    def turn(self, batch: BatchRecord, first: str | None = None) -> Turn:
        """Returns what becomes of a batch that waits, from what is recorded of its predecessors
        now. `first` is the one that is looked at first: of many, the one whose end is news."""
        ids = dict.fromkeys(batch.after)
        if first in ids:
            ids = {first: None} | ids
        run_anyway = batch.options is not None and batch.options.after_failures == "run"
        return decide(((each, self._monitor.batch(each)) for each in ids), run_anyway=run_anyway)

    def settle(self, batch: BatchRecord) -> BatchRecord:
        """Ask for a batch that is read to be looked at if its turn came some time ago: the process
        that ended its last predecessor may have died before it could. Returns the batch."""
        now = self._clock.now()
        if not batch.waiting or now - batch.created_at <= LEFT_S:
            return batch
        try:
            turn = self.turn(batch)
            if turn.waits_for is None and now - turn.ended_at > LEFT_S:
                _log.info("a batch was left behind", extra=fields("after_left", id=batch.batch_id))
                request_expansion(self._upload_queue, batch)
        except TaskfleetError as error:  # the next reader tries again
            _log.warning(
                "a batch that waits could not be settled",
                extra=fields("after_unsettled", batch_id=batch.batch_id, reason=str(error)),
            )
        return batch

    def why(self, batch: BatchRecord) -> str:
        """Returns what a batch waits for that waits for others, in words for its owner."""
        found = self.turn(batch)
        other = found.waits_for
        if other is not None:
            return (
                f"its batch waits for batch {other.batch_id}, which is {other.status}: "
                f"{other.tally.total} of {other.expected_total} tasks have ended"
            )
        if found.fault is not None:
            return f"its batch is about to be cancelled: {found.fault}"
        return "the batches for which its batch waited have ended; it is about to go on the queue"


def request_expansion(
    upload_queue: TaskQueue, batch: BatchRecord, ended: str | None = None
) -> None:
    """Puts the batch on the queue of batches whose files are to be read. `ended` is a batch for
    which it waited and that is to be looked at first; None for none."""
    body = encode_upload(batch.batch_id, ended)
    upload_queue.send([OutgoingMessage(body, group=batch.client_id)])
