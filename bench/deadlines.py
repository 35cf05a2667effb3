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
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, cast

import numpy as np

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

    def counted(self, batch_id: str, _pages: Sequence[int]) -> Counted:
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
        return Demand(found.batches, found.messages, found.kinds, 1 if found.messages else 0)

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
    """What became of a batch: its end, in seconds from its submission (infinite if it did not end),
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
