"""Running chunks in a slot: where the tasks of a kind run, and recording how they ended in the
claimed bundle. Which task is next is decided by `ec2_worker.workload`, what the end of a run means
by `ec2_worker.attempt`, what happens in a process by `ec2_worker.runner`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ec2_worker import attempt
from ec2_worker.attempt import Failure, Outcome, Scene, SlotContext
from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.deadlines import Deadlines
from ec2_worker.output import BundleOutput
from ec2_worker.runner.chunk import RunInRunner
from ec2_worker.runner.forks import ForkServer
from ec2_worker.runner.frames import Work
from ec2_worker.runner.handle import Runner
from ec2_worker.runner.pool import Pool
from ec2_worker.runner.taskuser import TaskUser
from ec2_worker.stop import Stop
from ec2_worker.timed import SlotGivenUp, TimedRun
from ec2_worker.workload import CHUNK_S
from taskfleet.confined import ConfinedStore
from taskfleet.errors import SettingsError, TransientError
from taskfleet.log import bound, fields
from taskfleet.ports import Clock, ObjectStore
from taskfleet.registry import Registry, TaskKind
from taskfleet.retry import RetryDecision
from taskfleet.task import Task, TaskResult, TaskStatus, task_id

_log = logging.getLogger(__name__)
_failures = logging.getLogger(f"{__name__}.failures")
"""Failures of tasks. A logger of its own, since who reads the results may not want them twice."""

RUNNER_TRIES = 30
"""Times that a slot asks for a runner, once a second, before the worker counts as broken."""
NO_START_S = 0.1
"""Pause in seconds after a chunk of which no task could be started."""


@dataclass(frozen=True)
class Ways:
    """What an executor needs to run tasks in its two ways.

    given_up: called with a chunk, the tasks that were not started and the seconds of the others,
        when the thread that ran it was given up.
    note: writes down that a task of a careful bundle is about to start, and returns whether it may.
    runner_max_tasks, runner_max_mb: tasks and memory after which a runner process is replaced; 0
        for never.
    task_user: whose processes the runners are; None for the worker's own user.
    """

    given_up: Callable[[Chunk, list[Task], float], None] = lambda _chunk, _rest, _seconds: None
    note: Callable[[ClaimedBundle, Task], bool] = lambda _claimed, _task: True
    runner_max_tasks: int = 0
    runner_max_mb: int = 0
    task_user: TaskUser | None = None


class Executor:
    """Runs chunks. One object serves all slots. Raises SettingsError for a kind that runs in a
    process and is of no module, since a process could not find it."""

    def __init__(
        self,
        registry: Registry,
        store: ObjectStore,
        clock: Clock,
        worker_id: str,
        ways: Ways | None = None,
    ) -> None:
        self._registry = registry
        self._store = store
        self._clock = clock
        self._worker_id = worker_id
        self._ways = ways or Ways()
        self._deadlines = Deadlines()
        in_process = [name for name in registry.names if registry[name].runs_in == "process"]
        if in_process and not registry.modules:
            raise SettingsError(
                f"task kind {in_process[0]!r} runs in a process: load it with Registry.load, or "
                "give it runs_in='thread'"
            )
        self._processes = sys.platform == "linux"
        if in_process and not self._processes:
            _log.warning(
                "runner processes need Linux: all kinds run in threads, where time-outs, crashes "
                "and memory of one task meet the others",
                extra=fields("no_runners"),
            )
        self._pool = Pool(
            ForkServer(registry.modules, self._ways.task_user),
            max_tasks=self._ways.runner_max_tasks,
            max_mb=self._ways.runner_max_mb,
        )
        self.tidy = self._pool.tidy

    def run(self, chunk: Chunk) -> list[Task]:
        """Run the chunk's tasks one after the other and record each result in the claimed bundle.
        Returns the tasks that were not started, because the worker is to stop, because tasks took
        longer than expected and idle slots should share the rest, or because the process that ran
        them ended. Raises SlotGivenUp."""
        with bound(chunk.claimed.bundle.trace_id):
            if chunk.claimed.careful and not self._ways.note(chunk.claimed, chunk.tasks[0]):
                chunk.claimed.stopped.wait(NO_START_S)
                return chunk.tasks
            return self._run(chunk)

    def _run(self, chunk: Chunk) -> list[Task]:
        bundle, first = chunk.claimed.bundle, chunk.tasks[0]
        kind = self._registry[chunk.kind].under(bundle.options, first.options)
        if kind.runs_in == "process" and self._processes:
            return self._run_in_process(chunk, kind)
        return self._run_in_thread(chunk, kind)

    def close(self) -> None:
        """End the runner processes."""
        self._pool.close()

    # --- in a process ------------------------------------------------------------------------

    def _run_in_process(self, chunk: Chunk, kind: TaskKind) -> list[Task]:
        left, ambiguous = self._hand_over(chunk, kind, chunk.tasks)
        if not ambiguous:
            return left
        again = []
        for task in left:
            again += self._hand_over(chunk, kind, [task])[0]
        return again

    def _hand_over(
        self, chunk: Chunk, kind: TaskKind, tasks: list[Task]
    ) -> tuple[list[Task], bool]:
        """Have the tasks run in one runner. Returns those that are left, and whether one of them
        spoilt it."""
        claimed, stopping, store = chunk.claimed, chunk.stopping, self._store
        bundle = claimed.bundle
        owner = bundle.client_id if kind.runs_client_code else ""
        if kind.runs_client_code:
            store = ConfinedStore(store, bundle.client_id, bundle.batch_id)
        runner = self._runner(claimed, owner)
        if runner is None:
            return tasks, False
        running = RunInRunner(
            runner,
            kind,
            Work(
                kind.name,
                bundle.batch_id,
                bundle.client_id,
                self._worker_id,
                tasks,
                [claimed.attempt(task.index) for task in tasks],
                _patience_s(chunk),
                bundle.options,
            ),
            store,
            self._clock,
            record=lambda outcome: self._record(chunk, kind, outcome.row, outcome.failure),
            output=BundleOutput() if chunk.is_copy else claimed.output,
            report=lambda news: self._report(chunk, news.index, news.started_at, news.progress),
            stopped=stopping.event.is_set,
        )
        take_back = stopping.on_stop(runner.end)
        fit = running.run()
        take_back()
        # Once the bundle was stopped, the runner may be asked to end at any time.
        if fit and not stopping.event.is_set():
            self._pool.give(runner)
        else:
            self._pool.discard(runner)
        left = [tasks[position] for position in running.left()]
        if len(left) == len(tasks) and not running.ambiguous:
            stopping.event.wait(NO_START_S)
        return left, running.ambiguous

    def _runner(self, claimed: ClaimedBundle, owner: str) -> Runner | None:
        """The owner's runner, as soon as one can be had; None if the bundle is stopped before."""
        tries = 0
        while not claimed.stopped.is_set():
            try:
                return self._pool.take(owner)
            except TransientError as error:
                tries += 1
                if tries == RUNNER_TRIES:
                    raise
                _log.warning(
                    "no runner, trying again", extra=fields("no_runner", reason=str(error))
                )
                claimed.stopped.wait(1.0)
        return None

    # --- in this thread ----------------------------------------------------------------------

    def _run_in_thread(self, chunk: Chunk, kind: TaskKind) -> list[Task]:
        claimed, clock = chunk.claimed, self._clock
        scene = self._scene(chunk, chunk.stopping)
        began_at = started_at = clock.now()
        give_back_at = started_at + _patience_s(chunk)
        for position, task in enumerate(chunk.tasks):
            if position and (started_at > give_back_at or claimed.stopped.is_set()):
                return chunk.tasks[position:]
            try:
                if kind.timeout_s is None:
                    number = claimed.attempt(task.index)
                    context = SlotContext(scene, task.index, number, started_at)
                    row, failure, started_at = attempt.run(kind, task.params, context, clock)
                else:
                    timed = TimedRun(
                        kind,
                        task,
                        claimed.attempt(task.index),
                        self._clock,
                        self._deadlines,
                        partial(self._give_up, chunk, position, kind, began_at),
                    )
                    scene_of_one = self._scene(chunk, timed.stop)
                    with timed.stopped_with(chunk.stopping):
                        row, failure, started_at = timed.run(scene_of_one, started_at)
                if row is not None:
                    self._record(chunk, kind, row, failure)
            except SlotGivenUp:
                raise
            except Exception as error:  # noqa: BLE001 - one task must not stop the others
                _log.exception(
                    "a task's end could not be recorded", extra=fields("task_unrecorded")
                )
                started_at = self._fail(chunk, task, started_at, error)
        return []

    def _give_up(
        self, chunk: Chunk, position: int, kind: TaskKind, began_at: float, outcome: Outcome
    ) -> None:
        """Record a task whose thread is not waited for, and have the slot's thread replaced."""
        claimed = chunk.claimed
        with bound(claimed.bundle.trace_id):
            _log.error(
                "a task did not end at its time-out; its thread is given up and replaced",
                extra=fields(
                    "slot_given_up",
                    task_id=task_id(claimed.bundle.batch_id, outcome.row.index),
                    kind=kind.name,
                    worker_id=self._worker_id,
                ),
            )
            self._record(chunk, kind, outcome.row, outcome.failure)
            elapsed_s = self._clock.now() - began_at
            self._ways.given_up(chunk, chunk.tasks[position + 1 :], elapsed_s)

    def _scene(self, chunk: Chunk, stop: Stop) -> Scene:
        batch_id, client_id = chunk.claimed.bundle.batch_id, chunk.claimed.bundle.client_id
        report = partial(self._report, chunk)
        return Scene(batch_id, client_id, self._worker_id, self._store, stop, self._clock, report)

    def _report(self, chunk: Chunk, index: int, started_at: float, progress: list[Any]) -> None:
        """Take in the progress of a running task; that of a second copy is left out."""
        if not chunk.is_copy:
            chunk.claimed.report(index, started_at, progress)

    # --- recording ---------------------------------------------------------------------------

    def _fail(self, chunk: Chunk, task: Task, started_at: float, error: Exception) -> float:
        """Record FAILED for a task whose kind or whose error broke this module, and return the
        time."""
        row = TaskResult(
            task.index,
            TaskStatus.FAILED,
            error=f"the worker could not record its result: {type(error).__name__}",
            attempts=chunk.claimed.attempt(task.index),
            started_at=round(started_at, 3),
            worker_id=self._worker_id,
        )
        if chunk.counts(row):
            chunk.claimed.record(row)
        return self._clock.now()

    def _record(
        self, chunk: Chunk, kind: TaskKind, row: TaskResult, failure: Failure | None
    ) -> None:
        claimed = chunk.claimed
        if not chunk.counts(row):
            return
        if failure is not None:
            # An expected failure, such as the exception of a user's function, is an answer.
            if failure.decision is RetryDecision.EXHAUSTED and not failure.expected:
                claimed.poison = (
                    f"task {row.index}: out of attempts ({failure.attempt}): {failure.text}"
                )
            self._log_failure(claimed, kind, failure)
        claimed.record(row)
        if claimed.running:
            claimed.running.pop(row.index, None)

    def _log_failure(self, claimed: ClaimedBundle, kind: TaskKind, failure: Failure) -> None:
        retry = failure.decision is RetryDecision.RETRY
        batch_id = claimed.bundle.batch_id
        _failures.log(
            # A permanent error is an answer to the client. Only an unexpected one is an error here.
            logging.INFO if failure.expected else logging.ERROR,
            "a task failed and will be tried again" if retry else "a task failed",
            extra=fields(
                "task_retried" if retry else "task_failed",
                task_id=task_id(batch_id, failure.index),
                batch_id=batch_id,
                kind=kind.name,
                attempt=failure.attempt,
                worker_id=self._worker_id,
                error=failure.text,
                where=failure.where,
            ),
        )


def _patience_s(chunk: Chunk) -> float:
    """Returns the seconds after which a chunk starts no more tasks: it takes longer than expected,
    and idle slots should share the rest."""
    return 2 * max(CHUNK_S, chunk.expected_s)
