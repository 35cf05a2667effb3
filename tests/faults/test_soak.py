"""The soak, for half a minute or, with `--deep`, for two; and that its judges find what they are
there for."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from taskfleet.scheduler.audit import digest_line
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import AuditView
from taskfleet.wire.http.results import ResultView
from tests.faults import soak
from tests.faults.flat import SAMPLES_MIN, Sample, courses
from tests.faults.follow import Follower, audit_faults
from tests.faults.soak_work import Needs, judged, kind_of, mixed, tasks_of

BATCH = "0" * 26
NEEDS = Needs("a" * 64, "b" * 26)


SLICE = soak.Plan(
    minutes=0.2, tasks=4_000, batch=200, clients=4, threads=8, kill_every_s=3.0, kills=4
)
"""The part of `make test`. It kills only a few times, so that it ends on a busy computer, too."""


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_nothing_is_lost_or_doubled_while_processes_are_killed(
    figures: Any, deep: bool, tmp_path: Path
) -> None:
    found = figures("soak", unit="tasks")
    plan = soak.Plan(minutes=2.0, tasks=128_000) if deep else SLICE
    outcome = soak.run(plan, tmp_path, lambda text: print(text, flush=True))
    soak.show(outcome)
    verdict = outcome.verdict
    found.add(tried=verdict.tasks, fired=outcome.killed.total())
    found.judge(lost=verdict.lost, doubled=verdict.doubled, wrong=verdict.wrong)
    found.rows += outcome.rows
    assert not verdict.notes, (plan.seed, verdict.notes)
    assert verdict.tasks == outcome.accepted == plan.tasks
    assert outcome.killed.total() >= 2
    assert {"sleep", "python", "command", "animoto"} == outcome.kinds.keys()


# --- the judges -----------------------------------------------------------------------------


def row(index: int, task: Any) -> ResultView:
    """The right row of a task."""
    kind, result = kind_of(task), None
    if kind == "command":
        result = {"exit_status": 0, "stdout": task.rpartition(" ")[2] + "\n"}
    elif kind == "python":
        result = mixed(task["params"]["args"][0])
    elif kind == "animoto":
        key = f"movies/{BATCH}/{index}.mp4"
        result = {"key": key, "bytes": 9, "duration_s": 0.8, "pictures": 2}
    done = TaskStatus.SUCCEEDED
    return ResultView(f"{BATCH}/{index}", index, task, done, result, None, 1, None, 0.1, "w")


TASKS = tasks_of("seed", 1, 500, NEEDS)
ROWS = [row(index, task) for index, task in enumerate(TASKS)]


def test_the_rows_of_a_batch_that_are_right_are_found_right() -> None:
    assert {"sleep", "python", "command", "animoto"} == {kind_of(task) for task in TASKS}
    assert judged(BATCH, TASKS, ROWS).broken == 0


def test_a_row_that_is_missing_is_lost() -> None:
    found = judged(BATCH, TASKS, ROWS[1:])
    assert (found.lost, found.doubled, found.wrong) == (1, 0, 0)


def test_a_row_that_comes_twice_is_doubled() -> None:
    found = judged(BATCH, TASKS, [*ROWS, ROWS[7]])
    assert (found.lost, found.doubled, found.wrong) == (0, 1, 0)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("python", {"square": 2}),
        ("command", {"stdout": "another\n"}),
        ("animoto", {"key": f"movies/{BATCH}/501.mp4"}),
        ("animoto", {"pictures": 1}),
    ],
)
def test_a_result_of_another_task_is_wrong(kind: str, change: dict[str, Any]) -> None:
    index = next(i for i, task in enumerate(TASKS) if kind_of(task) == kind)
    swapped = changed(ROWS[index], result={**ROWS[index].result, **change})
    assert judged(BATCH, TASKS, [*ROWS[:index], swapped, *ROWS[index + 1 :]]).wrong == 1


def test_a_sleep_whose_row_is_of_another_sleep_is_wrong() -> None:
    index = TASKS.index("sleep 5")
    other = changed(ROWS[index], task="sleep 1")
    assert judged(BATCH, TASKS, [*ROWS[:index], other, *ROWS[index + 1 :]]).wrong == 1


def test_a_task_that_failed_is_wrong() -> None:
    failed = changed(ROWS[0], status=TaskStatus.FAILED, error="it died")
    found = judged(BATCH, TASKS, [failed, *ROWS[1:]])
    assert found.wrong == 1
    assert "it died" in found.notes[0]


def test_what_never_ends_is_lost() -> None:
    follower = Follower(None, None)  # type: ignore[arg-type]  # it calls nobody
    follower.follow(BATCH, TASKS)
    follower.give_up()
    assert follower.verdict.lost == len(TASKS)


def test_an_audit_that_does_not_balance_or_has_another_digest_is_a_fault() -> None:
    tasks, rows = ["sleep 5"], [row(0, "sleep 5")]
    line = digest_line(0, "SUCCEEDED", None, None)
    right = AuditView(
        *(BATCH, "", True, True, 1, 1, 0, 0, 1, 1, 1), hashlib.sha256(line).hexdigest(), [], 0
    )
    assert audit_faults(right, tasks, rows) == []
    unbalanced = msgspec.structs.replace(right, balanced=False, faults=["task 0 has no result"])
    assert audit_faults(unbalanced, tasks, rows) == ["task 0 has no result"]
    assert len(audit_faults(right, tasks, [changed(rows[0], error="another")])) == 1


def changed(of: ResultView, **fields: Any) -> ResultView:
    return msgspec.structs.replace(of, **fields)


STILL = Sample(memory_mb=90, files=170, threads=33, processes=33)


def unsteady(samples: list[Sample]) -> list[str]:
    """Names of the measures that are not flat."""
    return [course.name for course in courses(samples) if not course.flat]


def test_a_process_that_grows_at_first_and_then_stays_is_flat() -> None:
    warm_up = [replace(STILL, memory_mb=60 + n, files=20 + n, threads=n) for n in range(30)]
    assert unsteady(warm_up + [STILL] * 90) == []


@pytest.mark.parametrize(
    ("name", "step"), [("memory_mb", 0.6), ("files", 0.5), ("threads", 0.2), ("processes", 0.2)]
)
def test_a_leak_is_found(name: str, step: float) -> None:
    leaks = [replace(STILL, **{name: getattr(STILL, name) + n * step}) for n in range(120)]
    assert unsteady(leaks) == [name]


def test_a_process_that_lived_too_short_is_not_judged() -> None:
    assert courses([STILL] * (SAMPLES_MIN - 1)) == []
