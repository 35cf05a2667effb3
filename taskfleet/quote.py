"""Quotes: how long a batch is expected to take and what it is expected to cost, before it runs, and
how good such quotes were. Owns the rules, as pure functions, and the form in which a batch keeps
its quote; not the reading of what they rest on (`taskfleet.scheduler.quotes`).

The time is that of tasks which free slots take one after the other (`taskfleet.makespan`), with
what is uncertain about the means, the boots and the rule itself.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

import msgspec

from taskfleet.bill import DYNAMODB_WRITE_USD, SQS_REQUEST_USD
from taskfleet.makespan import Course
from taskfleet.pace import ASSUMED_TASK_S, SLOW_WEIGHT, Pace, Sample

Z90 = 1.2816
"""The standard deviations that lie between the median and the 90th percentile of a normal
distribution."""
REMEMBERED = 2 / SLOW_WEIGHT
"""Tasks that a learned mean is worth at most, since older ones fade."""
UNKNOWN_FACTOR = 5.0
"""The 90th percentile of the duration of tasks of which nothing is known, relative to the assumed
duration."""
MODEL_ERROR = 0.08
"""Relative error of the model itself, as a standard deviation."""
HANDLING_S = 0.6
"""Seconds from a submission to the start of its first task on a worker that waits, and from the end
of its last task until that is counted."""
HANDLING_SD_S = 0.6
"""The deviation of `HANDLING_S`."""
ENDLESS_S = 3_153_600_000.0
"""Seconds that stand in a quote for a time without end, as of a batch for which no slot is there
and no machine may be launched: a hundred years."""

BATCH_CALLS_USD = 2.0e-6
"""AWS calls of a batch that do not depend on its size, in dollars: it is recorded, announced and
started."""
BUNDLE_CALLS_USD = 2 * DYNAMODB_WRITE_USD + 1.0 * SQS_REQUEST_USD
"""AWS calls of each bundle among many, in dollars: a claim and a commit; sending, receiving,
answering, counting and deleting go in tens."""
LONE_BUNDLE_USD = DYNAMODB_WRITE_USD + 6 * SQS_REQUEST_USD
"""AWS calls that each bundle needs beside these if the calls for it serve no other bundle."""
SHARING_A_S = 10.0
"""Bundles that end in a second, from which on most calls serve several of them."""
TASK_CALLS_USD = 7.0e-9
"""AWS calls of each task, in dollars: its row takes a few bytes of the bundle's item."""
RENEWALS_USD_S = 0.1 * (DYNAMODB_WRITE_USD + SQS_REQUEST_USD)
"""AWS calls for keeping one bundle claimed, in dollars a second."""


class TaskGroup(msgspec.Struct, frozen=True):
    """Tasks of which the same is known.

    name: kind of the tasks, or the name of their pace.
    tasks: how many there are.
    mean_s: expected seconds of one task.
    sd_s: standard deviation of their durations, in seconds.
    learned: tasks from which this was learned; 0 for a mere assumption, None where the kind says
        beforehand how long its tasks take.
    slots_each: slots that one task takes up, over 1 for a kind of which a machine runs fewer.
    """

    name: str
    tasks: int
    mean_s: float
    sd_s: float = 0.0
    learned: int | None = None
    slots_each: float = 1.0

    @property
    def mean_error_s(self) -> float:
        """The standard error of the mean, in seconds."""
        if self.learned is None:
            return 0.0
        if not self.learned:
            return self.mean_s * (UNKNOWN_FACTOR - 1) / Z90
        return self.sd_s / math.sqrt(min(float(self.learned), REMEMBERED))


class Work(msgspec.Struct, frozen=True):
    """The work of a batch: its tasks, and the bundles they are cut into."""

    groups: tuple[TaskGroup, ...]
    bundles: int = 1

    @property
    def tasks(self) -> int:
        return sum(group.tasks for group in self.groups)

    @property
    def slot_s(self) -> float:
        """Expected seconds for which its tasks occupy slots."""
        return sum(g.tasks * g.mean_s * g.slots_each for g in self.groups)

    @property
    def busy_s(self) -> float:
        """Expected seconds of its tasks together."""
        return sum(g.tasks * g.mean_s for g in self.groups)

    @property
    def busy_error_s(self) -> float:
        """The standard deviation of `busy_s`: the tasks differ, and the means may be wrong."""
        scatter = sum(g.tasks * g.sd_s**2 for g in self.groups if g.learned is not None)
        wrong = sum((g.tasks * g.mean_error_s) ** 2 for g in self.groups)
        return math.sqrt(scatter + wrong)


class Supply(msgspec.Struct, frozen=True):
    """The slots that a batch finds.

    ready: slots of workers that are there.
    coming: slots of machines that boot or will be launched.
    coming_s: seconds until those are there.
    coming_sd_s: the deviation of that.
    ahead_s: slot-seconds of other work that goes before.
    """

    ready: float
    coming: float = 0.0
    coming_s: float = 0.0
    coming_sd_s: float = 0.0
    ahead_s: float = 0.0


class Quote(msgspec.Struct, frozen=True, array_like=True):
    """The quote of a batch as it is kept with it, as an array of few bytes.

    p50_s, p90_s: seconds from the submission to the end, which are kept in half and in nine tenths
        of all cases.
    usd: dollars of the machine time of its tasks and of its AWS calls.
    machines: machines that were expected to work on it.
    usd_a_busy_s: dollars of one second of a task, by which the actual dollars are counted.
    """

    p50_s: float
    p90_s: float
    usd: float
    machines: int
    usd_a_busy_s: float


def finite(seconds: float) -> float | None:
    """Returns the seconds of a quote, None for a time without end."""
    return None if seconds >= ENDLESS_S else seconds


