"""A claimed bundle while the worker has it in hand: what is known of its tasks, and how running
tasks are told to stop. Which task runs next is decided by `ec2_worker.workload`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from ec2_worker.output import BundleOutput, Stored
from ec2_worker.stop import Stop
from ec2_worker.stragglers import Race
from taskfleet.bundle import Bundle
from taskfleet.lease import Lease
from taskfleet.ports import Message
from taskfleet.task import Task, TaskResult, TaskStatus


class ClaimedBundle:
    """A bundle that this worker has claimed. Fields other than `results`, `running` and `has_news`
    change only under the workload's lock.

    prior: results that earlier claims recorded, by task index, none of them RUNNING.
    results: results of this attempt, and final ones of earlier attempts, by task index.
    running: results in the making, by index, of tasks that report progress or are noted.
    has_news: whether a task has reported progress, or output was stored, since the lease was last
        renewed.
    careful: whether its tasks are run one at a time, each noted in the item before it starts.
    last_chances: tasks of a careful bundle, by index, that fail if their worker is lost once more.
    renewing: held while the rows are read and recorded, so that no older ones are written last.
    pending: tasks that no slot has taken yet, in the order in which they are run. In a careful
        bundle those that spent most attempts come last: the suspects hold up nobody, and a task
        that only ran beside a suspect is not charged again.
    taken: number of tasks that slots have taken and not given back.
    expected_s: seconds that its kind itself expects of each task that was pending when the bundle
        came before the slots, by index, as far as it says anything.
    paces: names under which the durations of the others among these tasks are learned, by index.
    slots_each: slots that one pending task keeps from other work, on average.
    leaving: whether its pending tasks go back to the queue.
    settling: whether it is being committed or released.
    released: whether the table says that it is free, so that a delivery of it is a new claim's.
    lost: whether another worker may own it now.
    stopping: the request that its running tasks end.
    output: what its tasks printed in this claim.
    logs: what of that is stored.
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
        self.careful = lease.is_careful
        self.last_chances: set[int] = set()
        self.renewing = threading.Lock()
        self.prior = {row.index: _after_loss(row) for row in prior}
        self.results = {i: row for i, row in self.prior.items() if row.status.final}
        self.running: dict[int, TaskResult] = {}
        self.has_news = False
        pending = [task for task in bundle.tasks if task.index not in self.results]
        if self.careful:
            pending.sort(key=lambda task: self.attempts_spent(task.index))
        self.pending = deque(pending)
        self.taken = 0
        self.expected_s: Mapping[int, float] = {}
        self.paces: Mapping[int, str] = {}
        self.slots_each = 0.0
        self.leaving = False
        self.settling = False
        self.released = False
        self.lost = False
        self.poison: str | None = None
        self.output = BundleOutput()
        self.logs = Stored()
        self.stopping = Stop()

    @property
    def is_high(self) -> bool:
        """Returns whether its tasks go before those of other bundles."""
        return self.message.high

    def attempts_spent(self, index: int) -> int:
        """Attempts at the task that earlier claims have recorded: those that ended, and those that
        were noted and then lost with their worker."""
        row = self.prior.get(index)
        return 0 if row is None else row.attempts

    def attempt(self, index: int) -> int:
        """The number, from 1, of the attempt at the task that this claim is."""
        return self.attempts_spent(index) + 1

    def note(self, index: int, started_at: float, worker_id: str) -> None:
        """Note the task that runs next in a careful bundle, in the place of the one before. Its
        attempt counts from now on, since nobody could count it once the worker is lost."""
        note = TaskResult(
            index,
            TaskStatus.RUNNING,
            attempts=self.attempt(index),
            started_at=started_at,
            worker_id=worker_id,
        )
        self.running = {index: note.following(self.prior.get(index))}

    def report(self, index: int, started_at: float, progress: list[Any]) -> None:
        """Take in the progress of a running task. It charges no attempt; a note stays a note."""
        self.has_news = True
        row = self.running.get(index) or self._uncharged(index)
        self.running[index] = replace(row, started_at=started_at, progress=progress)

    def record(self, row: TaskResult) -> None:
        """Record how an attempt at a task, or the task itself, ended."""
        self.results[row.index] = row.following(self.prior.get(row.index))

    def fail_lost(self, task: Task) -> str:
        """Record FAILED for a pending task whose last attempt was lost with its worker. Returns
        the error."""
        last = self.prior[task.index]
        error = f"gave up after {last.attempts} attempt{'s' * (last.attempts > 1)}: {last.error}"
        self.pending.remove(task)
        self.results[task.index] = replace(last, status=TaskStatus.FAILED, error=error)
        return error

    @property
    def finished(self) -> bool:
        """Returns whether every task has its final result."""
        results = self.results
        return len(results) >= len(self.bundle.tasks) and all(
            row.status.final for row in list(results.values())
        )

    def rows(self) -> list[TaskResult]:
        """Everything known so far, to be recorded while the bundle is in hand."""
        rows = {**self.prior, **self.running, **self.results}
        for index, (ref, started_at) in self.logs.shown.items():
            if index in self.results or index in self.running:
                rows[index] = replace(rows[index], log=ref)
            elif started_at is not None:
                rows[index] = replace(self._uncharged(index), started_at=started_at, log=ref)
        return list(rows.values())

    def _uncharged(self, index: int) -> TaskResult:
        """Returns the row of a running task that is not noted: it charges no attempt."""
        row = TaskResult(index, TaskStatus.RUNNING, attempts=self.attempts_spent(index))
        return row.following(self.prior.get(index))

    def rows_to_release(self) -> list[TaskResult]:
        """Everything to record when the bundle is given back. A task that was not run this time
        spends no attempt, noted or not."""
        rows = dict(self.results)
        for task in self.bundle.tasks:
            spent = self.attempts_spent(task.index)
            if task.index not in rows and spent:
                before = self.prior.get(task.index)
                error = None if before is None else before.error
                row = TaskResult(task.index, TaskStatus.QUEUED, error=error, attempts=spent)
                rows[task.index] = row.following(before)
        return list(rows.values())

    def record_pending(self, rows: Iterable[TaskResult]) -> None:
        """Record the rows of pending tasks that need not run."""
        for row in rows:
            self.record(row)
        self.pending = deque(task for task in self.pending if task.index not in self.results)

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


