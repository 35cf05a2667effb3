"""The promises of the protocol, as rules on a step of the model and on the state after it. Owns the
judgement; `tests.model.explore` finds the steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskfleet.batch import Tally
from taskfleet.lease import CAREFUL_AFTER, BundleStatus
from taskfleet.ports import BundleRecord
from taskfleet.scheduler.audit import Audit
from taskfleet.task import TaskResult, TaskStatus
from tests.model.memory import EMPTY


def fault_of_step(model: Any, before: Any, after: Any) -> str:
    """Returns which promise the step breaks; empty for none."""
    if before.shared == after.shared:
        return ""
    return next(_faults(model, before.shared, after.shared), "")


def _faults(model: Any, before: Any, after: Any) -> Iterator[str]:
    world, ghost, batch = model.world, after.ghost, after.batch
    for number, (old, item) in enumerate(zip(before.items, after.items, strict=True)):
        tasks = world.bundles[number].tasks
        done = item is not None and item[0] is BundleStatus.DONE
        if old is not None:
            if old[0] is BundleStatus.DONE and old != item:
                yield f"the record of bundle {number} changed after it was DONE"
            kept = {row.index: row for row in (item[5] if item else ())}
            # What an older heartbeat that comes late takes back is run or recorded again.
            for row in old[5] if len(after.late) == len(before.late) else ():
                if row.status.final and _content(kept.get(row.index)) != _content(row):
                    yield f"task {row.index} lost its recorded result, or got another one"
        if item is not None:
            for row in item[5]:
                yield from _faults_of_row(model, after, row)
            if done and sorted(row.index for row in item[5]) != [task.index for task in tasks]:
                yield f"bundle {number} is DONE, and not every task has one row"
            if done and not all(row.status.final for row in item[5]):
                yield f"bundle {number} is DONE, and a task has no final result"
            if item[2] > 1 + ghost.losses[number]:
                yield f"bundle {number} counts more lost claims than leases that ended"
        for task in tasks:
            allowed = 1 + ghost.losses[number] + ghost.excused[task.index]
            if ghost.starts[task.index] > allowed:
                yield f"task {task.index} began {ghost.starts[task.index]} times for no reason"
    if ghost.kills > CAREFUL_AFTER + model.scenario.max_attempts * len(model.scenario.tasks):
        yield f"the tasks of the batch have ended {ghost.kills} workers"
    tally = batch.tally
    if before.batch.finished and batch != before.batch:
        yield "the batch changed after its end"
    rows = [row for item in after.items if item is not None for row in item[5]]
    final = Tally.of(rows)
    if any(getattr(tally, n) > getattr(final, n) for n in ("succeeded", "failed", "cancelled")):
        yield f"the batch counts {tally}, and recorded is {final}"
    if batch.finished and tally.total != batch.total:
        yield f"the batch ended with {tally.total} of {batch.total} tasks"


def _content(row: TaskResult | None) -> Any:
    return None if row is None else (row.status, row.result, row.error, row.attempts)


def _faults_of_row(model: Any, shared: Any, row: TaskResult) -> Iterator[str]:
    index, ghost = row.index, shared.ghost
    nature = model.scenario.tasks[index]
    if row.attempts > ghost.charged[index]:
        yield f"task {index} is charged {row.attempts} attempts, and {ghost.charged[index]} began"
    if row.status is TaskStatus.SUCCEEDED and (
        not ghost.fine[index] or row.result != f"result {index}"
    ):
        yield f"task {index} has a result that no run of it gave: {row.result!r}"
    if row.status is TaskStatus.CANCELLED and not ghost.cancelled:
        yield f"task {index} is CANCELLED, and nobody cancelled it"
    if row.status is TaskStatus.FAILED:
        error = row.error or ""
        lost = "was lost while it ran" in error
        if nature == "bad" and error == "bad":
            return
        if nature == "killer" and lost:
            return
        spent = row.attempts >= model.scenario.max_attempts
        if nature == "flaky" and spent and error == "not yet":
            return
        if nature == "timed" and spent and error.startswith("timed out"):
            return
        yield f"task {index}, which is {nature}, is FAILED after {row.attempts} attempts: {error}"


def at_rest(model: Any, state: Any) -> bool:
    """Returns whether all work is done: nothing is queued, running or unanswered, the batch has
    ended, and its audit is balanced."""
    shared = state.shared
    if shared.queue or shared.responses or any(state.begun):
        return False
    if any(memory != EMPTY for memory in state.memories):
        return False
    batch, world = shared.batch, model.world
    if not batch.finished:
        return False
    audit = Audit(batch, set(shared.counted), lambda row: row.result)
    for number, item in enumerate(shared.items):
        if item is None:
            return False
        world.thaw(shared)
        (record,) = world.monitor.bundles([world.jobs[number]])
        assert isinstance(record, BundleRecord)
        audit.bundle(number, record)
    receipt = audit.receipt(batch.created_at)
    return receipt.balanced and receipt.total == batch.total
