"""What a task waits for now, in words for its owner. Owns the diagnosis, as a pure function of what
is recorded; not the reading of it (`taskfleet.scheduler.tasks`)."""

from __future__ import annotations

from collections.abc import Callable

from taskfleet.batch import BatchRecord
from taskfleet.lease import BundleStatus
from taskfleet.ports import BundleRecord
from taskfleet.retry import longest_backoff_s
from taskfleet.scheduler.locate import Place
from taskfleet.task import TaskResult
from taskfleet.wire.http.times import iso_time


def waits_for_others(_batch: BatchRecord) -> str:
    """Returns what the tasks of a batch wait for that waits for others, of which nothing is
    known."""
    return "its batch waits for others"


def why(
    batch: BatchRecord,
    index: int,
    place: Place,
    row: TaskResult | None,
    *,
    now: float,
    counted: Callable[[], bool],
    fleet: Callable[[], str | None],
    others: Callable[[BatchRecord], str] = waits_for_others,
) -> str:
    """Returns what the task waits for.

    place: where the task is.
    row: what is recorded of the task; None if nothing is.
    counted: returns whether the bundle's results are in the batch's counts.
    fleet: returns why nothing runs; None if something does (`taskfleet.provisioner.view`).
    others: returns what a batch waits for that waits for others (`taskfleet.scheduler.after`).
    """
    bundle = place.record
    if row is not None and row.status.final:
        return _ended(batch, bundle, counted)
    if bundle is not None and bundle.lease is not None:
        return _held(bundle, row, now)
    if batch.cancelled_at is not None:
        return "nothing: its batch was cancelled; the next worker that meets it records that"
    if batch.waiting:
        return others(batch)
    if index >= batch.total:
        return "the batch is open: the task is not handed in yet"
    if index >= batch.enqueued:
        return "its part of the batch is recorded and about to be put on the queue"
    reason = fleet()
    waits = f"; nothing runs now: {reason}" if reason else ""
    if row is not None and row.attempts:
        return _another_attempt(row, now) + waits
    if bundle is not None:
        return f"a worker gave it back; it is on the queue for another{waits}"
    if place.fresh:
        return f"a worker has claimed it within the last seconds, or it is on the queue{waits}"
    return f"no worker has claimed it; it is on the queue{waits}"


def _ended(batch: BatchRecord, bundle: BundleRecord | None, counted: Callable[[], bool]) -> str:
    if bundle is not None and bundle.status is not BundleStatus.DONE:
        return "it has ended; it is answered when the other tasks of its bundle have ended"
    if batch.finished or counted():
        return "nothing: it is done"
    return "it is answered; the collector has not counted the answer yet"


def _held(bundle: BundleRecord, row: TaskResult | None, now: float) -> str:
    lease = bundle.lease
    if lease is None:
        raise ValueError("a bundle that is held has a lease")
    worker, _, nonce = lease.owner.rpartition("/")
    worker = worker or nonce
    until = iso_time(lease.expires_at)
    if lease.expires_at < now:
        return (
            f"worker {worker} had it and did not renew its lease, which ended at {until}; the next "
            "worker that gets its message takes it"
        )
    what = "runs on" if row is not None and row.started_at is not None else "is held by"
    return f"it {what} worker {worker}, whose lease ends at {until} unless it is renewed"


def _another_attempt(row: TaskResult, now: float) -> str:
    """Says when the attempt after the recorded ones is due. The delay after an attempt is random,
    and not recorded."""
    number = row.attempts + 1
    if row.started_at is None or row.duration_s is None:
        return f"attempt {number} waits on the queue"
    due = row.started_at + row.duration_s + longest_backoff_s(row.attempts)
    if due <= now:
        return f"attempt {number} is due since {iso_time(due)}"
    return f"attempt {number} is due before about {iso_time(due)}"
