"""Batches: tasks that one client submits together. Owns a batch's record, its id, and the meaning
of its counts; not its storage (`taskfleet.ports.TaskMonitor`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from enum import StrEnum

import msgspec

from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import Plan
from taskfleet.options import BatchOptions
from taskfleet.quote import Quote
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.trace import Traceparent, trace_id

_ID_LENGTH = 26
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""The alphabet of D. Crockford, "Base 32", in lower case: without i, l, o and u, which are easy to
misread."""
_CLIENT_ID = re.compile(r"[!-~]{1,128}")
_ID = re.compile(rf"[{_ID_ALPHABET}]{{{_ID_LENGTH}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_CURSOR_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_CURSOR_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")


PAGE_BUNDLES = 250
"""Bundles whose results are counted together, on one page. In the table a full page has under 1 KB,
so a count costs one write unit."""
BATCH_MAX_BUNDLES = 20_000_000
"""Most bundles of one batch. The table notes in the batch's item which pages of 250 bundles are
added up. In the worst order these are 80,000 numbers of at most 4 bytes, which fit the 400 KB of an
item ("DynamoDB item sizes and formats" and "Quotas in Amazon DynamoDB", Amazon DynamoDB Developer
Guide)."""


class Tally(msgspec.Struct, frozen=True):
    """Numbers of tasks by final status."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All tasks that have ended."""
        return self.succeeded + self.failed + self.cancelled

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
        )

    @staticmethod
    def of(results: Sequence[TaskResult]) -> Tally:
        """Count the results with a final status; others are ignored."""
        statuses = [result.status for result in results]
        return Tally(
            statuses.count(TaskStatus.SUCCEEDED),
            statuses.count(TaskStatus.FAILED),
            statuses.count(TaskStatus.CANCELLED),
        )


class BatchStatus(StrEnum):
    """State of a batch. A cancelled batch may still have running tasks
    (`BatchRecord.finished`)."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


class Mark(msgspec.Struct, frozen=True):
    """A place between two lines of a file: the lines, tasks and bytes before it. It is a fact about
    the file, so it stays true whatever becomes of the batch."""

    lines: int = 0
    tasks: int = 0
    offset: int = 0


class Upload(msgspec.Struct, frozen=True):
    """The uploaded file that holds the tasks of a batch, and the progress of reading it.

    key: the file's key in the object store.
    etag: the etag of the content that is read; a file replaced later is refused.
    lines: lines checked so far.
    tasks: tasks on those lines.
    checked: whether these are all lines of the file.
    offset: bytes of those lines; 0 in a record of an earlier version, which did not have it.
    handed: a place before which all tasks are enqueued, from which handing in goes on.
    """

    key: str
    etag: str
    lines: int = 0
    tasks: int = 0
    checked: bool = False
    offset: int = 0
    handed: Mark = Mark()


class Part(msgspec.Struct, frozen=True):
    """A part that a client added to its open batch.

    first: tasks of the batch before it.
    digest: hash of its tasks, by which the same part is told from another one.
    """

    first: int
    digest: str


PARTS_REMEMBERED = 16
"""Parts of an open batch whose digests are kept: the first, and the last ones. Each takes about 30
bytes of the batch's item, and an item over 1 KB costs another write unit at each write."""


class Kept(msgspec.Struct, frozen=True):
    """Where the bundles of a recorded part are kept until they are enqueued: in the record itself
    if they are small, else in the object store.

    content: the encoded bundles; None if they are in the object store.
    key: key of the object; None if they are in the record.
    """

    content: bytes | None = None
    key: str | None = None


