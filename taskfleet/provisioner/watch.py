"""Watches the batches with a deadline or a budget: reads them in a round, and puts together
what the rule for them (`taskfleet.provisioner.goals`) is told. Owns the list of watched
batches from round to round, and which share of the machines' cost is put down to each.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import replace

from taskfleet.batch import BatchRecord
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.pace import ASSUMED_TASK_S, Pace
from taskfleet.ports import TaskMonitor
from taskfleet.provisioner.goals import others_of
from taskfleet.provisioner.policy import KindLoad
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.provisioner.records import Demand, FleetState, Reading, Watched
from taskfleet.provisioner.supply import Goal, work_s

_log = logging.getLogger(__name__)

WATCHED_MAX = 100
"""Most batches that are watched at a time; further ones wait for their turn. Each costs a read in
each round."""
TAIL_DEVIATIONS = 3.0
"""Standard deviations above the mean that one of the longest tasks of a batch takes."""


class Watch:
    """Reads the watched batches."""

    def __init__(self, records: FleetRecords, monitor: TaskMonitor) -> None:
        self._records = records
        self._monitor = monitor

    def known(self, before: FleetState, demand: Demand) -> dict[str, Watched]:
        """The batches to watch. The list is read only if it has grown since the last round."""
        if demand.watched == before.watched_to:
            return before.watched
        found = dict(before.watched)
        for batch_id, kinds in sorted(self._records.watched().items()):
            if batch_id in found or len(found) < WATCHED_MAX:
                found[batch_id] = replace(found.get(batch_id, Watched()), kinds=kinds)
        return found

    def batches(self, watched: Mapping[str, Watched]) -> list[BatchRecord]:
        """The records of the watched batches that there are, in the order in which workers take
        their tasks. Results may be missing in them."""
        found = [self._monitor.counted(batch_id, ()) for batch_id in watched]
        batches = [counted.batch for counted in found if counted is not None]
        return sorted(batches, key=_turn)

    def forget(self, batch_ids: Sequence[str]) -> None:
        """Take batches that have ended off the list. A failure is logged only: the batch is found
        ended when the list is read again."""
        for batch_id in batch_ids:
            try:
                self._records.unwatch(batch_id)
            except TaskfleetError as error:
                _log.warning(
                    "a batch that ended is still watched",
                    extra=fields("unwatch_failed", batch_id=batch_id, reason=str(error)),
                )


def _turn(batch: BatchRecord) -> tuple[bool, float, str]:
    is_high = batch.options is not None and batch.options.is_high
    return not is_high, batch.created_at, batch.batch_id


class Followed(msgspec.Struct, frozen=True):
    """The watched batches in one round.

    goals: what the rule for them is told, in the order of the batches.
    others: the loads without their tasks.
    watched: what is remembered of those that have not ended.
    """

    goals: list[Goal]
    others: list[KindLoad]
    watched: dict[str, Watched]

    @property
    def other_tasks(self) -> float:
        return sum(load.waiting + load.running for load in self.others) if self.watched else 0.0


def follow(
    watched: Mapping[str, Watched],
    batches: Sequence[BatchRecord],
    reading: Reading,
    loads: Sequence[KindLoad],
    before: FleetState,
    cost_usd: float,
) -> Followed:
    """Put together what is known of the watched batches. Pure.

    loads: all tasks that wait and run, those of these batches among them.
    before: the state after the last round.
    cost_usd: what the machines cost since then.
    """
    of_kind = {load.kind: load for load in loads}
    goals, shares = [], dict[str, float]()
    for batch in batches:
        goal, by_kind = _goal(batch, watched[batch.batch_id], of_kind, reading)
        goals.append(goal)
        for kind, tasks in by_kind.items():
            shares[kind] = shares.get(kind, 0.0) + tasks
    others = others_of(loads, shares, _most_others(watched, reading.demand, before))
    total_s = sum(goal.work_s for goal in goals) + sum(map(work_s, others))
    kept: dict[str, Watched] = {}
    charged: list[Goal] = []
    for batch, goal in zip(batches, goals, strict=True):
        entry = watched[batch.batch_id]
        part = goal.work_s / total_s if total_s > 0 else 1 / len(goals)
        if batch.batch_id in before.watched:
            entry = replace(entry, machines_usd=entry.machines_usd + cost_usd * part)
        charged.append(replace(goal, usd_left=_usd_left(batch, entry)))
        if not batch.finished:
            kept[batch.batch_id] = entry
    return Followed(charged, others, kept)


def _goal(
    batch: BatchRecord, entry: Watched, of_kind: Mapping[str, KindLoad], reading: Reading
) -> tuple[Goal, dict[str, float]]:
    """Returns the batch as a goal, without its money, and its tasks on the queue by kind."""
    left = 0 if batch.cancelled_at is not None else batch.expected_total - batch.tally.total
    to_come = min(left, batch.expected_total - batch.enqueued)
    portions: dict[str, float] = {}
    seconds, tail_s, slots_each = 0.0, 0.0, 1.0
    for name, kind in entry.kinds.items():
        short = name.partition(":")[0]
        portions[short] = portions.get(short, 0.0) + kind.tasks / max(1, entry.tasks)
        pace = reading.paces.get(name) or reading.paces.get(short)
        each_s, longest_s = _expected_s(pace)
        unknown = kind.tasks - kind.known
        seconds += kind.known_s + unknown * each_s
        known_s = kind.known_s / kind.known if kind.known else 0.0
        tail_s = max(tail_s, known_s, longest_s if unknown else 0.0)
        if short in of_kind:
            slots_each = max(slots_each, of_kind[short].slots_each)
    there = [of_kind[kind] for kind in portions if kind in of_kind]
    running = sum(load.running for load in there)
    present = running + sum(load.waiting for load in there)
    queued = min(float(left - to_come), present)
    runs = queued * running / present if present else 0.0
    due_in_s = math.inf
    if batch.options is not None and batch.options.deadline_s is not None:
        due_in_s = batch.created_at + batch.options.deadline_s - reading.at
    goal = Goal(
        batch.batch_id,
        waiting=queued - runs + to_come,
        running=runs,
        mean_s=seconds / max(1, entry.tasks),
        tail_s=tail_s,
        slots_each=slots_each,
        due_in_s=due_in_s,
    )
    return goal, {kind: queued * portion for kind, portion in portions.items()}


def _expected_s(pace: Pace | None) -> tuple[float, float]:
    """Expected seconds of a task, and of one of the longest, by what was learned."""
    if pace is None:
        return ASSUMED_TASK_S, ASSUMED_TASK_S
    return pace.mean_s, pace.mean_s + TAIL_DEVIATIONS * math.sqrt(pace.variance_s2)


def _usd_left(batch: BatchRecord, entry: Watched) -> float:
    """Dollars that are left of the batch's budget for machines, after its AWS calls and those that
    its other tasks will need."""
    if batch.options is None or batch.options.budget_usd is None:
        return math.inf
    done = batch.tally.total
    to_come = batch.spend.usd * (batch.expected_total - done) / done if done else 0.0
    return batch.options.budget_usd - batch.spend.usd - to_come - entry.machines_usd


def _most_others(watched: Mapping[str, Watched], demand: Demand, before: FleetState) -> float:
    """Most tasks of other batches that there can be: those of the last round and what came since.
    Unbounded in the first round with a watched batch."""
    if not before.watched or not before.history:
        return math.inf
    came = demand.tasks - before.history[-1].demand.tasks
    own = sum(each.tasks for each in watched.values())
    own -= sum(each.tasks for each in before.watched.values())
    return before.other_tasks + max(0, came - own)
