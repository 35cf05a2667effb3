"""Bundle: the tasks that share one SQS message, and the unit of claim. Owns how a batch is cut into
bundles; not how bundles travel (`taskfleet.wire.queues`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from taskfleet.bill import NOTHING, Spend
from taskfleet.pace import Sample
from taskfleet.task import Task, TaskResult

BUNDLE_MAX_BYTES = 60_000
"""Of the tasks' JSON; with the envelope a message stays within one 64 KiB billing chunk of SQS."""
BUNDLE_MAX_TASKS = 1_000
BUNDLE_MAX_S = 2.0
"""Most expected work in a bundle."""
BUNDLE_MIN_S = 0.25
"""Least expected work that is worth a message of its own. A task of unknown duration counts as this
much, since a worker gives back what turns out longer."""
FEWEST = 32
"""Bundles that a batch with enough work is cut into at least, so that no single bundle holds up its
end. A larger fleet gets one for each slot. A worker spreads each bundle over its slots, so more
bundles would cost calls and save no time."""
QUICKEST_TASK_S = 20e-6
"""Seconds that running even an empty task takes."""
DEFAULT_SLOTS = 16
"""Slots of a worker unless it is told otherwise."""


class LegacyIds(msgspec.Struct, frozen=True):
    """How a program of 2014 named its task; both are any JSON scalar."""

    clientID: Any  # noqa: N815 - the wire's names
    jobID: Any  # noqa: N815


class Bundle(msgspec.Struct, frozen=True):
    """`job_id` is `<batch_id>:<number>`, or `<clientID>;<jobID>` for the 2014 form, which has no
    batch: there `batch_id` is empty and `legacy` holds the two ids."""

    job_id: str
    client_id: str
    batch_id: str
    tasks: list[Task]
    legacy: LegacyIds | None = None


class Response(msgspec.Struct, frozen=True):
    """A finished bundle as published on `Processed_Task`; every result in it is final."""

    job_id: str
    client_id: str
    batch_id: str
    results: list[TaskResult]
    legacy: LegacyIds | None = None
    timings: dict[str, Sample] = {}
    """How long tasks took, by kind, for kinds of which nobody knows beforehand."""
    spend: Spend = NOTHING
    """The worker's AWS calls for this bundle, shares of shared ones among them."""


def job_id(batch_id: str, number: int) -> str:
    """`<batch_id>:<number>`."""
    return f"{batch_id}:{number}"


def bundle_number(job: str) -> int:
    """The number in a `Job_ID`; ValueError for one of the 2014 form."""
    return int(job.rpartition(":")[2])


class Plan(msgspec.Struct, frozen=True):
    """What a batch is cut by: the expected seconds of a task by kind, for kinds that do not say
    themselves, and the slots of the fleet. Recorded with the batch, since both change with time
    and the same batch must always be cut the same way."""

    estimates: dict[str, float] = {}
    slots: int = DEFAULT_SLOTS


def target_s(costs_s: Sequence[float], slots: int) -> float:
    """How much expected work a bundle should hold, for tasks that cost so much each: about two
    seconds, less when the batch is small for the fleet."""
    return min(BUNDLE_MAX_S, max(BUNDLE_MIN_S, sum(costs_s) / max(FEWEST, slots)))


def depends_on_slots(total_s: float) -> bool:
    """Whether so much expected work is cut otherwise for a large fleet than for a small one."""
    return total_s > BUNDLE_MIN_S * FEWEST


def cut(
    tasks: Sequence[Task],
    expected_s: Callable[[Task], float | None],
    *,
    slots: int = DEFAULT_SLOTS,
    max_tasks: int = BUNDLE_MAX_TASKS,
    max_bytes: int = BUNDLE_MAX_BYTES,
) -> Iterator[list[Task]]:
    """Cut `tasks`, in order, into runs of about `target_s` of expected work, at most `max_tasks`
    tasks and `max_bytes` bytes of JSON each.

    A task that alone is over a cap travels alone. The cut depends on the arguments only.
    """
    costs_s = [_cost_s(expected_s(task)) for task in tasks]
    target = target_s(costs_s, slots) * (1 + 1e-9)  # sums of floats stray by less
    encode = msgspec.json.Encoder().encode
    run: list[Task] = []
    run_s = run_bytes = 0.0
    for task, seconds in zip(tasks, costs_s, strict=True):
        size = len(encode(task)) + 1
        full = len(run) >= max_tasks or run_bytes + size > max_bytes or run_s + seconds > target
        if run and full:
            yield run
            run, run_s, run_bytes = [], 0.0, 0.0
        run.append(task)
        run_s += seconds
        run_bytes += size
    if run:
        yield run


def _cost_s(expected_s: float | None) -> float:
    return BUNDLE_MIN_S if expected_s is None else max(expected_s, QUICKEST_TASK_S)
