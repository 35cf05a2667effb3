"""How good quotes are, in virtual time: `python -m bench.quotes`.

Each workload is a series of batches of one kind on a fleet that the project's own provisioner
scales: some find machines, some none, some wait behind others. Each batch is quoted when it arrives
(`taskfleet.scheduler.quoter`), from what tasks that had ended by then teach. Machines fail to boot
and are interrupted as in `bench.provisioning`. Prints a line for each workload and writes
`quotes.csv`. Owns the workloads and the comparison.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from bench import report
from bench.policies import Taskfleet
from bench.report import Row
from bench.scenario import PRICE_USD_H, SLOTS, Trace, World
from bench.simulated_ports import ports
from bench.simulation import Simulation
from taskfleet.pace import Pace, Sample
from taskfleet.provisioner.ports import ProvisionerPorts
from taskfleet.quote import Outcome, TaskGroup, assumed, foretold, learned, score
from taskfleet.scheduler.quoter import Expected, Quoter

LEARNING = 3
"""First batches of a workload, which are not judged."""
SAMPLE_TASKS = 20
"""Tasks in one sample of durations, as of one bundle."""
Draw = Callable[[np.random.Generator, int], np.ndarray]
"""Draws so many durations, in seconds."""


@dataclass(frozen=True)
class Workload:
    """Batches of one kind, of `sizes` tasks (least and most), `every_s` seconds apart on average.

    known: whether the kind says beforehand how long its tasks take, as `sleep` does.
    """

    name: str
    draw: Draw
    sizes: tuple[int, int]
    every_s: float
    known: bool = False


def _lognormal(rng: np.random.Generator, count: int, *, mean_s: float, sigma: float) -> np.ndarray:
    return rng.lognormal(math.log(mean_s) - sigma**2 / 2, sigma, count)


WORKLOADS = (
    Workload("even, 2 to 6 s", lambda rng, n: rng.uniform(2.0, 6.0, n), (200, 4_000), 300.0),
    Workload("exponential, 8 s", lambda rng, n: rng.exponential(8.0, n), (50, 2_000), 300.0),
    Workload("heavy tail, 15 s", partial(_lognormal, mean_s=15.0, sigma=1.5), (50, 2_000), 900.0),
    Workload("few, 5 s", lambda rng, n: rng.exponential(5.0, n), (1, 50), 120.0),
    Workload(
        "foretold, 1 s", lambda rng, n: rng.choice([0.5, 1.0, 1.5], n), (50, 4_000), 200.0, True
    ),
)
"""Those of `bench.traces`, and one whose durations are known, each as a series of batches."""


class Quoting(Taskfleet):
    """Taskfleet's provisioner, before which each arriving batch is quoted."""

    def __init__(self, work: Workload, starts: list[int], world: World) -> None:
        super().__init__(
            "quoting",
            every_s=15.0,
            nudged=True,
            connect=self._kept_ports,
            idle_s=world.idle_s,
            nudge=True,
        )
        self._work = work
        self._starts = starts
        self._pace = Pace()
        self._learned = np.zeros(0, dtype=bool)
        self._ports: ProvisionerPorts | None = None
        self.quotes: list[Expected] = []

    def _kept_ports(self, sim: Simulation) -> ProvisionerPorts:
        self._ports = ports(sim)
        return self._ports

    def on_arrival(self, sim: Simulation, count: int) -> None:
        noted = None
        if self._ports is not None:
            noted = self._ports.records.noted()
            conf, records, clock = self.conf(sim), self._ports.records, self._ports.clock
            quoter = Quoter(conf, records, clock, launches=True)
            self.quotes.append(quoter.quote([self._group(sim, count)], 1, noted))
        super().on_arrival(sim, count)

    def _group(self, sim: Simulation, count: int) -> TaskGroup:
        if self._work.known:
            first = self._starts[len(self.quotes)]
            seconds = sim.trace.seconds[first : first + count]
            sums = float(seconds.sum()), float((seconds * seconds).sum())
            return foretold("task", Sample(count, *sums))
        self._learn(sim)
        pace = self._pace
        if not pace.tasks:
            return assumed("task", count)
        return learned("task", count, pace)

    def _learn(self, sim: Simulation) -> None:
        """Take in the tasks that have ended since the last batch arrived."""
        if not len(self._learned):
            self._learned = np.zeros(len(sim.trace.at), dtype=bool)
        with np.errstate(invalid="ignore"):
            ended_at = sim.started_at + sim.trace.seconds
            new = np.flatnonzero((ended_at <= sim.now) & ~self._learned)
        self._learned[new] = True
        new = new[np.argsort(ended_at[new])]
        for first in range(0, len(new), SAMPLE_TASKS):
            seconds = sim.trace.seconds[new[first : first + SAMPLE_TASKS]]
            sums = float(seconds.sum()), float((seconds * seconds).sum())
            self._pace = self._pace.learn(Sample(len(seconds), *sums))