def _after_loss(row: TaskResult) -> TaskResult:
    """Returns what a recorded row says to a later claim. A RUNNING row is left over from a lost
    claim: its task runs no more. If it was noted, its attempts include the lost one."""
    if row.status is not TaskStatus.RUNNING:
        return row
    if not row.is_note:
        return replace(row, status=TaskStatus.QUEUED, started_at=None, progress=None)
    error = f"its worker {row.worker_id} was lost while it ran"
    return replace(row, status=TaskStatus.QUEUED, error=error, progress=None)


@dataclass(eq=False)
class Chunk:
    """Tasks of one bundle, with one kind and the same options, that a slot runs one after the
    other. `ends_at` is when they are expected to be done; None when that is unknown.

    began_at: when the slot took them.
    race: that of the one task in it with its second copy; None if it can get none.
    is_copy: whether the slot runs the copy.
    """

    claimed: ClaimedBundle
    kind: str
    tasks: list[Task]
    ends_at: float | None = None
    began_at: float = 0.0
    race: Race | None = None
    is_copy: bool = False

    @property
    def expected_s(self) -> float:
        """Expected seconds of the tasks together; 0 when that is unknown."""
        return 0.0 if self.ends_at is None else self.ends_at - self.began_at

    @property
    def stopping(self) -> Stop:
        """The request that these tasks end."""
        if self.race is None:
            return self.claimed.stopping
        return self.race.stop_of(is_copy=self.is_copy)

    @property
    def lost(self) -> bool:
        """Returns whether its task has its result from the other copy."""
        return self.race is not None and self.race.lost(is_copy=self.is_copy)

    def counts(self, row: TaskResult) -> bool:
        """Returns whether a task's row is to be recorded: of a task and its copy, that of the first
        one to end. A copy that fails changes nothing."""
        if self.race is None:
            return True
        if not row.status.final:
            return not self.is_copy and not self.lost
        if self.is_copy and row.status is not TaskStatus.SUCCEEDED:
            return False
        return self.race.ends(is_copy=self.is_copy)
