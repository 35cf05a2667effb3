"""Protocols that look right and are not: the real one with one protection taken away. The model
must find the fault of each; else it proves nothing about the real one."""

from __future__ import annotations

import dataclasses
from typing import Any

from msgspec.structs import replace

from ec2_worker.claimed import ClaimedBundle
from ec2_worker.settlement import Recorded
from taskfleet.batch import BatchRecord
from taskfleet.errors import LeaseLost, TransientError
from taskfleet.lease import BundleStatus, ClaimOutcome, Lease, decide_claim
from taskfleet.memory import MemoryMonitor
from taskfleet.memory.monitor import _Item
from taskfleet.ports import Claim, Message, OutgoingMessage
from tests.model.process import Process

# --- the table -----------------------------------------------------------------------------------


class UnfencedCommit(MemoryMonitor):
    """Whoever commits has the bundle."""

    def commit(self, job_id: str, lease: Lease, *, tasks: Any, results: Any) -> int:
        item = self._items[job_id]
        item.status, item.owner = BundleStatus.DONE, lease.owner
        item.tasks, item.results = list(tasks), list(results)
        item.sealed = item.checksum
        return item.sealed


class UnfencedRelease(MemoryMonitor):
    """Whoever releases has the bundle."""

    def release(self, job_id: str, lease: Lease, *, tasks: Any, results: Any) -> None:
        item = self._items[job_id]
        item.status, item.attempt = BundleStatus.QUEUED, max(0, item.attempt - 1)
        item.tasks, item.results = list(tasks), list(results)


class UnfencedRenewal(MemoryMonitor):
    """Whoever renews a lease has it."""

    def renew(
        self, job_id: str, lease: Lease, *, lease_s: float, tasks: Any, results: Any
    ) -> Lease:
        item = self._items[job_id]
        item.expires_at = self._clock.now() + lease_s
        item.tasks, item.results = list(tasks), list(results)
        return Lease(lease.owner, lease.attempt, item.expires_at)


class UnfencedUnclaim(MemoryMonitor):
    """Whoever takes a claim back takes back his own."""

    def unclaim(self, job_id: str, *, owner: str) -> None:
        item = self._items.get(job_id)
        if item and item.status is BundleStatus.RUNNING:
            super().unclaim(job_id, owner=item.owner)


class FenceWithoutOwner(MemoryMonitor):
    """A lease is told from others by its attempt only, which a claim after a release has again."""

    def _held(self, job_id: str, lease: Lease, *, target: BundleStatus) -> _Item:
        item = self._items[job_id]
        if item.status is BundleStatus.RUNNING and item.attempt == lease.attempt:
            return item
        return super()._held(job_id, lease, target=target)


class UnrecognisedClaim(MemoryMonitor):
    """A claim that is sent again counts again."""

    def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
        item = self._items.get(job_id)
        if item is not None and item.owner == owner and item.status is BundleStatus.RUNNING:
            item.expires_at = 0.0
        return super().claim(job_id, owner=owner, lease_s=lease_s)


class EternalLease(MemoryMonitor):
    """A bundle that is claimed stays claimed."""

    def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
        item = self._items.get(job_id)
        if item is not None and item.status is BundleStatus.RUNNING and item.owner != owner:
            return Claim(ClaimOutcome.HELD, item.lease, item.results)
        return super().claim(job_id, owner=owner, lease_s=lease_s)


class ForgetfulRelease(MemoryMonitor):
    """A bundle that is given back begins anew."""

    def release(self, job_id: str, lease: Lease, *, tasks: Any, results: Any) -> None:
        super().release(job_id, lease, tasks=tasks, results=[])


class CountingTwice(MemoryMonitor):
    """An answer that is delivered again counts again."""

    def record_progress(self, batch_id: str, *args: Any, **kwargs: Any) -> BatchRecord | None:
        self._counted[batch_id].clear()
        return super().record_progress(batch_id, *args, **kwargs)


# --- the worker ----------------------------------------------------------------------------------


def delete_then_put_if_absent(process: Process) -> None:
    """The message is deleted when it is received, and the table keeps others away."""
    protocol, claim = process.hand.protocol, process.hand.protocol.claim

    def deleting(bundle: Any, message: Message) -> ClaimedBundle | None:
        process.queue.delete([message])
        return claim(bundle, message)

    protocol.claim = deleting  # type: ignore[method-assign]


