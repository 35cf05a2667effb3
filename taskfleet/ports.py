"""What Taskfleet needs of the world, as Protocols: `TaskQueue`, `TaskMonitor`, `ObjectStore`,
`Clock`. Owns the promises (those of the provisioner stand in `taskfleet.provisioner.ports`);
`taskfleet.aws` and `taskfleet.memory` keep them, and one contract suite (`tests/contract`) holds
both to it.

Every method may raise `TransientError` (a throttle, a time-out, a 5xx) or `PermanentError`
(no permission, no such queue); those named in a docstring come on top. A throttle or a time-out
is never reported as any other outcome. Times are epoch seconds, UTC; durations end in `_s`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from taskfleet.batch import (
    BatchRecord,
    Tally,
    Upload,
)
from taskfleet.bill import NOTHING, Spend
from taskfleet.lease import BundleStatus, ClaimOutcome, Lease
from taskfleet.pace import Pace, Sample
from taskfleet.task import Task, TaskResult


class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> float:
        """Epoch seconds, UTC."""
        ...

    def sleep(self, seconds: float) -> None: ...


# --- queue ----------------------------------------------------------------------------------


CALL_MAX_MESSAGES = 10
"""Most messages in one call to the queue: the limit of SQS."""
MESSAGE_MAX_BYTES = 1_048_576
"""Of a body in UTF-8: what SQS takes."""


class OutgoingMessage(msgspec.Struct, frozen=True):
    """`group` is the fair-queue group: messages of one group cannot starve those of another."""

    body: str
    group: str | None = None


class Message(msgspec.Struct, frozen=True):
    """One delivery. `receipt_handle` stands for this delivery only and is never persisted."""

    message_id: str
    receipt_handle: str
    body: str
    receive_count: int
    attributes: Mapping[str, str] = {}


class QueueDepth(msgspec.Struct, frozen=True):
    """Approximate on AWS: up to a minute old."""

    backlog: int
    in_flight: int


class TaskQueue(Protocol):
    """An at-least-once queue with visibility time-outs and a dead-letter queue."""

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        """Send all, in as few calls as the limits allow. On an error some may have been sent:
        the caller sends all again, and readers dedupe. TooLarge, with nothing sent, when a body
        is over `MESSAGE_MAX_BYTES`."""
        ...

    def receive(self, max_messages: int, *, wait_s: float, visibility_s: float) -> list[Message]:
        """Up to `max_messages` (1 to `CALL_MAX_MESSAGES`), each invisible to others for
        `visibility_s`; waits up to `wait_s` (0 to 20) for the first one."""
        ...

    def change_visibility(self, changes: Sequence[tuple[Message, float]]) -> list[Message]:
        """Make each message visible again in so many seconds from now (0 to 43,200). Returns
        those whose receipt no longer counts, as after an expired visibility."""
        ...

    def delete(self, messages: Sequence[Message]) -> None:
        """Deleting a message whose receipt no longer counts does nothing."""
        ...

    def dead_letter(self, message: Message, reason: str) -> None:
        """Put the message's body on the dead-letter queue with the attribute `reason`, then
        delete it here. Cut short between the two, it is on both: never on neither."""
        ...

    def depth(self) -> QueueDepth: ...

    def dead_letters(self) -> TaskQueue:
        """The dead-letter queue itself; PermanentError when there is none."""
        ...


# --- monitor --------------------------------------------------------------------------------


class BundleRecord(msgspec.Struct, frozen=True):
    """What `Task_Monitor` holds of a bundle. `results` may hold rows of unfinished tasks too
    (QUEUED with attempts spent, RUNNING with progress); `tasks` is empty until the first renew,
    release or commit."""

    job_id: str
    status: BundleStatus
    lease: Lease | None = None
    tasks: list[Task] = []
    results: list[TaskResult] = []


class Claim(msgspec.Struct, frozen=True):
    """`lease` is mine when ACQUIRED, the other worker's when HELD, None when DONE. `results` is
    what is known of the tasks, as in `BundleRecord`."""

    outcome: ClaimOutcome
    lease: Lease | None
    results: list[TaskResult]


class Page(msgspec.Struct, frozen=True):
    items: list[Any]
    cursor: str | None


class TaskMonitor(Protocol):
    """The table `Task_Monitor`. Each method is one atomic step (or one a chunk, for the methods
    that take many ids)."""

    def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
        """Acquire the bundle for `owner`, a fresh nonce, by the rule of `taskfleet.lease`.
        On ACQUIRED the attempt is one more than recorded (0 when never seen or released)."""
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
        """Extend the lease and record what is known so far. LeaseLost when the owner, the attempt
        or the status is no longer as in `lease`."""
        ...

    def commit(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> None:
        """Record the final results and become DONE. LeaseLost as in `renew`; committing twice
        with one lease is one commit (a retried write whose first reply was lost)."""
        ...

    def release(
        self, job_id: str, lease: Lease, *, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> None:
        """Give the bundle back, QUEUED, with its progress; its attempt count starts anew, since
        `results` carries what each task spent. LeaseLost as in `renew`; releasing twice with one
        lease is one release."""
        ...

    def bundles(self, job_ids: Sequence[str]) -> list[BundleRecord]:
        """Those that were ever claimed, in the order asked for."""
        ...

    def create_batch(self, batch: BatchRecord) -> BatchRecord | None:
        """Record a batch; when its id is taken, change nothing and return what stands there."""
        ...

    def batch(self, batch_id: str) -> BatchRecord | None: ...

    def batches(self, client_id: str, *, limit: int, cursor: str | None) -> Page:
        """The client's `BatchRecord`s, newest first. `cursor` is a page's; any other text raises
        `ValueError`."""
        ...

    def add_part(
        self, batch_id: str, *, first: int, tasks: int, bundles: int, closed: bool
    ) -> BatchRecord | None:
        """Record a part of an open batch, which has `first` tasks so far, all enqueued; None, with
        nothing changed, when that is not so or the batch was cancelled. Recording the same part
        again before it is enqueued changes nothing (a retried write whose first reply was lost)."""
        ...

    def record_enqueued(self, batch_id: str, tasks: int, spend: Spend = NOTHING) -> None:
        """Record that the bundles of the batch's first `tasks` tasks are all on the queue, and what
        that cost; doing so again, or with fewer, changes nothing."""
        ...

    def record_upload(self, batch_id: str, upload: Upload) -> None:
        """Record how far the batch's file was checked; nothing when it is known to be further."""
        ...

    def start_batch(self, batch_id: str, at: float) -> BatchRecord | None:
        """Record the first start of a task; later calls only read. None when there is no such
        batch."""
        ...

    def cancel_batch(
        self, batch_id: str, at: float, error: str | None = None
    ) -> BatchRecord | None:
        """Mark the batch cancelled, for `error` when that is why, unless it is finished or marked
        already, and return it."""
        ...

    def record_progress(
        self, batch_id: str, tallies: Mapping[int, Tally], at: float, spend: Spend = NOTHING
    ) -> bool:
        """Add the tallies of finished bundles, by bundle number, each at most once ever, whatever
        comes twice or out of order; and what was spent on them, if any of them counts. False, with
        nothing changed, when there is no such batch."""
        ...

    def paces(self, kinds: Sequence[str]) -> dict[str, Pace]:
        """What was learned of how long tasks take, for those of the kinds that ever ran."""
        ...

    def learn(self, samples: Mapping[str, Sample]) -> None:
        """Let the paces of kinds learn. At-least-once and best effort: a sample may count twice,
        or be lost when others teach at the same moment."""
        ...


