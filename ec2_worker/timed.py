"""One attempt in a thread, with a time-out: the task is told to end, and when it does not, its
thread is given up. A process that runs too long is a matter of `ec2_worker.runner.chunk`."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from ec2_worker import attempt
from ec2_worker.attempt import Failure, Outcome, Scene, SlotContext
from ec2_worker.deadlines import Deadlines
from ec2_worker.runner.chunk import decision_for, timed_out
from ec2_worker.runner.handle import GRACE_S
from ec2_worker.stop import Stop
from taskfleet.ports import Clock
from taskfleet.registry import TaskKind
from taskfleet.task import Task, TaskResult


class SlotGivenUp(Exception):
    """The slot's thread was given up while its task ran, and another has taken its place. The
    thread must end, and what its task returned does not count."""


class TimedRun:
    """An attempt at a task of a kind that has a time-out. `run` is called once.

    number: the number of the attempt.
    give_up: called with the outcome, from another thread, when the task does not end.
    stop: the request that this task ends.
    """

    def __init__(
        self,
        kind: TaskKind,
        task: Task,
        number: int,
        clock: Clock,
        deadlines: Deadlines,
        give_up: Callable[[Outcome], None],
    ) -> None:
        self.stop = Stop()
        self._kind = kind
        self._limit_s = kind.timeout_s or 0.0
        self._task = task
        self._number = number
        self._clock = clock
        self._deadlines = deadlines
        self._on_give_up = give_up
        self._lock = threading.Lock()
        self._ended = self._late = self._given_up = False

    @contextlib.contextmanager
    def stopped_with(self, others: Stop) -> Iterator[None]:
        """A context in which the task is also told to end when `others` are."""
        take_back = others.on_stop(self.stop.stop)
        try:
            yield
        finally:
            take_back()

    def run(
        self, scene: Scene, started_at: float
    ) -> tuple[TaskResult | None, Failure | None, float]:
        """Run the task. Returns what `ec2_worker.attempt.run` does. Raises SlotGivenUp."""
        self._worker_id = scene.worker_id
        self._started_at, self._started = started_at, time.monotonic()
        context = SlotContext(scene, self._task.index, self._number, started_at)
        self._cancel = self._deadlines.after(self._limit_s, self._time_out)
        ended = attempt.run(self._kind, self._task.params, context, self._clock)
        with self._lock:
            self._ended = True
            late, given_up = self._late, self._given_up
        if given_up:
            raise SlotGivenUp
        self._cancel()
        if late:
            outcome = self._timed_out()
            return outcome.row, outcome.failure, ended[-1]
        return ended

    def _time_out(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._late = True
            self._cancel = self._deadlines.after(GRACE_S, self._give_up)
        self.stop.stop()

    def _give_up(self) -> None:
        with self._lock:
            if self._ended:
                return
            self._given_up = True
        self._on_give_up(self._timed_out())

    def _timed_out(self) -> Outcome:
        return attempt.cut_short(
            timed_out(self._limit_s),
            decision_for(self._kind, self._number, again=self._kind.retry_timeouts),
            index=self._task.index,
            attempt=self._number,
            started_at=self._started_at,
            duration_s=time.monotonic() - self._started,
            worker_id=self._worker_id,
        )
