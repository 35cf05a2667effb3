"""Deadlines and budgets in virtual time: `python -m bench.deadlines [--batches N] [--quick]`.

Random batches, each alone on its fleet, run under the project's own provisioner
(`bench.policies.Taskfleet`) with the delays and faults of `bench.scenario.World`: once with a
deadline, once with a budget, once with a deadline that cannot be met. Beside each deadline stands
the cheapest plan that meets it: a clairvoyant that knows all durations, loses no machine, launches
the fewest machines that are enough and ends each the moment it has no work.

Of the kind, what earlier batches taught is known: the durations of `LEARNED_TASKS` tasks. Prints a
table and writes `deadlines.csv`. Owns the batches, their goals and the comparison.
"""

from __future__ import annotations

import logging
import math
import random
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np
from msgspec import structs

from bench import report
from bench.policies import Taskfleet
from bench.scenario import PRICE_USD_H, SLOTS, Trace, World
from bench.simulated_ports import KIND, REPORT_S, SimulatedCloud, SimulatedRecords
from bench.simulation import Simulation
from taskfleet.batch import BatchRecord, Tally
from taskfleet.options import BatchOptions
from taskfleet.pace import Pace, Sample
from taskfleet.ports import Clock, Counted, TaskMonitor, TaskQueue
from taskfleet.provisioner.ports import Fleet, ProvisionerPorts
from taskfleet.provisioner.records import Demand, KindDemand
from taskfleet.settings import Settings

BATCH = "batch"
AT_S = 30.0
"""When the batch is submitted."""
MAX_CAPACITY = 20
LEARNED_TASKS = 200
"""Tasks of the same kind that ran before."""
MACHINE_MINUTE_USD = PRICE_USD_H / 60
DRAIN_S = Settings().drain_timeout_s


@dataclass(frozen=True)
class Case:
    """A batch: its tasks, and what earlier tasks of the kind taught."""

    trace: Trace
    pace: Pace
    world: World

    @property
    def work_usd(self) -> float:
        """The price of its work alone, on machines that are never idle."""
        return float(self.trace.seconds.sum()) / SLOTS / 3600 * PRICE_USD_H


def case(seed: int) -> Case:
    """50 to 5,000 tasks of log-normal durations, whose mean is 1 to 60 s; at most four
    machine-hours."""
    rng = np.random.default_rng(seed)
    mean_s = float(np.exp(rng.uniform(np.log(1.0), np.log(60.0))))
    count = int(np.exp(rng.uniform(np.log(50), np.log(5_000))))
    count = max(50, min(count, int(4 * 3600 * SLOTS / mean_s)))
    sigma = float(rng.uniform(0.1, 0.7))
    location = math.log(mean_s) - sigma**2 / 2
    earlier = rng.lognormal(location, sigma, LEARNED_TASKS)
    sample = Sample(LEARNED_TASKS, float(earlier.sum()), float((earlier**2).sum()))
    trace = Trace("deadline", np.full(count, AT_S), rng.lognormal(location, sigma, count))
    trace = replace(trace, max_capacity=MAX_CAPACITY)
    return Case(trace, Pace().learn(sample), World(seed=seed))


# --- the project's own provisioner ---------------------------------------------------------------


class GoalCloud(SimulatedCloud):
    """A simulation whose tasks are one batch with these options."""

    def __init__(self, sim: Simulation, pace: Pace, options: BatchOptions) -> None:
        super().__init__(sim)
        self._pace = pace
        self._options = options

    def paces(self, _kinds: Sequence[str]) -> dict[str, Pace]:
        sim = self._sim
        if not sim.done:
            return {KIND: self._pace}
        mean_s = sim.done_work_s / sim.done
        spread = self._pace.variance_s2 + mean_s**2
        return {KIND: self._pace.learn(Sample(sim.done, sim.done_work_s, sim.done * spread))}

    def counted(
        self, batch_id: str, _pages: Sequence[int], _look_at: Sequence[int] = ()
    ) -> Counted:
        sim = self._sim
        total = len(sim.trace.at)
        record = BatchRecord(
            batch_id,
            "client",
            None,
            AT_S,
            total,
            total,
            "",
            closed=True,
            enqueued=total,
            tally=Tally(sim.done),
            options=self._options,
        )
        return Counted(record, frozenset())


