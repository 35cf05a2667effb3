"""A claimed bundle while the worker has it in hand: what is known of its tasks, and how running
tasks are told to stop. Which task runs next is decided by `ec2_worker.workload`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from ec2_worker.output import BundleOutput
from ec2_worker.stop import Stop
from taskfleet.bundle import Bundle
from taskfleet.lease import Lease
from taskfleet.ports import Message
from taskfleet.task import Task, TaskResult, TaskStatus


class ClaimedBundle:
    """A bundle that this worker has claimed. Fields other than `results`, `running` and `has_news`
    change only under the workload's lock.

    prior: results that earlier attempts recorded, by task index.
    results: results of this attempt, and final ones of earlier attempts, by task index.
    running: results in the making, by index, of tasks that report progress.
    has_news: whether a task has reported progress since the lease was last renewed.
    pending: tasks that no slot has taken yet, in order.
    taken: number of tasks that slots have taken and not given back.
    slots_each: slots that one pending task keeps from other work, on average.
    leaving: whether its pending tasks go back to the queue.
    settling: whether it is being committed or released.
    lost: whether another worker may own it now.
    stopping: the request that its running tasks end.
    output: what its tasks printed in this claim.
    poison: why its message belongs on the dead-letter queue; None when it does not.
    """

    def __init__(
        self,
        bundle: Bundle,
        message: Message,
        lease: Lease,
        prior: Iterable[TaskResult],
        claimed_at: float = 0.0,
    ) -> None:
        self.bundle = bundle
        self.message = message
        self.lease = lease
        self.claimed_at = claimed_at
        self.prior = {row.index: row for row in prior}
        self.results = {i: row for i, row in self.prior.items() if row.status.final}
        self.running: dict[int, TaskResult] = {}
        self.has_news = False
        self.pending = deque(task for task in bundle.tasks if task.index not in self.results)
        self.taken = 0
        self.slots_each = 0.0
        self.leaving = False
        self.settling = False
        self.lost = False
        self.poison: str | None = None
        self.output = BundleOutput()
        self.stopping = Stop()

    def attempts_spent(self, index: int) -> int:
        """Attempts at the task that earlier claims have spent and recorded."""
        row = self.prior.get(index)
        return 0 if row is None else row.attempts

    def attempt(self, index: int) -> int:
        """The number, from 1, of the attempt at the task that this claim is. Earlier claims whose
        worker never came back count for every task of the bundle."""
        return self.attempts_spent(index) + self.lease.attempt

    def record(self, row: TaskResult) -> None:
        """Record how an attempt at a task, or the task itself, ended."""
        self.results[row.index] = row.following(self.prior.get(row.index))

    @property
    def finished(self) -> bool:
        """Whether every task has its final result."""
        results = self.results
        return len(results) >= len(self.bundle.tasks) and all(
            row.status.final for row in list(results.values())
        )

    def rows(self) -> list[TaskResult]:
        """Everything known so far, to be recorded while the bundle is in hand."""
        return list({**self.prior, **self.running, **self.results}.values())

    def rows_to_release(self) -> list[TaskResult]:
        """Everything to record when the bundle is given back. A task that was not run this time
        spends no attempt. Claims that never came back move from the bundle's own count into the
        rows."""
        never_came_back = self.lease.attempt - 1
        rows = dict(self.results)
        for task in self.bundle.tasks:
            spent = self.attempts_spent(task.index) + never_came_back
            if task.index not in rows and spent:
                before = self.prior.get(task.index)
                error = None if before is None else before.error
                row = TaskResult(task.index, TaskStatus.QUEUED, error=error, attempts=spent)
                rows[task.index] = row.following(before)
        return list(rows.values())

    def cancel_pending(self) -> None:
        """Record the pending tasks as CANCELLED."""
        for task in self.pending:
            self.record(
                TaskResult(
                    task.index,
                    TaskStatus.CANCELLED,
                    error="the batch was cancelled",
                    attempts=self.attempts_spent(task.index),
                )
            )
        self.pending.clear()

    @property
    def stopped(self) -> threading.Event:
        """Set once the running tasks must end."""
        return self.stopping.event

    def stop(self) -> None:
        """Tell the running tasks to end, and end their subprocesses."""
        self.stopping.stop()


@dataclass(eq=False)
class Chunk:
    """Tasks of one bundle, with one kind and the same options, that a slot runs one after the
    other. `ends_at` is when they are expected to be done; None when that is unknown."""

    claimed: ClaimedBundle
    kind: str
    tasks: list[Task]
    ends_at: float | None = None
