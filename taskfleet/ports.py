"""The core's ports: `Clock`, `TaskQueue`, `TaskMonitor` and `ObjectStore`, as Protocols. Owns what
each method promises; the provisioner's ports stand in `taskfleet.provisioner.ports`.

`taskfleet.aws` and `taskfleet.memory` implement the ports. One suite of contract tests
(`tests/contract`) runs against both.

Every method may raise TransientError (a throttle, a time-out, an HTTP status 5xx) or PermanentError
(missing permissions, a missing queue or table), besides the errors named in its docstring. A
throttle or a time-out is always raised as TransientError, never reported as another outcome.

Times are in epoch seconds, UTC. Durations are in seconds; their names end in `_s`.

The module is longer than others because the promises are its only content: it has no code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from taskfleet.batch import BATCH_MAX_BUNDLES, BatchRecord, Kept, Mark, Part, Tally, Upload
from taskfleet.bill import NOTHING, Spend
from taskfleet.lease import BundleStatus, ClaimOutcome, Lease
from taskfleet.pace import Pace, Sample
from taskfleet.quote import Quote
from taskfleet.reuse import KeptResult
from taskfleet.task import Task, TaskResult


class Clock(Protocol):
    """A source of time, so that tests need not wait in real time."""

    def now(self) -> float:
        """Returns the current time in epoch seconds, UTC."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for `seconds`."""
        ...


# --- queue ----------------------------------------------------------------------------------


CALL_MAX_MESSAGES = 10
"""Most messages in one call to the queue ("Amazon SQS message quotas", Amazon SQS Developer
Guide)."""
MESSAGE_MAX_BYTES = 1_048_576
"""Most bytes of one message, encoded in UTF-8 (same source)."""


PRIORITY = "priority"
"""Name of the attribute of messages that workers take before others."""
HIGH = "high"
"""Its value."""


class OutgoingMessage(msgspec.Struct, frozen=True):
    """A message to be sent.

    body: text of the message.
    group: message group for fair delivery; messages of one group do not delay those of another.
    high: whether it has the attribute `PRIORITY`.
    """

    body: str
    group: str | None = None
    high: bool = False

    @property
    def attributes(self) -> dict[str, str]:
        """Its string attributes."""
        return {PRIORITY: HIGH} if self.high else {}


class Message(msgspec.Struct, frozen=True):
    """One delivery of a message.

    message_id: id of the message, the same in each delivery.
    receipt_handle: handle of this delivery only; it is never stored.
    body: text of the message.
    receive_count: deliveries of the message so far, including this one.
    attributes: string attributes of the message.
    sent_at: when the message was sent, in epoch seconds.
    """

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    attributes: Mapping[str, str] = {}
    sent_at: float = 0.0

    @property
    def high(self) -> bool:
        """Returns whether workers take it before others."""
        return self.attributes.get(PRIORITY) == HIGH


class QueueDepth(msgspec.Struct, frozen=True):
    """Numbers of messages on a queue. On AWS they are approximate and up to a minute old.

    backlog: messages that wait for delivery.
    in_flight: messages that were delivered and are invisible.
    """

    backlog: int
    in_flight: int

    def __add__(self, other: QueueDepth) -> QueueDepth:
        return QueueDepth(self.backlog + other.backlog, self.in_flight + other.in_flight)