# --- objects --------------------------------------------------------------------------------


LINE_MAX_BYTES = 1_048_576


class ObjectStore(Protocol):
    """A private bucket. Keys are slash-separated paths."""

    def put(self, key: str, data: bytes, *, content_type: str) -> None: ...

    def put_file(self, key: str, path: str, *, content_type: str) -> None: ...

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        """NotFound when there is no such object; TooLarge, with nothing read, when it has more
        than `max_bytes`."""
        ...

    def lines(self, key: str, *, etag: str | None = None) -> Iterator[bytes]:
        """The object's lines without their ends, streamed in constant memory. NotFound when there
        is no such object, or none with that etag any more; TooLarge at a line of over
        `LINE_MAX_BYTES`."""
        ...

    def etag(self, key: str) -> str | None:
        """Stands for the object's content: the same for the same content when uploaded by a form.
        None when there is no such object."""
        ...

    def url(self, key: str, *, expires_s: int) -> str:
        """A URL that anyone may GET until it expires."""
        ...

    def upload_form(
        self, key: str, *, max_bytes: int, expires_s: int
    ) -> tuple[str, dict[str, str]]:
        """URL and form fields of a presigned POST that stores one file of at most `max_bytes`
        under `key`."""
        ...

    def delete(self, key: str) -> None: ...
