"""Bundles: tasks that share one SQS message and are claimed together. Owns how a batch is cut into
bundles; not the messages that carry them (`taskfleet.wire.queues`)."""

from __future__ import annotations

import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from taskfleet.bill import NOTHING, Spend
from taskfleet.options import Options
from taskfleet.pace import Sample
from taskfleet.task import Task, TaskResult, compacted
from taskfleet.trace import Traceparent, trace_id

BUNDLE_MAX_BYTES = 60_000
"""Most bytes of the tasks' JSON in one bundle. With its other fields a message stays within 64 KiB,
which SQS bills as one request ("Amazon SQS pricing")."""
BUNDLE_MAX_TASKS = 2_000
"""Most tasks in one bundle. The results of twice as many would often not fit a response
(`taskfleet.wire.queues.RESPONSE_MAX_BYTES`), and twice as many cost hardly less time or money."""
BUNDLE_MAX_S = 2.0
"""Expected work in one bundle, in seconds, and the most of it. The calls for one bundle take some
20 ms of the processors of all processes together, and cost about as much as a second of a slot
(`taskfleet.quote.BUNDLE_CALLS_USD`). A worker spreads each bundle over its slots, so smaller ones
would save time only where workers have few slots."""
UNKNOWN_TASK_S = 0.25
"""Seconds that a task of unknown duration counts as, and then also the least of a bundle. If it
takes longer, the worker returns the rest of its bundle to the queue."""
FEWEST_BUNDLES = 32
"""About the least number of bundles of a batch with tasks of unknown duration, if it is large
enough: such a bundle may take far longer than expected. A fleet with more slots gets one bundle for
each slot."""
QUICKEST_TASK_S = 20e-6
"""Time to run an empty task, in seconds."""
DEFAULT_SLOTS = 16
"""Default number of slots of a worker."""


class LegacyIds(msgspec.Struct, frozen=True):
    """The ids in a message of the 2014 form. Each is a JSON integer or string."""

    clientID: Any  # noqa: N815 - the wire's names
    jobID: Any  # noqa: N815


class Bundle(msgspec.Struct, frozen=True):
    """Tasks that are claimed and executed together.

    job_id: `<batch_id>:<number>`, or `<clientID>;<jobID>` for a message of the 2014 form.
    batch_id: empty for a message of the 2014 form, which belongs to no batch.
    legacy: the ids of a message of the 2014 form, otherwise None.
    traceparent: the batch's trace context; None for a batch that has none.
    options: the options of the batch; None for a batch that has none.
    """

    job_id: str
    client_id: str
    batch_id: str
    tasks: list[Task]
    legacy: LegacyIds | None = None
    traceparent: Traceparent | None = None
    options: Options | None = None

    @property
    def trace_id(self) -> str | None:
        """The id of the trace; None without one."""
        return trace_id(self.traceparent)


class Response(msgspec.Struct, frozen=True):
    """A finished bundle, as published on the queue `Processed_Task`. All its results are final.

    timings: durations of the tasks by the name of their pace, for kinds that do not predict them.
    spend: AWS calls that the worker made for the bundle, with its share of calls that served
        several bundles.
    traceparent: the batch's trace context; None for a batch that has none.
    checksum: that of the bundle as it is recorded (`taskfleet.ports.TaskMonitor.commit`).
    """

    job_id: str
    client_id: str
    batch_id: str
    results: list[TaskResult]
    legacy: LegacyIds | None = None
    timings: dict[str, Sample] = {}
    spend: Spend = NOTHING
    traceparent: Traceparent | None = None
    checksum: int = 0

    @property
    def trace_id(self) -> str | None:
        """The id of the trace; None without one."""
        return trace_id(self.traceparent)


def job_id(batch_id: str, number: int) -> str:
    """Returns the id of a bundle: `<batch_id>:<number>`."""
    return f"{batch_id}:{number}"