def kept(quote: Quote) -> Quote:
    """Returns the quote with four significant digits, so that it takes few bytes."""
    return Quote(
        _short(quote.p50_s),
        _short(quote.p90_s),
        _short(quote.usd),
        quote.machines,
        _short(quote.usd_a_busy_s),
    )


def _short(value: float) -> float:
    return float(f"{value:.4g}")


# --- time -------------------------------------------------------------------------------------


def times_s(work: Work, supply: Supply) -> tuple[float, float]:
    """Returns the seconds from the submission until the batch has ended that are kept in half of
    all cases, and those that are kept in nine tenths. Both are infinite if there is no slot and
    none will come."""
    if supply.ready + supply.coming <= 0:
        return math.inf, math.inf
    course = _course(work, supply)
    median_s, late_s = course.end_s(0.5), course.end_s(0.9)
    slots = min(course.ready + course.coming, course.tasks)
    late = [
        late_s - median_s,
        Z90 * work.busy_error_s / max(slots, 1.0),
        Z90 * HANDLING_SD_S,
        Z90 * MODEL_ERROR * median_s,
    ]
    if course.awaits_machines:
        late.append(Z90 * supply.coming_sd_s)
    median_s += HANDLING_S
    return median_s, median_s + math.hypot(*late)


def _course(work: Work, supply: Supply) -> Course:
    """The course of a batch. A task that takes up two slots leaves half as many lanes."""
    tasks = work.tasks
    mean_s = work.busy_s / tasks
    second = sum(g.tasks * (g.mean_s**2 + g.sd_s**2) for g in work.groups) / tasks
    width = work.slot_s / work.busy_s if work.busy_s else 1.0
    return Course(
        tasks,
        mean_s,
        math.sqrt(max(0.0, second - mean_s * mean_s)),
        ready=supply.ready / width,
        coming=supply.coming / width,
        coming_s=supply.coming_s,
        ahead_s=supply.ahead_s / width,
    )


# --- dollars ----------------------------------------------------------------------------------


def calls_usd(work: Work, end_s: float) -> float:
    """Expected dollars of the AWS calls for a batch that takes so many seconds."""
    lone = 1 / (1 + work.bundles / max(end_s, 0.1) / SHARING_A_S)
    a_bundle = BUNDLE_CALLS_USD + lone * LONE_BUNDLE_USD
    longest_s = max((g.mean_s for g in work.groups), default=0.0)
    renewals = RENEWALS_USD_S * max(work.busy_s, 0.0) if longest_s > 10.0 else 0.0
    return BATCH_CALLS_USD + a_bundle * work.bundles + TASK_CALLS_USD * work.tasks + renewals


def idle_usd(
    work: Work, supply: Supply, launched: int, idle_s: float, usd_a_machine_s: float
) -> float:
    """Expected dollars of the machines launched for a batch beyond the time of its tasks: boots,
    free slots, and the idle time before a machine ends itself."""
    if not launched:
        return 0.0
    slots = supply.coming / launched
    # The tasks of one machine have all ended with more probability than those of all machines.
    of_all = (supply.ready + supply.coming) / max(slots, 1.0)
    busy_until_s = max(_course(work, supply).end_s(max(0.5**of_all, 1e-300)), supply.coming_s)
    share = supply.coming / (supply.ready + supply.coming)
    machine_s = launched * (busy_until_s + idle_s) - share * work.slot_s / max(slots, 1.0)
    return max(0.0, machine_s) * usd_a_machine_s


def foretold(kind: str, sample: Sample) -> TaskGroup:
    """Returns the group of the tasks of a kind that says beforehand how long each takes; `sample`
    has these durations."""
    mean_s = sample.total_s / sample.tasks
    variance = max(0.0, sample.total_s2 / sample.tasks - mean_s * mean_s)
    return TaskGroup(kind, sample.tasks, mean_s, math.sqrt(variance))


def learned(name: str, tasks: int, pace: Pace) -> TaskGroup:
    """Returns the group of tasks that take as long as earlier ones did."""
    mean_s, variance_s2 = pace.slow
    return TaskGroup(name, tasks, mean_s, math.sqrt(variance_s2), pace.tasks)


def assumed(name: str, tasks: int, hint_s: float | None = None) -> TaskGroup:
    """Returns the group of tasks of which no more is known than their kind's hint, in seconds, or
    nothing at all."""
    mean_s = ASSUMED_TASK_S if hint_s is None else hint_s
    return TaskGroup(name, tasks, mean_s, mean_s, 0)


# --- score ------------------------------------------------------------------------------------


class Outcome(msgspec.Struct, frozen=True):
    """A quote beside what became of it: seconds and dollars of a batch that has ended."""

    p50_s: float
    p90_s: float
    usd: float
    actual_s: float
    actual_usd: float


class Score(msgspec.Struct, frozen=True):
    """How good quotes were.

    batches: ended batches that had a quote.
    time_error, usd_error: median of the relative errors; 0.1 is 10 % too much or too little.
    p90_held: share of the batches that took at most `p90_s`.
    """

    batches: int
    time_error: float | None
    usd_error: float | None
    p90_held: float | None


def score(outcomes: Iterable[Outcome]) -> Score:
    """Returns how good the quotes of these batches were."""
    found = list(outcomes)
    if not found:
        return Score(0, None, None, None)
    return Score(
        len(found),
        _median_error([(each.p50_s, each.actual_s) for each in found]),
        _median_error([(each.usd, each.actual_usd) for each in found]),
        sum(each.actual_s <= each.p90_s for each in found) / len(found),
    )


def _median_error(pairs: Sequence[tuple[float, float]]) -> float | None:
    errors = [abs(quoted - actual) / actual for quoted, actual in pairs if actual > 0]
    return statistics.median(errors) if errors else None
