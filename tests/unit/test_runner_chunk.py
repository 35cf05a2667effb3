"""What a worker believes of a runner: the judging of a chunk's outcomes, on a runner that says
what the test wants."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ec2_worker.attempt import Outcome
from ec2_worker.output import BundleOutput
from ec2_worker.runner.chunk import RunInRunner
from ec2_worker.runner.frames import Ended, Work
from ec2_worker.runner.note import NOBODY, Started
from taskfleet.memory import ManualClock, MemoryStore
from taskfleet.registry import TaskKind
from taskfleet.task import Task, TaskResult, TaskStatus
from tests.support.worker import run_nothing


class Told:
    """A runner that answers with these messages, one after another, while the note says that
    `started` runs. It is its own note."""

    exit = None
    tasks_run = 0
    resident_mb = 0

    def __init__(self, started: Started, messages: list[Ended]) -> None:
        self.started = started
        self.messages = messages
        self.ended = False
        self.output = os.memfd_create("output")

    @property
    def note(self) -> Told:
        return self

    def read(self) -> Started:
        return self.started

    def send(self, _work: Work) -> None:
        """Take the work, and do nothing."""

    def limit_memory(self, _limit_mb: int | None) -> None:
        """Take the limit, and do nothing."""

    def wait(self, _seconds: float | None) -> list[tuple[Ended, bytes]]:
        # The first answer comes after a look at the time.
        if self.started.task != NOBODY and not self.ended:
            return []
        return [(self.messages.pop(0), b"")]

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def judged() -> Iterator[Any]:
    """Runs one task, of index 0, in a runner. Returns the rows that are recorded."""
    runners: list[Told] = []

    def run(runner: Told, **options: Any) -> list[TaskResult]:
        runners.append(runner)
        rows: list[TaskResult] = []
        RunInRunner(
            runner,  # type: ignore[arg-type]
            TaskKind("told", run_nothing, **options),
            Work("told", "b", "alice", "w-1", [Task(0, "told", None)], [1], 1.0),
            MemoryStore(),
            ManualClock(),
            record=lambda outcome: rows.append(outcome.row),
            output=BundleOutput(),
            report=lambda _progress: None,
            stopped=lambda: False,
        ).run()
        return rows

    yield run
    for runner in runners:
        os.close(runner.output)


def succeeded(index: int, duration_s: float = 0.1) -> Outcome:
    return Outcome(TaskResult(index, TaskStatus.SUCCEEDED, "done", None, 1, 0.0, duration_s))


def test_a_runner_answers_for_its_own_tasks_only(judged: Any) -> None:
    """A user's code may write to the pipe what it wants."""
    said = Ended([succeeded(7), succeeded(0)], [], True, 1)
    rows = judged(Told(Started(0.0, NOBODY, 0), [said]))
    assert [row.index for row in rows] == [0]


@pytest.mark.parametrize(
    ("duration_s", "status", "error"),
    [(0.9, TaskStatus.FAILED, "timed out after 0.2 s"), (0.1, TaskStatus.SUCCEEDED, None)],
)
def test_a_task_that_is_ended_for_its_time_has_its_result_only_if_it_kept_it(
    judged: Any, duration_s: float, status: TaskStatus, error: str | None
) -> None:
    """It may end between its time and the signal."""
    runner = Told(
        Started(time.monotonic() - 1, 0, 0), [Ended([succeeded(0, duration_s)], [], True, 1)]
    )
    (row,) = judged(runner, timeout_s=0.2)
    assert runner.ended
    assert (row.status, row.error) == (status, error)
