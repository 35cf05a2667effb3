"""Policies compared in virtual time: `python -m bench.provisioning [--seeds N] [--quick]`.

Prints a table of each trace, and writes `provisioning.csv` and `provisioning*.png`. Cost is what
EC2 bills from a machine's launch to its end; a task waits from its arrival to its last start. Owns
the comparison; `bench.traces`, `bench.policies` and `bench.simulation` own its parts. With --quick
the million tasks are left out.
"""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from bench import report, traces
from bench.policies import Clairvoyant, bound, contenders
from bench.report import Row
from bench.scenario import Outcome, World
from bench.simulation import Simulation

COLUMNS = ("cost_usd", "mean_wait_s", "p95_wait_s", "cost_x_wait", "machines", "peak", "reruns")
"""Attributes of `Outcome` whose means are in the CSV file."""


class Comparison:
    """The outcomes of one policy on one trace, over all seeds."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.policy, self.trace = outcomes[0].policy, outcomes[0].trace

    def mean(self, attribute: str) -> float:
        return statistics.fmean(getattr(outcome, attribute) for outcome in self.outcomes)

    def shown(self, reference: Comparison) -> Row:
        """The figures for the terminal, relative to those of another policy."""
        cost_x_wait = self.mean("cost_x_wait")
        return {
            "policy": self.policy,
            "cost $": self.mean("cost_usd"),
            "mean s": self.mean("mean_wait_s"),
            "p95 s": self.mean("p95_wait_s"),
            "$ x s": cost_x_wait,
            "to ours": cost_x_wait / reference.mean("cost_x_wait"),
            "peak": self.mean("peak"),
        }

    def written(self) -> Row:
        """The figures for the CSV file."""
        means = {column: self.mean(column) for column in COLUMNS}
        return {"trace": self.trace, "policy": self.policy, "seeds": len(self.outcomes), **means}


def compare(make: traces.Maker, seeds: Iterable[int]) -> list[Comparison]:
    """Run every policy on one trace. Taskfleet's own comes first, the clairvoyant last."""
    by_policy: dict[str, list[Outcome]] = {}
    with ProcessPoolExecutor(initializer=_silence_provisioner) as pool:
        for outcomes in pool.map(partial(_outcomes, make), seeds):
            for outcome in outcomes:
                by_policy.setdefault(outcome.policy, []).append(outcome)
    return [Comparison(outcomes) for outcomes in by_policy.values()]


def _silence_provisioner() -> None:
    """Simulated faults are no news: the provisioner warns of thousands of them."""
    logging.getLogger("taskfleet.provisioner").setLevel(logging.CRITICAL)


def _outcomes(make: traces.Maker, seed: int) -> list[Outcome]:
    trace, world = make(seed), World(seed=seed)
    outcomes = [Simulation(trace, world, policy).run() for policy in contenders(world)]
    return [*outcomes, bound(trace, world)]


def draw_products(path: Path, comparisons: list[Comparison]) -> None:
    """Plot cost times wait of each policy on each trace; Taskfleet's own is 1."""
    names = list(dict.fromkeys(one.trace for one in comparisons))
    policies = list(dict.fromkeys(one.policy for one in comparisons))
    product = {(one.trace, one.policy): one.mean("cost_x_wait") for one in comparisons}
    figure, axes = report.canvas(11, 4.5)
    width = 0.8 / len(policies)
    for number, policy in enumerate(policies):
        heights = [product[name, policy] / product[name, policies[0]] for name in names]
        places = [i + (number - len(policies) / 2 + 0.5) * width for i in range(len(names))]
        axes.bar(places, heights, width, label=policy)
    axes.set_yscale("log")
    axes.set_xticks(range(len(names)), names)
    axes.axhline(1, color="black", linewidth=0.6)
    axes.set_ylabel("cost x mean wait, taskfleet = 1")
    axes.legend(ncols=3, fontsize=8)
    report.save(figure, path)


def draw_machines(path: Path, comparisons: list[Comparison]) -> None:
    """Plot the machines over time on one trace, for the first seed."""
    figure, axes = report.canvas(11, 4.5)
    for one in comparisons:
        if one.policy != Clairvoyant.name:
            samples = one.outcomes[0].samples
            minutes = [at / 60 for at, _, _ in samples]
            machines = [count for _, _, count in samples]
            axes.step(minutes, machines, where="post", label=one.policy)
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel("minutes")
    axes.set_ylabel("machines")
    axes.set_title(comparisons[0].trace)
    axes.legend(fontsize=8)
    report.save(figure, path)


def main() -> None:
    parser = report.parser("provisioning", __doc__, measured=False)
    parser.add_argument(
        "--seeds", type=int, default=5, help="runs averaged (5; heavy tail 8 times as many)"
    )
    options, given = report.parsed(parser)
    everything: list[Comparison] = []
    started = time.perf_counter()
    for make in traces.ALL:
        if options.quick and make is traces.million:
            continue
        seeds = math.ceil(given.seeds * traces.SEEDS.get(make, 1))
        comparisons = compare(make, range(1, seeds + 1))
        ours = comparisons[0]
        report.show(ours.trace, [one.shown(ours) for one in comparisons], machine=False)
        if make in (traces.step_ramp, traces.bursts):
            name = make.__name__.replace("_", "-")
            draw_machines(options.out / f"provisioning-{name}.png", comparisons)
        everything += comparisons
    rows = [one.written() for one in everything]
    report.write_csv(options.out / "provisioning.csv", rows, machine=False, digits=4)
    draw_products(options.out / "provisioning.png", everything)
    print(f"\n{time.perf_counter() - started:.0f} s; CSV and plots are in {options.out}")


if __name__ == "__main__":
    main()
