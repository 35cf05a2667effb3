"""Batch: tasks submitted together by one client, and what is recorded of it. Owns the batch's
identity and what its counts mean; not how they are kept (`taskfleet.ports.TaskMonitor`)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import Plan
from taskfleet.task import TaskResult, TaskStatus

_ID_LENGTH = 26
_ID_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: no I, L, O or U to misread."""
_ID = re.compile(rf"[{_ID_ALPHABET}]{{{_ID_LENGTH}}}")
_CURSOR_TIME = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?")
_CURSOR_ID = re.compile(r"[0-9A-Za-z_.-]{1,64}")


class Tally(msgspec.Struct, frozen=True):
    """How many tasks ended how."""

    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        return self.succeeded + self.failed + self.cancelled

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.succeeded + other.succeeded,
            self.failed + other.failed,
            self.cancelled + other.cancelled,
        )

    @staticmethod
    def of(results: Sequence[TaskResult]) -> Tally:
        statuses = [r.status for r in results]
        return Tally(
            statuses.count(TaskStatus.SUCCEEDED),
            statuses.count(TaskStatus.FAILED),
            statuses.count(TaskStatus.CANCELLED),
        )


class BatchStatus(StrEnum):
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"
    CANCELLED = "CANCELLED"


class Upload(msgspec.Struct, frozen=True):
    """The file that a batch comes from, and how far it was checked: so many of its lines, with so
    many tasks on them; `checked` once that is all of it."""

    key: str
    etag: str
    lines: int = 0
    tasks: int = 0
    checked: bool = False


class BatchRecord(msgspec.Struct, frozen=True):
    """What `Task_Monitor` holds of a batch.

    A batch is handed in whole, or, when it comes from an upload, in parts one after the other, of
    which the last closes it. A part is *recorded* (counted in `total` and `bundles`) before it is
    *enqueued* (its tasks counted in `enqueued`), so that what was cut short between the two can be
    done again. `payload_hash` tells one payload from another under the same key. `plan` is what
    the bundles were cut by, `spend` what was spent on the batch in AWS calls. `error` is why it
    was cancelled, when no client did. Times are epoch seconds, UTC.
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

    @property
    def expected_total(self) -> int:
        """How many tasks it will have: more than `total` while an upload is being handed in."""
        if self.upload is None or self.closed or self.cancelled_at is not None:
            return self.total
        return self.upload.tasks if self.upload.checked else self.total

    @property
    def finished(self) -> bool:
        """Whether every task of it has a result and none can join, as none can once it is
        cancelled."""
        final = self.closed or self.cancelled_at is not None
        return final and self.tally.total >= self.total

    @property
    def status(self) -> BatchStatus:
        if self.cancelled_at is not None:
            return BatchStatus.CANCELLED
        if self.finished:
            return BatchStatus.DONE
        if self.started_at is not None or self.tally.total:
            return BatchStatus.RUNNING
        return BatchStatus.QUEUED

    @property
    def finished_at(self) -> float | None:
        """When the last result was counted; when it was cancelled, if nothing was left by then."""
        if not self.finished:
            return None
        return max((at for at in (self.progressed_at, self.cancelled_at) if at), default=None)

    def eta_s(self, now: float) -> float | None:
        """Seconds until the end at the pace so far; None while there is no pace, 0 at the end."""
        if self.finished:
            return 0.0
        if self.started_at is None or not self.tally.total or self.cancelled_at is not None:
            return None
        elapsed = max(now - self.started_at, 0.0)
        return elapsed * (self.expected_total - self.tally.total) / self.tally.total


def keyed_batch_id(client_id: str, idempotency_key: str) -> str:
    """The id of the batch that this client submits under this key: a hash, so that sending again
    finds the same batch without an index."""
    digest = hashlib.sha256(f"{client_id}\n{idempotency_key}".encode()).digest()
    return _readable(digest)


def random_batch_id(random_bytes: bytes) -> str:
    """An id from at least 16 random bytes."""
    return _readable(hashlib.sha256(random_bytes).digest())


def _readable(digest: bytes) -> str:
    """The id's characters from 130 bits of the digest."""
    number = int.from_bytes(digest, "big")
    return "".join(_ID_ALPHABET[(number >> 5 * i) & 31] for i in range(_ID_LENGTH))


def is_id(text: str) -> bool:
    """Whether the text has the form of a batch's or an upload's id."""
    return _ID.fullmatch(text) is not None


def page_cursor(created_at: float, batch_id: str) -> str:
    """Where the page after this batch begins in its client's list: by `created_at`, then id,
    newest first."""
    return f"{created_at!r}_{batch_id}"


def read_page_cursor(cursor: str) -> tuple[float, str]:
    """`created_at` and id of the batch before the page; ValueError for any other text."""
    created_at, _, batch_id = cursor.partition("_")
    if not _CURSOR_TIME.fullmatch(created_at) or not _CURSOR_ID.fullmatch(batch_id):
        raise ValueError(f"cursor {cursor!r:.40} is not one that this API gave")
    return float(created_at), batch_id