class TaskQueue(Protocol):
    """A queue with at-least-once delivery, visibility time-outs and a dead-letter queue."""

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send all messages, in as few calls as the limits allow. After an error some messages may
        have been sent: the caller sends all of them again, and readers ignore duplicates. Raises
        TooLarge, with nothing sent, if a body is larger than `MESSAGE_MAX_BYTES`."""
        ...

    def receive(self, max_messages: int, *, wait_s: float, visibility_s: float) -> list[Message]:
        """Receive up to `max_messages` (1 to `CALL_MAX_MESSAGES`) messages, waiting up to `wait_s`
        (0 to 20) for the first one. Each message is invisible to other receivers for
        `visibility_s`."""
        ...

    def change_visibility(self, changes: Sequence[tuple[Message, float]]) -> list[Message]:
        """Make each message visible again after the given number of seconds from now (0 to
        43,200). Returns the messages whose receipt handle is no longer valid, for example because
        their visibility time-out has expired."""
        ...

    def delete(self, messages: Sequence[Message]) -> None:
        """Delete the messages. Those whose receipt handle is no longer valid are ignored."""
        ...

    def dead_letter(self, message: Message, reason: str) -> None:
        """Send the message's body to the dead-letter queue with the attribute `reason`, and
        `PRIORITY` if the message has it, then delete the message here. If this fails between the
        two steps, the message is on both queues; it is never lost."""
        ...

    def depth(self) -> QueueDepth:
        """Returns the numbers of messages on the queue."""
        ...

    def dead_letters(self) -> TaskQueue:
        """Returns the dead-letter queue. Raises PermanentError if the queue has none."""
        ...


# --- monitor --------------------------------------------------------------------------------


class BundleRecord(msgspec.Struct, frozen=True):
    """A bundle as recorded in the table `Task_Monitor`.

    lease: the current lease; None unless the status is RUNNING.
    tasks: the bundle's tasks; empty until the first renew, release or commit.
    results: what is known of the tasks. Rows may be unfinished: QUEUED with failed attempts, or
        RUNNING with progress.
    checksum: of the tasks and results as they are stored now, of 32 bits; 0 if there are none.
    sealed: the checksum that the commit stored beside them; None before the commit, and of a record
        of an earlier version.
    """

    job_id: str
    status: BundleStatus
    lease: Lease | None = None
    tasks: list[Task] = []
    results: list[TaskResult] = []
    checksum: int = 0
    sealed: int | None = None


class Claim(msgspec.Struct, frozen=True):
    """The answer to a claim.

    lease: the claimant's lease if ACQUIRED, the other worker's lease if HELD, None if DONE.
    results, checksum: what is known of the tasks, as in `BundleRecord`.
    """

    outcome: ClaimOutcome
    lease: Lease | None
    results: list[TaskResult]
    checksum: int = 0


class BatchPage(msgspec.Struct, frozen=True):
    """One page of a client's batches.

    items: the batches, newest first.
    cursor: cursor of the next page; None on the last page.
    """

    items: list[BatchRecord]
    cursor: str | None


class Added(msgspec.Struct, frozen=True):
    """What is recorded of a part that a client adds to its open batch, beside its numbers.

    client_id: the client, which must own the batch.
    part: the part's place and digest.
    kept: where its bundles are kept.
    at: time in epoch seconds.
    max_bundles: most bundles that the batch may have with it.
    """

    client_id: str
    part: Part
    kept: Kept
    at: float
    max_bundles: int = BATCH_MAX_BUNDLES


class Counted(msgspec.Struct, frozen=True):
    """A batch with the numbers of those of its bundles whose results are counted, as far as they
    were asked for. `done` has the records of bundles that are DONE, by number; their results may
    not be counted yet."""

    batch: BatchRecord
    bundles: frozenset[int]
    done: Mapping[int, BundleRecord] = {}


class TaskMonitor(Protocol):
    """The table `Task_Monitor`: bundles, batches and paces. Each method is atomic; those that take
    several ids or bundle numbers may be atomic for groups of them only."""

    def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
        """Claim the bundle by the rule of `taskfleet.lease`, for a lease of `lease_s` seconds.
        `owner` is a new nonce. If the bundle is ACQUIRED, its attempt count rises by one, from 0
        for a bundle that was never claimed. `release` and `unclaim` let it fall by one, so it
        counts the claims that were lost, and this one."""
        ...

    def renew(
        self,
        job_id: str,
        lease: Lease,
        *,
        lease_s: float,
        tasks: Sequence[Task],
        results: Sequence[TaskResult],
    ) -> Lease:
        """Extend the lease to `lease_s` seconds from now and record the results so far. Returns the
        new lease. Raises LeaseLost if the recorded owner, attempt or status differs from
        `lease`."""
        ...

    def commit(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> int:
        """Record the final results and set the status to DONE. Repeating the call with the same
        lease changes nothing: it is a retry after a lost reply. Returns the checksum of what
        is stored, and stores it too, as `sealed` in the record. Raises LeaseLost as `renew`
        does."""
        ...

    def release(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> None:
        """Record the results so far and set the status to QUEUED. The bundle's attempt count falls
        by one, since this claim was not lost. Repeating the call with the same lease changes
        nothing. Raises LeaseLost as `renew` does."""
        ...

    def unclaim(self, job_id: str, *, owner: str) -> None:
        """Take back the claim that was made under the nonce `owner`, as if it had never been made:
        the status becomes QUEUED, and the attempt count falls by one. Does nothing if that claim
        does not hold the bundle, so it may follow a claim whose outcome is unknown."""
        ...

    def bundles(self, job_ids: Sequence[str]) -> list[BundleRecord]:
        """Returns the records of the given bundles, in the given order, without those that were
        never claimed."""
        ...

    def create_batch(self, batch: BatchRecord) -> BatchRecord | None:
        """Record a new batch. If the id is taken, change nothing and return the recorded batch;
        otherwise return None."""
        ...

    def batch(self, batch_id: str) -> BatchRecord | None:
        """Returns the batch, or None if there is none. Its counts of results never fall, and are
        exact once it is finished. While a batch of more than 5,000 bundles runs, results may be
        missing."""
        ...

    def batches(self, client_id: str, *, limit: int, cursor: str | None) -> BatchPage:
        """Returns up to `limit` batches of the client, newest first, with the counts that `batch`
        gives. A batch that was made within about the last second may be missing. `cursor` is that
        of the page before, None for the first page. Raises ValueError for any other text."""
        ...

    def add_part(
        self,
        batch_id: str,
        *,
        first: int,
        tasks: int,
        bundles: int,
        closed: bool,
        added: Added | None = None,
        kinds: Collection[str] = (),
    ) -> BatchRecord | None:
        """Record the next part of an open batch: its numbers of tasks and bundles, and whether it
        closes the batch. `added` has more of a part that the batch's client added; None for a part
        of an upload. `kinds` are the names of its tasks' kinds. Returns the new record, in which
        results may be missing.

        `first` is the number of tasks of the parts before, all of which must be enqueued. Returns
        None, with nothing changed, if that is not so or the batch is closed or cancelled; and, of a
        part that a client adds, if the batch is of another client or of an upload, or would have
        more than `added.max_bundles` bundles.
        Repeating the call before the part is enqueued changes nothing and returns the record: it
        is a retry after a lost reply. The record says where the bundles are kept that count, which
        are those of the first call."""
        ...

    def close_batch(self, batch_id: str, at: float, *, client_id: str) -> BatchRecord | None:
        """Close the client's open batch at `at`, so that no part can join it. Changes nothing if it
        is closed or cancelled, comes from an upload or belongs to another client. Returns the
        batch, or None if there is none."""
        ...

    def record_enqueued(
        self,
        batch_id: str,
        tasks: int,
        spend: Spend = NOTHING,
        *,
        forget: bool = False,
        quote: Quote | None = None,
    ) -> None:
        """Record that the bundles of the batch's first `tasks` tasks are on the queue, and add what
        was spent on sending them. Keeps the quote, unless it is None. Forgets where the last part
        is kept, and, with `forget`, the second of the recorded `parts`. Does nothing if at least as
        many are recorded."""
        ...

    def record_upload(self, batch_id: str, upload: Upload) -> None:
        """Record the progress of checking the batch's file. Does nothing if the recorded progress
        is further."""
        ...

    def record_handed(self, batch_id: str, mark: Mark) -> None:
        """Record the place in the batch's file from which handing in goes on. Does nothing if the
        recorded place is further or the batch has no file."""
        ...

    def start_batch(self, batch_id: str, at: float, *, seen: bool = False) -> BatchRecord | None:
        """Record `at` as the first start of a task, unless a start is recorded. Returns the batch,
        in which results may be missing, or None if there is none. Takes one call.

        seen: whether the caller has asked before. A read then comes first, which costs less than a
            write that changes nothing.
        """
        ...

    def cancel_batch(
        self, batch_id: str, at: float, error: str | None = None
    ) -> BatchRecord | None:
        """Mark the batch as cancelled at `at`, unless it is finished or cancelled. `error` says why
        the system cancels it; None means that a client does. Returns the batch, or None if there
        is none."""
        ...

    def record_progress(
        self,
        batch_id: str,
        tallies: Mapping[int, Tally],
        at: float,
        spend: Spend = NOTHING,
        *,
        last_index: int = 0,
        checksums: Mapping[int, int] = {},
        busy_ms: Mapping[int, int] = {},
    ) -> BatchRecord | None:
        """Add the tallies of finished bundles, by bundle number, to the batch, and their checksums
        and the milliseconds of their tasks, 0 if missing. Each bundle is counted once, however
        often and in whatever order its tally comes. `spend` is added if any of the bundles was not
        counted before. `last_index` is the highest index of their tasks.
        Returns the batch as it is then, in which results may be missing unless it is finished; it
        is finished if this call or an earlier one counted the last result. Returns None, with
        nothing counted, if there is no such batch or it has no task of that index. Returns None,
        with the others counted, if it lacks one of these bundles."""
        ...

    def note_follower(self, batch_id: str, follower: str) -> BatchRecord | None:
        """Note in the record of the batch that the batch `follower` waits for its end. Returns the
        batch as it is then, in which results may be missing unless it is finished, or None if there
        is none. If it is not finished then, the note is in the record that each of `cancel_batch`,
        `close_batch` and `record_progress` returns when it is."""
        ...

    def counted(
        self, batch_id: str, pages: Sequence[int], look_at: Sequence[int] = ()
    ) -> Counted | None:
        """Returns the batch with the bundles that are counted on these pages of
        `taskfleet.batch.PAGE_BUNDLES` bundles; results on other pages may be missing in it. Those
        of the bundles `look_at`, by number, that are DONE come with their records. None if there is
        no such batch. One call reads a hundred pages and bundles."""
        ...

    def is_counted(self, batch_id: str, bundle: int) -> bool:
        """Returns whether the results of the bundle of this number are in the batch's counts."""
        ...

    def paces(self, kinds: Sequence[str]) -> dict[str, Pace]:
        """Returns the learned durations by kind, without kinds that never ran."""
        ...

    def learn(self, samples: Mapping[str, Sample]) -> None:
        """Update the paces of kinds with measured durations. Best effort: a sample may count twice,
        or be lost to a concurrent update."""
        ...

    def kept_results(self, keys: Sequence[str]) -> dict[str, KeptResult]:
        """Returns the results that are kept under these keys (`taskfleet.reuse.key`)."""
        ...

    def keep_result(self, key: str, result: KeptResult) -> None:
        """Keep a result for later tasks. The first one under a key stays."""
        ...