class GoalRecords(SimulatedRecords):
    """Asks to watch the batch. A worker that is asked to leave hears of it at its next report, and
    gives its tasks back when the drain time-out ends."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__(sim)
        self._rng = random.Random(sim.world.seed + 2)

    def demand(self) -> Demand:
        found = super().demand()
        return structs.replace(found, watched=1 if found.messages else 0)

    def watched(self) -> dict[str, dict[str, KindDemand]]:
        return {BATCH: super().demand().kinds}

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        sim = self._sim
        for worker_id in worker_ids:
            node = sim.nodes[int(worker_id)]
            if not node.leaving:
                heard_at = sim.now + self._rng.uniform(0, REPORT_S)
                sim.schedule(heard_at, sim.retire, node)
                sim.schedule(heard_at + DRAIN_S, sim.end, node)


@dataclass
class Run:
    """The outcome of a batch: its end, in seconds from its submission (infinite if it did not end),
    its dollars, and the rounds that called it at risk, as seconds from its submission."""

    end_s: float
    cost_usd: float
    risks: list[tuple[float, str]]


def run(one: Case, options: BatchOptions) -> Run:
    """Run a batch under the project's own provisioner."""
    risks: list[tuple[float, str]] = []
    records: list[GoalRecords] = []

    def connect(sim: Simulation) -> ProvisionerPorts:
        cloud: Any = GoalCloud(sim, one.pace, options)
        records.append(GoalRecords(sim))
        return ProvisionerPorts(
            tasks=cast(TaskQueue, cloud),
            monitor=cast(TaskMonitor, cloud),
            records=records[0],
            fleet=cast(Fleet, cloud),
            clock=cast(Clock, cloud),
        )

    class Told(Taskfleet):
        def decide(self, sim: Simulation) -> None:
            super().decide(sim)
            entry = records[0].state().watched.get(BATCH)
            if entry is not None and entry.at_risk:
                risks.append((sim.now - AT_S, entry.at_risk))

    policy = Told("taskfleet", every_s=15.0, nudged=True, connect=connect, idle_s=one.world.idle_s)
    sim = Simulation(one.trace, one.world, policy)
    outcome = sim.run()
    return Run(_end_s(sim), outcome.cost_usd, risks)


def _end_s(sim: Simulation) -> float:
    if sim.done < len(sim.trace.at):
        return math.inf
    return float((sim.started_at + sim.trace.seconds).max()) - AT_S


# --- the clairvoyant -----------------------------------------------------------------------------


class FixedPlan:
    """Launches `machines` when the batch comes. Each ends the moment it has no work."""

    name = "cheapest plan"
    every_s: float | None = None
    idle_s: float | None = 0.0

    def __init__(self, machines: int) -> None:
        self._machines = machines

    def on_arrival(self, sim: Simulation, count: int) -> None:  # noqa: ARG002 - part of the protocol
        sim.launch(self._machines)

    def decide(self, sim: Simulation) -> None:
        pass


def plan(one: Case, machines: int) -> Run:
    faultless = replace(one.world, boot_failure=0.0, spot_per_h=0.0)
    sim = Simulation(one.trace, faultless, FixedPlan(machines))
    outcome = sim.run(horizon_s=48 * 3600.0)
    return Run(_end_s(sim), outcome.cost_usd, [])


def cheapest(one: Case, deadline_s: float) -> Run | None:
    """The cheapest plan that meets the deadline; None if there is none."""
    in_time = [
        made
        for machines in range(1, MAX_CAPACITY + 1)
        if (made := plan(one, machines)).end_s <= deadline_s
    ]
    return min(in_time, key=lambda made: made.cost_usd, default=None)


# --- the comparison ------------------------------------------------------------------------------

FEASIBLE = (1.5, 10.0)
"""Range of the deadlines, in times of what the whole fleet takes in the clairvoyant's hands."""
INFEASIBLE = (0.1, 0.7)
BUDGETS = (0.5, 3.0)
"""Range of the budgets, in times of the price of the work alone; those over 1 get the price of a
boot on top."""
TOLD_S = 15.0
"""Seconds between two rounds."""


def _drawn(seed: int, bounds: tuple[float, float]) -> float:
    """A factor between the bounds, evenly on a logarithmic scale."""
    low, high = bounds
    return math.exp(random.Random(f"{seed}/{low}").uniform(math.log(low), math.log(high)))


