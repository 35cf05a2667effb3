"""What must hold at the end of a history: the promises of the design, batch by batch. Owns the
comparison of what is recorded with what the client asked for."""

from __future__ import annotations

from collections import Counter
from typing import Any

from taskfleet.batch import BatchRecord, keyed_batch_id
from taskfleet.lease import BundleStatus
from taskfleet.schedule import Missed, ScheduleRecord
from taskfleet.task import TaskStatus
from taskfleet.wire.http.results import ResultView
from taskfleet.wire.queues import decode_bundle
from tests.faults.histories.client import CLIENT, Order
from tests.faults.histories.kinds import right_result
from tests.faults.histories.world import World

ATTEMPTS = 5
"""Most attempts of a task."""


class Judge:
    """Compares. `faults` has what was found: (lost, doubled or wrong; words)."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.faults = world.faults
        self.scheduled: dict[str, list[dict[str, Any]]] = {}
        self.finished: dict[str, BatchRecord] = {}
        self._seen: set[str] = set()
        self.created: dict[str, set[float]] = {}
        """When each schedule was recorded."""
        self.orphans: set[str] = set()
        """Batches that a tick began while their schedule was being removed. If that tick fails,
        nobody completes them. The same is true of a batch whose record takes effect so late that
        another tick has left its time out (`World.landed`). Nobody was told that either exists."""

    # --- while the history goes on ---

    def look(self) -> None:
        """Note that a batch that has ended stays as it is."""
        held = self.world.cloud.schedules.schedules(CLIENT)
        for batch_id, batch in self.world.cloud.monitor._batches.items():
            if batch_id not in self._seen and batch.name not in {each.name for each in held}:
                self.orphans.add(batch_id)
            self._seen.add(batch_id)
            before = self.finished.get(batch_id)
            if before is not None and (not batch.finished or batch.tally != before.tally):
                self.faults.append(("doubled", f"{batch_id} changed after its end: {batch.tally}"))
            if batch.tally.total > batch.total:
                self.faults.append(("doubled", f"{batch_id} counts {batch.tally} of {batch.total}"))
            if batch.finished:
                self.finished[batch_id] = batch
        for each in held:
            self.created.setdefault(each.name, set()).add(each.created_at)

    # --- at the end ---

    def schedules(self) -> None:
        """Find the batches that the schedules must have made by now, and those they may have."""
        now = self.world.cloud.clock.now()
        held = {each.name: each for each in self.world.cloud.schedules.schedules(CLIENT)}
        for name, (missed, tasks) in self.world.client.schedules.items():
            record = held.get(name)
            if record is not None and missed is Missed.CATCH_UP:
                self._caught_up(record, now)
            for created in self.created.get(name, ()):
                for at in range(int(created), int(now) + 120, 60):
                    self.scheduled[keyed_batch_id(CLIENT, name_at(name, at))] = tasks

    def _caught_up(self, record: ScheduleRecord, now: float) -> None:
        first = record.created_at + 60
        if record.next_at <= now:
            self.faults.append(("lost", f"{record.name} is due at {record.next_at}, it is {now}"))
        at = first
        while at <= now:
            batch_id = keyed_batch_id(CLIENT, record.key(at))
            if self.world.cloud.monitor.batch(batch_id) is None:
                self.faults.append(("lost", f"{record.key(at)} has no batch"))
            at += 60

    def batches(self) -> None:
        """Judge every batch that is recorded."""
        orders = self.world.client.orders
        recorded = self.world.cloud.monitor._batches
        for order in orders.values():
            if order.accepted and order.batch_id not in recorded:
                self.faults.append(("lost", f"{order.batch_id} was answered with 202"))
        for batch_id, batch in recorded.items():
            order = orders.get(batch_id)
            if order is None and batch_id in self.scheduled:
                alone = batch_id in self.orphans | self.world.landed
                order = Order(
                    batch_id, self.scheduled[batch_id], accepted=not alone, given_up=alone
                )
            # Without a key and an answer, nobody can know of the batch.
            self._batch(batch, order or Order(batch_id, None, given_up=True))

    def _batch(self, batch: BatchRecord, order: Order) -> None:
        if not batch.finished:
            if not order.given_up:
                self.faults.append(("lost", f"{batch.batch_id} has not ended: {batch}, {order}"))
            return
        rows = self.world.cloud.rows(self.world.registry, batch.batch_id)
        for index, count in Counter(row.index for row in rows).items():
            if count > 1:
                self.faults.append(("doubled", f"{batch.batch_id}/{index} has {count} results"))
        for index in set(range(batch.total)) - {row.index for row in rows if row.status.final}:
            self.faults.append(("lost", f"{batch.batch_id}/{index} has no result"))
        receipt = self.world.cloud.audit(self.world.registry, batch.batch_id)
        if not receipt.balanced:
            self.faults.append(("wrong", f"{batch.batch_id}: {receipt.faults}"))
        stopped = self._stopped(batch, order)
        tasks = self._tasks(batch, order)
        if tasks is not None and not (stopped and batch.upload is not None):
            self._compare(batch, order, tasks)
        for row in rows:
            self._row(batch, row, may_be_cancelled=stopped)

    def _stopped(self, batch: BatchRecord, order: Order) -> bool:
        """Returns whether the batch was cancelled, after judging whether it had to be."""
        stopped = batch.cancelled_at is not None
        before = [self.world.cloud.monitor.batch(each) for each in order.after]
        bad = any(
            each is None
            or each.cancelled_at is not None
            or each.tally.failed
            or each.tally.cancelled
            for each in before
        )
        must = order.faulty or (bad and not order.run_anyway)
        may = must or order.cancel_asked or order.given_up
        if must and not stopped:
            self.faults.append(("wrong", f"{batch.batch_id} ran although it had to be cancelled"))
        if stopped and not may:
            self.faults.append(("wrong", f"{batch.batch_id} was cancelled: {batch.error}"))
        return stopped

    def _tasks(self, batch: BatchRecord, order: Order) -> list[dict[str, Any]] | None:
        """Returns the tasks that the batch must have; None if that is not known."""
        if order.retry_of is None:
            return order.tasks
        rows = self.world.cloud.rows(self.world.registry, order.retry_of)
        return [row.task for row in rows if row.status is TaskStatus.FAILED]

    def _compare(self, batch: BatchRecord, order: Order, tasks: list[dict[str, Any]]) -> None:
        rows = self.world.cloud.rows(self.world.registry, batch.batch_id)
        found = [row.task for row in sorted(rows, key=lambda row: row.index)]
        if order.accepted and len(found) < len(tasks):
            self.faults.append(("lost", f"{batch.batch_id} has {len(found)} of {len(tasks)} tasks"))
        elif found not in (tasks, tasks + order.unsure):
            self.faults.append(("wrong", f"{batch.batch_id} has {found}, not {tasks}"))

    def _row(self, batch: BatchRecord, row: ResultView, *, may_be_cancelled: bool) -> None:
        name = f"{batch.batch_id}/{row.index}"
        if row.status is TaskStatus.CANCELLED:
            if not may_be_cancelled:
                self.faults.append(("wrong", f"{name} is cancelled, its batch is not"))
            return
        status, result = right_result(row.task)
        if (row.status, row.result) == (status, result):
            if row.task["kind"] == "gone" and row.error != "404" and not self._was_lost(row):
                self.faults.append(("wrong", f"{name} failed otherwise: {row}"))
            return
        if row.status is TaskStatus.FAILED and self._was_lost(row):
            return
        self.faults.append(("wrong", f"{name} has {row.status} {row.result} {row.error}"))

    def _was_lost(self, row: ResultView) -> bool:
        """Returns whether a task failed since it was charged with the loss of its worker as often
        as it may be tried."""
        lost = "was lost while it ran" in (row.error or "")
        return lost and row.attempts >= ATTEMPTS and self.world.deaths >= ATTEMPTS - 2

    def bundles(self) -> None:
        """Judge that every bundle that was sent is DONE and answered, and that a message among the
        dead letters lost nothing."""
        cloud = self.world.cloud
        for queue in (cloud.tasks, cloud.high):
            for body in queue.sent:
                bundle = decode_bundle(body)
                (record,) = cloud.monitor.bundles([bundle.job_id]) or [None]
                if record is None or record.status is not BundleStatus.DONE:
                    self.faults.append(("lost", f"{bundle.job_id} is not done: {record}"))
                elif bundle.job_id not in self.world.answered:
                    self.faults.append(("lost", f"{bundle.job_id} was never answered"))


def name_at(name: str, at: float) -> str:
    """Returns the key of a schedule's batch, as `ScheduleRecord.key` makes it."""
    return ScheduleRecord(CLIENT, name, at, at, [], 60).key(at)