# --- objects --------------------------------------------------------------------------------


LINE_MAX_BYTES = 1_048_576
"""Most bytes of one line that `ObjectStore.lines` reads, not counting its end."""


class ObjectStore(Protocol):
    """A private bucket. Keys are paths separated by slashes."""

    def put(self, key: str, data: bytes, *, content_type: str) -> None:
        """Store `data` under `key`, replacing any object there."""
        ...

    def put_file(self, key: str, path: str | int, *, content_type: str) -> None:
        """Store the content of the file at `path` under `key`, replacing any object there. `path`
        may be the descriptor of an open file, which is then closed."""
        ...

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """Returns the object's content. Raises NotFound if there is no such object, and TooLarge,
        with nothing read, if it has more than `max_bytes` bytes."""
        ...

    def get_file(self, key: str, path: str | int, *, max_bytes: int) -> int:
        """Write the object's content to the file at `path`, in constant memory, and return its
        size in bytes. `path` may be the descriptor of an open file, which is then closed. Raises
        NotFound if there is no such object; TooLarge, with nothing read, if it has more than
        `max_bytes` bytes; OSError if the file cannot be written. After an error the file may have
        a part of the content."""
        ...

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        """Returns `length` bytes (at least 1) of the object's content from the byte `offset` on,
        fewer if it ends before. Raises NotFound if there is no such object or it ends at or before
        `offset`."""
        ...

    def lines(self, key: str, *, etag: str | None = None, offset: int = 0) -> Iterator[bytes]:
        """Yields the object's lines with their line ends (`\\n` or `\\r\\n`), so that their lengths
        add up to offsets, in constant memory. Reads from the byte `offset` on, which is the sum of
        the lengths of some first lines. Raises NotFound if there is no such object or its etag is
        not `etag`, and TooLarge at a line longer than `LINE_MAX_BYTES`, not counting its end."""
        ...

    def etag(self, key: str) -> str | None:
        """Returns an identifier of the object's content, or None if there is no such object. Equal
        contents that were uploaded through `upload_form` have equal etags."""
        ...

    def url(self, key: str, *, expires_s: int) -> str:
        """Returns a URL from which anyone may GET the object for `expires_s` seconds."""
        ...

    def upload_form(
        self, key: str, *, max_bytes: int, expires_s: int
    ) -> tuple[str, dict[str, str]]:
        """Returns the URL and the form fields of a presigned POST, valid for `expires_s` seconds,
        that stores one file of at most `max_bytes` bytes under `key`."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object. A missing object is ignored."""
        ...


class StoredObject(msgspec.Struct, frozen=True):
    """An object's size in bytes, and when it was stored, in epoch seconds."""

    size: int
    at: float


class UploadStore(ObjectStore, Protocol):
    """The bucket, with what the API needs to take in uploads."""

    def stored(self, key: str) -> StoredObject | None:
        """Returns what is known of the object, or None if there is none."""
        ...

    def content_form(
        self, key: str, *, sha256: str, size: int, expires_s: int
    ) -> tuple[str, dict[str, str]]:
        """Returns a form as `upload_form` does, for a file of exactly `size` bytes with this
        SHA-256, in hexadecimal digits. S3 refuses any other; an emulator may check the size
        only."""
        ...