@dataclass(frozen=True)
class Judged:
    """The outcomes of a workload's batches, and the dollars of all quotes, with those of idle
    machines, relative to what the fleet cost."""

    outcomes: list[Outcome]
    of_bill: float


def judge(work: Workload, batches: int, seed: int) -> Judged:
    """Run a workload. Returns the outcomes of its batches after the first `LEARNING`."""
    rng = np.random.default_rng(seed)
    low, high = np.log(work.sizes)
    counts = np.exp(rng.uniform(low, high, batches + LEARNING)).round().astype(int)
    moments = 30.0 + np.cumsum(rng.exponential(work.every_s, len(counts)))
    starts = [0, *np.cumsum(counts).tolist()]
    seconds = work.draw(rng, starts[-1])
    trace = Trace(work.name, np.repeat(moments, counts), seconds)
    world = World(seed=seed)
    policy = Quoting(work, starts[:-1], world)
    sim = Simulation(trace, world, policy)
    bill_usd = sim.run().cost_usd
    ends = sim.started_at + seconds
    outcomes = []
    for number, made in enumerate(policy.quotes):
        tasks = slice(starts[number], starts[number + 1])
        quote = made.quote
        outcomes.append(
            Outcome(
                quote.p50_s,
                quote.p90_s,
                quote.usd,
                float(ends[tasks].max() - moments[number]),
                float(seconds[tasks].sum()) * PRICE_USD_H / 3600 / SLOTS,
            )
        )
    quoted = sum(made.quote.usd + made.idle_usd for made in policy.quotes)
    return Judged(outcomes[LEARNING:], quoted / bill_usd)


def row(name: str, outcomes: list[Outcome], of_bill: float) -> Row:
    """The figures of one workload."""
    found = score(outcomes)
    errors = [each.p50_s / each.actual_s - 1 for each in outcomes]
    return {
        "workload": name,
        "batches": found.batches,
        "time error": found.time_error,
        "usd error": found.usd_error,
        "p90 held": found.p90_held,
        "bias": float(np.median(errors)),
        "of the bill": of_bill,
    }


def main() -> None:
    logging.getLogger("taskfleet.provisioner").setLevel(logging.CRITICAL)
    options, _ = report.parsed(report.parser("quotes", __doc__, measured=False))
    batches = options.pick(60, 20)
    judged = {work.name: judge(work, batches, seed) for seed, work in enumerate(WORKLOADS, 1)}
    rows = [row(name, one.outcomes, one.of_bill) for name, one in judged.items()]
    everything = [each for one in judged.values() for each in one.outcomes]
    bill = float(np.mean([one.of_bill for one in judged.values()]))
    rows.append(row("all", everything, bill))
    report.show("quotes", rows, machine=False)
    report.write_csv(options.out / "quotes.csv", rows, machine=False, digits=4)


if __name__ == "__main__":
    main()
