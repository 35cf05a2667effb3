"""A part of a batch: tasks that are validated, recorded and enqueued together. Owns those steps;
their order, and when they are taken again, belongs to `taskfleet.scheduler.submit` for a batch that
is handed in whole, and to `taskfleet.scheduler.expand` for one that comes from an upload.

Numbers and contents of bundles follow from the batch, and a bundle that is on the queue twice is
the same job: so doing a part again never runs a task twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import msgspec

from taskfleet.batch import BatchRecord
from taskfleet.bill import Spend
from taskfleet.bundle import (
    DEFAULT_SLOTS,
    UNKNOWN_TASK_S,
    Bundle,
    Plan,
    cut,
    depends_on_slots,
    encode_bundle,
    job_id,
)
from taskfleet.errors import InvalidTask
from taskfleet.ports import OutgoingMessage, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.task import Task

BODY_MAX_BYTES = 5 * 1024 * 1024
"""Of one request: more comes as an upload."""
TASK_MAX_BYTES = 250_000
"""Of one task's JSON: a message of SQS holds a mebibyte, a result row shows its task again."""

_encode = msgspec.json.Encoder().encode


class Parts:
    """Takes parts in. `slots` tells how many slots the fleet has, roughly, and is asked only when a
    batch is cut by it; `spent` is the running total of this process; `announce` is called with
    tasks that are on the queue, and the number of messages that they are in."""

    def __init__(
        self,
        registry: Registry,
        queue: TaskQueue,
        monitor: TaskMonitor,
        slots: Callable[[], int] = lambda: DEFAULT_SLOTS,
        spent: Callable[[], Spend] = Spend,
        announce: Callable[[Sequence[Task], int], None] = lambda _tasks, _messages: None,
    ) -> None:
        self._registry = registry
        self._queue = queue
        self._monitor = monitor
        self._slots = slots
        self.spent = spent
        self._announce = announce

    def read(self, raw: Any, index: int) -> Task:
        """One task as a client wrote it. InvalidTask when no worker could run it."""
        task = self._registry.parse(raw, index)
        size = len(_encode(task))
        if size > TASK_MAX_BYTES:
            raise InvalidTask(
                f"has {size} bytes of JSON, over the cap of {TASK_MAX_BYTES}; "
                "put what is large into a bucket and name it in the task",
                index,
            )
        return task

    def plan(self, tasks: Iterable[Task]) -> Plan:
        """For a batch of these tasks, which are all known."""
        expected_s = self._registry.expected_s({})
        total_s, unknown = 0.0, Counter[str]()
        for task in tasks:
            seconds = expected_s(task)
            if seconds is None:
                unknown[task.kind] += 1
            else:
                total_s += seconds
        estimates = self._estimates(unknown)
        total_s += sum(n * estimates.get(kind, UNKNOWN_TASK_S) for kind, n in unknown.items())
        return Plan(estimates, self._slots() if depends_on_slots(total_s) else DEFAULT_SLOTS)

    def plan_of_any(self) -> Plan:
        """For a batch whose tasks are not known yet."""
        return Plan(self._estimates(self._registry.names), self._slots())

    def _estimates(self, kinds: Collection[str]) -> dict[str, float]:
        """How long tasks take whose kind does not say: as learned, else as the kind's hint."""
        learned = self._monitor.paces(sorted(kinds)) if kinds else {}
        estimates = {}
        for kind in sorted(kinds):
            pace, hint_s = learned.get(kind), self._registry[kind].hint_s
            if pace is not None:
                estimates[kind] = pace.cautious_s
            elif hint_s is not None:
                estimates[kind] = hint_s
        return estimates

    def cut(self, tasks: Sequence[Task], plan: Plan) -> list[list[Task]]:
        return list(cut(tasks, self._registry.expected_s(plan.estimates), slots=plan.slots))

    def enqueue(
        self, batch: BatchRecord, bundles: Sequence[Sequence[Task]], spent_before: Spend
    ) -> None:
        """Put the last part of `batch`, which is recorded and has these bundles, on the queue, and
        record that; what was spent since `spent_before` goes on the batch's bill."""
        first = batch.bundles - len(bundles)
        self._queue.send(
            [
                OutgoingMessage(_body(batch, first + place, tasks), group=batch.client_id)
                for place, tasks in enumerate(bundles)
            ]
        )
        self._announce([task for tasks in bundles for task in tasks], len(bundles))
        self._monitor.record_enqueued(batch.batch_id, batch.total, self.spent() - spent_before)


def _body(batch: BatchRecord, number: int, tasks: Sequence[Task]) -> str:
    job = job_id(batch.batch_id, number)
    return encode_bundle(Bundle(job, batch.client_id, batch.batch_id, list(tasks)))