class BatchRecord(msgspec.Struct, frozen=True):
    """A batch as recorded in the table `Task_Monitor`.

    A batch joins the queue in one part, or, if it comes from an upload or is open to its client, in
    several parts; the last part of an upload closes it, and the client closes an open batch. Each
    part is first recorded (in `total` and `bundles`) and then enqueued (counted in `enqueued`), so
    that a run that stops between the two steps can be repeated.

    created_at, started_at, progressed_at, cancelled_at: times of the submission, of the first start
        of a task, of the last counted result, and of the cancellation, in epoch seconds, UTC.
    total: tasks of all recorded parts.
    bundles: bundles of all recorded parts.
    payload_hash: hash of the payload; detects another payload under the same idempotency key.
    closed: whether all parts are recorded.
    enqueued: tasks, from the first, whose bundles are on the queue.
    upload: the file that holds the tasks, if the batch comes from an upload.
    plan: the inputs by which the batch is cut into bundles.
    tally: results counted so far.
    spend: AWS calls made for the batch.
    error: why the system cancelled the batch; None if a client did.
    traceparent: the trace context of the submission; None in a record of an earlier version.
    options: its own options, and those of all tasks that do not have their own; None if there are
        none.
    parts: the first part that the client added and the last ones, in order; empty unless the batch
        is, or was, open to its client.
    kept: where the bundles of the last part are kept; None once they are enqueued.
    added_at, closed_at: times of the last part and of the closing of such a batch.
    ended_before: its tasks that had ended when the last part came, without those that were counted
        on an incomplete page after the first (`PAGE_BUNDLES`).
    checksum: sum of the checksums with which the counted bundles were recorded
        (`taskfleet.ports.TaskMonitor.commit`).
    retry_of: the batch whose tasks it runs again; None if there is none.
    kinds: the names of its tasks' kinds, in order, as far as its parts are recorded; empty in a
        record of an earlier version.
    followers: ids of the batches that wait for the end of this one, or waited, in order.
    quote: what was expected of it when it was submitted; None if it was not quoted.
    busy_ms: milliseconds that the last executions of its tasks took, as far as they are counted.
    borders: where it is cut (`taskfleet.bundle.borders`), if a submission that is repeated must cut
        it again; 0 for a batch whose parts are kept, and in a record of an earlier version.
    """

    batch_id: str
    client_id: str
    name: str | None
    created_at: float
    total: int
    bundles: int
    payload_hash: str
    closed: bool
    enqueued: int = 0
    upload: Upload | None = None
    plan: Plan = Plan()
    tally: Tally = Tally()
    spend: Spend = NOTHING
    started_at: float | None = None
    progressed_at: float | None = None
    cancelled_at: float | None = None
    error: str | None = None
    traceparent: Traceparent | None = None
    options: BatchOptions | None = None
    parts: tuple[Part, ...] = ()
    kept: Kept | None = None
    added_at: float | None = None
    closed_at: float | None = None
    ended_before: int = 0
    checksum: int = 0
    retry_of: str | None = None
    kinds: tuple[str, ...] = ()
    followers: tuple[str, ...] = ()
    quote: Quote | None = None
    busy_ms: int = 0
    borders: int = 0

    @property
    def after(self) -> tuple[str, ...]:
        """The batches that must have ended before this one goes."""
        return (self.options and self.options.after) or ()

    @property
    def waiting(self) -> bool:
        """Returns whether none of its tasks is handed in yet, since it waits, or waited, for
        others."""
        pending = self.upload is not None and not self.total and not self.closed
        return bool(self.after) and pending and self.cancelled_at is None

    @property
    def is_open(self) -> bool:
        """Returns whether its client may add tasks to the batch."""
        return self.upload is None and not self.closed and self.cancelled_at is None

    @property
    def trace_id(self) -> str | None:
        """The id of the trace; None without one."""
        return trace_id(self.traceparent)

    @property
    def expected_total(self) -> int:
        """The number of tasks that the batch will have, as far as it is known. More than `total`
        while parts of an upload are still missing."""
        if self.upload is None or self.closed or self.cancelled_at is not None:
            return self.total
        return self.upload.tasks if self.upload.checked else self.total

    def has(self, bundle: int, index: int) -> bool:
        """Returns whether the batch has a bundle of this number and a task of this index."""
        return bundle < self.bundles and index < self.total

    @property
    def finished(self) -> bool:
        """Returns whether every task has a final result and no task can join the batch. None can
        join once it is closed or cancelled."""
        final = self.closed or self.cancelled_at is not None
        return final and self.tally.total >= self.total

    @property
    def status(self) -> BatchStatus:
        """The state of the batch, derived from the record."""
        if self.cancelled_at is not None:
            return BatchStatus.CANCELLED
        if self.finished:
            return BatchStatus.DONE
        if self.started_at is not None or self.tally.total:
            return BatchStatus.RUNNING
        if self.waiting:
            return BatchStatus.WAITING
        return BatchStatus.QUEUED

    @property
    def finished_at(self) -> float | None:
        """The end of a finished batch: the last counted result, the closing or the cancellation,
        whichever is latest. None if it is not finished."""
        if not self.finished:
            return None
        times = (self.progressed_at, self.closed_at, self.cancelled_at)
        return max((at for at in times if at), default=None)

    def eta_s(self, now: float) -> float | None:
        """Returns the expected seconds until the batch ends, at its average speed since the last
        part came: before that, a batch that is open to its client may have had other tasks, or
        nothing to do. Returns 0 once it is finished; None for a cancelled batch, and while no
        result is counted since then."""
        if self.finished:
            return 0.0
        before = self.ended_before
        if self.bundles > PAGE_BUNDLES and self.parts and self.parts[-1].first <= self.tally.total:
            before = max(before, self.parts[-1].first)  # what had ended on an open page is missing
        ended = self.tally.total - before
        if self.started_at is None or ended <= 0 or self.cancelled_at is not None:
            return None
        last_at = self.added_at if before else None
        since = max(self.started_at, last_at or 0.0)
        return max(now - since, 0.0) * (self.expected_total - self.tally.total) / ended