def deadline_row(seed: int) -> report.Row:
    """A batch with a deadline that can be met."""
    one = case(seed)
    deadline_s = plan(one, MAX_CAPACITY).end_s * _drawn(seed, FEASIBLE)
    made, best = run(one, BatchOptions(deadline_s=deadline_s)), cheapest(one, deadline_s)
    assert best is not None, "the whole fleet meets it"
    return {
        "seed": seed,
        "goal": "deadline",
        "tasks": len(one.trace.at),
        "mean_s": float(one.trace.seconds.mean()),
        "deadline_s": deadline_s,
        "end_s": made.end_s,
        "cost_usd": made.cost_usd,
        "cheapest_usd": best.cost_usd,
        "met": made.end_s <= deadline_s,
        "told": bool(made.risks),
    }


def missed_row(seed: int) -> report.Row:
    """A batch with a deadline that cannot be met. `told`: within one round."""
    one = case(seed)
    deadline_s = plan(one, MAX_CAPACITY).end_s * _drawn(seed, INFEASIBLE)
    made = run(one, BatchOptions(deadline_s=deadline_s))
    return {
        "seed": seed,
        "goal": "impossible deadline",
        "tasks": len(one.trace.at),
        "mean_s": float(one.trace.seconds.mean()),
        "deadline_s": deadline_s,
        "end_s": made.end_s,
        "cost_usd": made.cost_usd,
        "met": made.end_s <= deadline_s,
        "told": bool(made.risks) and made.risks[0][0] <= TOLD_S,
    }


def budget_row(seed: int) -> report.Row:
    """A batch with a budget. `over` is in machine-minutes; `told`: that it would not end."""
    one = case(seed)
    factor = _drawn(seed, BUDGETS)
    budget_usd = one.work_usd * factor
    if factor > 1:
        budget_usd += plan(one, 1).cost_usd - one.work_usd
    made = run(one, BatchOptions(budget_usd=budget_usd))
    return {
        "seed": seed,
        "goal": "budget",
        "tasks": len(one.trace.at),
        "mean_s": float(one.trace.seconds.mean()),
        "budget_usd": budget_usd,
        "end_s": made.end_s,
        "cost_usd": made.cost_usd,
        "over": (made.cost_usd - budget_usd) / MACHINE_MINUTE_USD,
        "met": math.isfinite(made.end_s),
        "told": bool(made.risks),
    }


def _rows(make: Callable[[int], report.Row], seeds: range) -> list[report.Row]:
    silence = partial(logging.getLogger("taskfleet").setLevel, logging.CRITICAL)
    with ProcessPoolExecutor(initializer=silence) as pool:
        return list(pool.map(make, seeds))


def _share(rows: Sequence[report.Row], name: str) -> float:
    return sum(bool(row[name]) for row in rows) / len(rows)


def main() -> None:
    parser = report.parser("deadlines", __doc__, measured=False)
    parser.add_argument("--batches", type=int, default=200, help="batches with each goal (200)")
    options, given = report.parsed(parser)
    seeds = range(1, 1 + (20 if options.quick else given.batches))
    met, missed = _rows(deadline_row, seeds), _rows(missed_row, seeds)
    paid = _rows(budget_row, seeds)
    ratios = [row["cost_usd"] / row["cheapest_usd"] for row in met]
    total = sum(row["cost_usd"] for row in met) / sum(row["cheapest_usd"] for row in met)
    unfinished = [row for row in paid if not row["met"]]
    table: list[report.Row] = [
        {"figure": "deadlines met", "value": _share(met, "met")},
        {"figure": "cost to the cheapest plan, mean", "value": statistics.fmean(ratios)},
        {"figure": "cost to the cheapest plan, all together", "value": total},
        {"figure": "called at risk, and met", "value": _share(met, "told")},
        {"figure": "impossible ones told in a round", "value": _share(missed, "told")},
        {"figure": "impossible ones met", "value": _share(missed, "met")},
        {"figure": "most over a budget, machine-minutes", "value": max(r["over"] for r in paid)},
        {"figure": "ended within the budget", "value": _share(paid, "met")},
    ]
    if unfinished:
        table.append({"figure": "not ended, and told", "value": _share(unfinished, "told")})
    report.show(f"{len(seeds)} batches with each goal", table, machine=False)
    columns = list(dict.fromkeys(name for row in [*met, *missed, *paid] for name in row))
    rows = [{name: row.get(name, "") for name in columns} for row in [*met, *missed, *paid]]
    report.write_csv(options.out / "deadlines.csv", rows, machine=False, digits=4)


if __name__ == "__main__":
    main()