def bundle_number(job: str) -> int:
    """Returns the number in the id of a bundle. Raises ValueError for an id of the 2014 form."""
    return int(job.rpartition(":")[2])


def borders(bundles: Sequence[Sequence[Task]]) -> int:
    """Returns a checksum of where a batch is cut, the CRC-32 of its bundles' lengths. Two ways of
    cutting the same tasks agree in it only if they are the same, but for one case in 4e9."""
    return zlib.crc32(",".join(str(len(tasks)) for tasks in bundles).encode())


class Plan(msgspec.Struct, frozen=True):
    """The inputs by which a batch is cut into bundles. They are recorded with the batch, because
    they change with time and the same batch must always be cut into the same bundles.

    estimates: expected seconds of one task by kind, for kinds that do not predict them.
    slots: slots of the whole fleet.
    """

    estimates: dict[str, float] = {}
    slots: int = DEFAULT_SLOTS


def target_s(total_s: float, slots: int, *, unknown: bool) -> float:
    """Returns the seconds of expected work that one bundle of a batch should hold: `BUNDLE_MAX_S`.
    If the batch has tasks of `unknown` duration, it is an equal share of the batch for each slot,
    for at least `FEWEST_BUNDLES` slots, and at least `UNKNOWN_TASK_S`. `total_s` holds the expected
    seconds of all tasks."""
    if not unknown:
        return BUNDLE_MAX_S
    return min(BUNDLE_MAX_S, max(UNKNOWN_TASK_S, total_s / max(FEWEST_BUNDLES, slots)))


def depends_on_slots(total_s: float, *, unknown: bool) -> bool:
    """Returns whether a batch of `total_s` seconds of expected work may be cut differently for a
    large fleet than for a small one. `unknown` is as for `target_s`."""
    return unknown and total_s > UNKNOWN_TASK_S * FEWEST_BUNDLES


def cut(
    tasks: Sequence[Task],
    expected_s: Sequence[float | None],
    *,
    slots: int = DEFAULT_SLOTS,
    max_tasks: int = BUNDLE_MAX_TASKS,
    max_bytes: int = BUNDLE_MAX_BYTES,
) -> Iterator[list[Task]]:
    """Cut `tasks`, in order, into bundles. Each bundle holds as nearly as can be `target_s` of
    expected work, and at most `BUNDLE_MAX_S`, `max_tasks` tasks and `max_bytes` bytes of JSON; a
    task that alone exceeds a limit gets a bundle of its own. The result depends on the arguments
    only.

    expected_s: expected seconds of each task, None where unknown.
    slots: slots of the whole fleet.
    """
    costs_s = [
        UNKNOWN_TASK_S if s is None else s if s > QUICKEST_TASK_S else QUICKEST_TASK_S
        for s in expected_s
    ]
    total_s = sum(costs_s)
    target = target_s(total_s, slots, unknown=None in expected_s)
    # Tolerates rounding errors in sums.
    most_s = BUNDLE_MAX_S * (1 + 1e-9)
    nearly_s = target * (1 - 1e-9)
    encode = msgspec.json.Encoder().encode
    # What all tasks before one hold together. Sums of costs grow, so a bundle's end can be searched
    # for: batches have a hundred thousand tasks.
    seconds = list(accumulate(costs_s, initial=0.0))
    sizes = list(accumulate((len(encode(sent)) + 1 for sent in compacted(tasks)), initial=0))
    half_done_s = [(before + after) / 2 for before, after in pairwise(seconds)]
    start = 0
    while start < len(tasks):
        begun_s, last = seconds[start], min(start + max_tasks, len(tasks))
        end = min(
            # without the task there, the bundle is nearer to its target
            bisect_left(half_done_s, begun_s + nearly_s, start, last),
            bisect_right(seconds, begun_s + most_s, start, last + 1) - 1,
            bisect_right(sizes, sizes[start] + max_bytes, start, last + 1) - 1,
        )
        end = max(end, start + 1)
        yield list(tasks[start:end])
        start = end