def kinds_of(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Returns the names of the tasks' kinds, in order."""
    return tuple(sorted({task.kind for task in tasks}))


def keyed_batch_id(client_id: str, idempotency_key: str) -> str:
    """Returns the id of the batch that a client submits under an idempotency key. The id is a hash
    of both, so a repeated submission finds the batch without an index."""
    digest = hashlib.sha256(f"{client_id}\n{idempotency_key}".encode()).digest()
    return _base32_id(digest)


def random_batch_id(random_bytes: bytes) -> str:
    """Returns an id made from at least 16 random bytes."""
    return _base32_id(hashlib.sha256(random_bytes).digest())


def _base32_id(digest: bytes) -> str:
    """Returns the lowest 130 bits of the digest as 26 characters in base 32."""
    number = int.from_bytes(digest, "big")
    return "".join(_ID_ALPHABET[(number >> 5 * i) & 31] for i in range(_ID_LENGTH))


def is_client_id(text: str) -> bool:
    """Returns whether the text can be the id of a client: 1 to 128 printable ASCII characters
    without blanks. Ids of clients become parts of keys, so no other character may occur."""
    return _CLIENT_ID.fullmatch(text) is not None


def is_id(text: str) -> bool:
    """Returns whether the text has the form of the id of a batch or an upload."""
    return _ID.fullmatch(text) is not None


def is_upload_id(text: str) -> bool:
    """Returns whether the text has the form of the id of an upload: a random one, or the SHA-256 of
    its content."""
    return is_id(text) or _SHA256.fullmatch(text) is not None


def upload_key(client_id: str, upload_id: str) -> str:
    """Returns the file's key in the object store. It contains the client's id, so that no client
    can name another's file."""
    return f"uploads/{client_id}/{upload_id}"


def page_cursor(created_at: float, batch_id: str) -> str:
    """Returns the cursor of the page that follows this batch in its client's list. The list is
    sorted by `created_at`, then by id, newest first."""
    return f"{created_at!r}_{batch_id}"


def read_page_cursor(cursor: str) -> tuple[float, str]:
    """Read a cursor made by `page_cursor`. Returns `created_at` and the id of the batch before the
    page. Raises ValueError for any other text."""
    created_at, _, batch_id = cursor.partition("_")
    if not _CURSOR_TIME.fullmatch(created_at) or not _CURSOR_ID.fullmatch(batch_id):
        raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
    return float(created_at), batch_id