def read_flag_then_run(process: Process) -> None:
    """The item is read, and if it says that nobody runs the bundle, it is marked and run."""
    world, monitor = process.world, process.hand.protocol._monitor

    class Reading:
        def __getattr__(self, name: str) -> Any:
            return getattr(monitor, name)

        def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
            records = world.call("read the item", lambda: tuple(world.monitor.bundles([job_id])))
            now = world.clock.now()
            status = records[0].status if records else None
            lease = records[0].lease if records else None
            outcome = decide_claim(
                status,
                lease.owner if lease else None,
                lease.expires_at if lease else 0.0,
                claimant=owner,
                now=now,
            )
            if outcome is not ClaimOutcome.ACQUIRED:
                return Claim(outcome, lease, records[0].results, records[0].checksum)
            lost = 0 if lease is None else lease.attempt
            mine = Lease(owner, lost + 1, now + lease_s)

            def mark() -> None:
                item = world.monitor._items.setdefault(job_id, _Item())
                item.status, item.owner = BundleStatus.RUNNING, owner
                item.attempt, item.expires_at = mine.attempt, mine.expires_at

            world.call("mark the item", mark)
            return Claim(outcome, mine, list(records[0].results) if records else [])

    process.hand.protocol._monitor = Reading()  # type: ignore[assignment]


def busy_is_a_duplicate(process: Process) -> None:
    """The message of a bundle that another worker has is deleted."""

    class Deleting:
        def __getattr__(self, name: str) -> Any:
            return getattr(process.queue, name)

        def change_visibility(self, changes: Any) -> list[Message]:
            process.queue.delete([message for message, _ in changes])
            return []

    process.hand.protocol._tasks = Deleting()  # type: ignore[assignment]


def a_throttle_is_a_duplicate(process: Process) -> None:
    """Every claim that fails is taken for one of a bundle that somebody has."""
    protocol, claim = process.hand.protocol, process.hand.protocol.claim

    def deleting(bundle: Any, message: Message) -> ClaimedBundle | None:
        try:
            return claim(bundle, message)
        except TransientError:
            process.queue.delete([message])
            return None

    protocol.claim = deleting  # type: ignore[method-assign]


def done_is_not_published_again(process: Process) -> None:
    """The message of a bundle that is DONE is deleted, since its answer was surely published."""

    class Silent:
        def publish(self, _bundle: Any, _recorded: Any, message: Message, **_others: Any) -> None:
            process.queue.delete([message])

    process.hand.protocol._settlement = Silent()  # type: ignore[assignment]


def all_are_charged(process: Process) -> None:
    """Each task of a bundle whose worker vanished has spent an attempt."""

    def charge(claimed: ClaimedBundle, _recorded: Any) -> None:
        for task in claimed.pending:
            lost = claimed.lease.attempt - 1
            row = claimed.prior.get(task.index)
            if lost and row is not None:
                claimed.prior[task.index] = replace(row, attempts=row.attempts + lost)
            elif lost:
                claimed.note(task.index, 0.0, "w0")
                noted = replace(claimed.running.pop(task.index), attempts=lost)
                claimed.prior[task.index] = replace(noted, status="QUEUED", error="lost")

    process.hand.protocol._log_losses = charge  # type: ignore[method-assign]


def nobody_is_charged(process: Process) -> None:
    """No task is noted before it starts."""
    executor = process.hand.executor
    executor._ways = dataclasses.replace(executor._ways, note=lambda _claimed, _task: True)


def deleted_before_published(process: Process) -> None:
    """The message is deleted as soon as the results are recorded."""
    outbox = process.hand.outbox

    def send(letters: Any) -> None:
        process.queue.delete([letter.message for letter in letters])
        outbox._responses.send([OutgoingMessage(letter.body()) for letter in letters])

    outbox._send = send  # type: ignore[method-assign]


def dead_before_recorded(process: Process) -> None:
    """A bundle with a task that is out of attempts becomes a dead letter at once."""
    settlement, settle = process.hand.settlement, process.hand.settlement.settle

    def burying(claimed: ClaimedBundle) -> None:
        if claimed.poison is not None:
            process.queue.dead_letter(claimed.message, claimed.poison)
        settle(claimed)

    settlement.settle = burying  # type: ignore[method-assign]


def a_copy_that_fails_counts(process: Process) -> None:
    """Of a task and its second copy, the last one to end counts."""

    def record(chunk: Any, _kind: Any, row: Any, _failure: Any) -> None:
        chunk.claimed.record(row)

    process.hand.executor._record = record  # type: ignore[method-assign]


def lost_leases_are_kept(process: Process) -> None:
    """A worker that has lost its lease answers all the same."""
    settlement, record = process.hand.settlement, process.hand.settlement.record

    def recording(claimed: ClaimedBundle) -> Any:
        try:
            return record(claimed)
        except LeaseLost:
            rows = [claimed.results[task.index] for task in claimed.bundle.tasks]
            return Recorded(rows, 1)

    settlement.record = recording  # type: ignore[method-assign]
