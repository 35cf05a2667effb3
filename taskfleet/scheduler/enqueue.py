"""Putting the bundles of a recorded batch on the queue `Task_to_process`, and telling the
provisioner that work came. Owns that step; when it is taken belongs to
`taskfleet.scheduler.submit` and `taskfleet.scheduler.expand`.

Numbers and contents of bundles follow from the batch alone, and a bundle that is on the queue twice
is the same job. So this step can be taken again without running a task twice.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from taskfleet.batch import PARTS_REMEMBERED, BatchRecord
from taskfleet.bill import Spend
from taskfleet.bundle import Bundle, job_id
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import OutgoingMessage, TaskMonitor, TaskQueue
from taskfleet.provisioner.ports import FleetRecords, Nudge
from taskfleet.provisioner.records import Demand, KindDemand, Noted
from taskfleet.quote import Quote
from taskfleet.registry import Registry
from taskfleet.task import Task
from taskfleet.wire.queues import encode_bundle

_log = logging.getLogger(__name__)

PACES_MAX = 20
"""Most names of paces by which the tasks of a watched batch are told apart."""


class Announcer:
    """Tells the provisioner of new work: adds to the totals of demand, and nudges it when there is
    no machine. What is lost here costs time only, since the provisioner sees the queue too. A batch
    with a deadline or a budget is put on the list that it watches first.

    nudge: None where the provisioner cannot be called.
    watches: whether there is a provisioner, which takes batches off that list.
    """

    def __init__(
        self,
        registry: Registry,
        records: FleetRecords,
        nudge: Nudge | None,
        *,
        watches: bool = True,
    ) -> None:
        self._registry = registry
        self._records = records
        self._nudge = nudge
        self._watches = watches

    def announce(self, batch: BatchRecord, tasks: Sequence[Task], messages: int) -> Noted | None:
        """Tells the provisioner that `tasks` of the batch are on the queue, in `messages` messages.
        Returns what it last noted of the fleet; None when that is not known. Raises TransientError
        if a batch that is to be watched could not be put on the list."""
        if self._watches and batch.options is not None and batch.options.has_goal:
            self._records.watch(batch.batch_id, self._by_pace(tasks))
        noted = None
        try:
            high = batch.options is not None and batch.options.is_high
            demand = Demand(1, messages, self._by_kind(tasks), messages if high else 0)
            noted = self._records.add_demand(demand)
            if self._nudge is not None and not (noted and noted.machines):
                self._nudge.nudge()
        except TaskfleetError as error:
            _log.warning(
                "the provisioner was not told of a batch",
                extra=fields("announce_failed", messages=messages, reason=str(error)),
            )
        return noted

    def _by_pace(self, tasks: Sequence[Task]) -> dict[str, KindDemand]:
        """The tasks by the name of their pace, or of their kind where there are very many names."""
        groups: dict[str, list[Task]] = {}
        for task in tasks:
            groups.setdefault(self._registry.pace_name(task), []).append(task)
        if len(groups) > PACES_MAX:
            return self._by_kind(tasks)
        return {name: self._by_kind(group)[group[0].kind] for name, group in groups.items()}

    def _by_kind(self, tasks: Sequence[Task]) -> dict[str, KindDemand]:
        by_kind: dict[str, list[float | None]] = {}
        for task, seconds in zip(tasks, self._registry.expected_s(tasks), strict=True):
            by_kind.setdefault(task.kind, []).append(seconds)
        demand = {}
        for kind, each_s in by_kind.items():
            known_s = [seconds for seconds in each_s if seconds is not None]
            demand[kind] = KindDemand(len(each_s), len(known_s), sum(known_s))
        return demand


class Enqueuer:
    """Puts bundles on the queue.

    spent: returns the running total of this process's AWS calls.
    announce: called with a batch, tasks of it that are on the queue and the number of their
        messages; returns what is noted of the fleet, None if nothing is.
    """

    def __init__(
        self,
        queue: TaskQueue,
        monitor: TaskMonitor,
        spent: Callable[[], Spend] = Spend,
        announce: Callable[
            [BatchRecord, Sequence[Task], int], Noted | None
        ] = lambda _batch, _tasks, _messages: None,
    ) -> None:
        self._queue = queue
        self._monitor = monitor
        self.spent = spent
        self._announce = announce

    def enqueue(
        self,
        batch: BatchRecord,
        bundles: Sequence[Sequence[Task]],
        spent_before: Spend,
        quote: Callable[[Noted | None], Quote | None] = lambda _noted: None,
    ) -> None:
        """Send the last bundles of `batch`, which are recorded, and record that they are sent. What
        was spent since `spent_before` goes on the batch's bill. `quote` makes the quote that the
        batch keeps of what is noted of the fleet."""
        first = batch.bundles - len(bundles)
        high = batch.options is not None and batch.options.is_high
        self._queue.send(
            [
                OutgoingMessage(_body(batch, first + place, tasks), batch.client_id, high)
                for place, tasks in enumerate(bundles)
            ]
        )
        noted = self._announce(batch, [task for tasks in bundles for task in tasks], len(bundles))
        self._monitor.record_enqueued(
            batch.batch_id,
            batch.total,
            self.spent() - spent_before,
            forget=len(batch.parts) > PARTS_REMEMBERED,
            quote=quote(noted),
        )


def _body(batch: BatchRecord, number: int, tasks: Sequence[Task]) -> str:
    job = job_id(batch.batch_id, number)
    return encode_bundle(
        Bundle(
            job,
            batch.client_id,
            batch.batch_id,
            list(tasks),
            traceparent=batch.traceparent,
            options=None if batch.options is None else batch.options.own,
        )
    )
