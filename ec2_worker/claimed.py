"""A claimed bundle in hand: what is known of its tasks, and how they are told to stop. Owns what
one bundle's rows come to; not which task runs next (`ec2_worker.workload`)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable

from taskfleet.bundle import Bundle
from taskfleet.lease import Lease
from taskfleet.ports import Message
from taskfleet.task import TaskResult, TaskStatus


class Holding:
    """A claimed bundle in hand. `prior` is what earlier attempts recorded of its tasks, `results`
    what this one does, both by index; the other fields change under the workload's lock only."""

    def __init__(
        self,
        bundle: Bundle,
        message: Message,
        lease: Lease,
        prior: Iterable[TaskResult],
        taken_at: float = 0.0,
    ) -> None:
        self.bundle = bundle
        self.message = message
        self.lease = lease
        self.taken_at = taken_at
        self.leaving = False
        """Its tasks that were not started go back to the queue."""
        self.prior = {row.index: row for row in prior}
        self.results = {i: row for i, row in self.prior.items() if row.status.final}
        self.running: dict[int, TaskResult] = {}
        """Rows of running tasks that report progress."""
        self.has_news = False
        """Whether one reported since the lease was last renewed."""
        self.pending = deque(task for task in bundle.tasks if task.index not in self.results)
        self.taken = 0
        self.slots_each = 0.0
        """How many slots one of its pending tasks keeps from other work, on average."""
        self.settling = False
        self.poison: str | None = None
        """Why the message belongs on the dead-letter queue once it is settled, if it does."""
        self.lost = False
        self.stopped = threading.Event()
        self._stop_lock = threading.Lock()
        self._stop_actions: dict[object, Callable[[], None]] = {}

    def attempts_spent(self, index: int) -> int:
        """By earlier attempts at this task that were not given back."""
        row = self.prior.get(index)
        return 0 if row is None else row.attempts

    def attempt(self, index: int) -> int:
        """The number, from 1, of the attempt that this holding is for the task: claims that never
        came back count for every task of the bundle."""
        return self.attempts_spent(index) + self.lease.attempt

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
        """The same for a bundle that is given back: what was not run this time spends nothing, but
        claims that never came back move from the item's count into the rows."""
        lost = self.lease.attempt - 1
        rows = dict(self.results)
        for task in self.bundle.tasks:
            spent = self.attempts_spent(task.index) + lost
            if task.index not in rows and spent:
                before = self.prior.get(task.index)
                error = None if before is None else before.error
                rows[task.index] = TaskResult(
                    task.index, TaskStatus.QUEUED, error=error, attempts=spent
                )
        return list(rows.values())

    def cancel_pending(self) -> None:
        for task in self.pending:
            self.results[task.index] = TaskResult(
                task.index,
                TaskStatus.CANCELLED,
                error="the batch was cancelled",
                attempts=self.attempts_spent(task.index),
            )
        self.pending.clear()

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]:
        token = object()
        with self._stop_lock:
            if not self.stopped.is_set():
                self._stop_actions[token] = action
                return lambda: self._take_back(token)
        action()
        return lambda: None

    def _take_back(self, token: object) -> None:
        with self._stop_lock:
            self._stop_actions.pop(token, None)

    def stop(self) -> None:
        """Tell the running tasks to end, and end their subprocesses."""
        with self._stop_lock:
            self.stopped.set()
            actions = list(self._stop_actions.values())
            self._stop_actions.clear()
        for action in actions:
            action()
