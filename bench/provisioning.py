"""Policies compared in virtual time: `python -m bench.provisioning [--seeds N] [--quick]`.

Prints the table, writes `provisioning.csv` and draws `provisioning*.png` in `docs/bench`. Owns the
comparison; workloads, policies and fleet are the neighbours'. Cost is what EC2 bills from launch to
end; a task waits from its arrival to its (last) start.
"""

from __future__ import annotations

import argparse
import csv
import math
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from bench import traces
from bench.policies import Clairvoyant, bound, contenders
from bench.simulation import Outcome, Simulation, World

OUT = Path(__file__).resolve().parent.parent / "docs" / "bench"
COLUMNS = ("cost_usd", "mean_wait_s", "p95_wait_s", "cost_x_wait", "machines", "peak", "reruns")


class Row:
    """One policy on one trace, over all seeds."""

    def __init__(self, outcomes: list[Outcome]) -> None:
        self.outcomes = outcomes
        self.policy, self.trace = outcomes[0].policy, outcomes[0].trace

    def mean(self, column: str) -> float:
        return statistics.fmean(getattr(outcome, column) for outcome in self.outcomes)


def compare(make: traces.Maker, seeds: Iterable[int]) -> list[Row]:
    """Every policy on one trace; the clairvoyant comes last."""
    by_policy: dict[str, list[Outcome]] = {}
    with ProcessPoolExecutor() as pool:
        for outcomes in pool.map(partial(_outcomes, make), seeds):
            for outcome in outcomes:
                by_policy.setdefault(outcome.policy, []).append(outcome)
    return [Row(outcomes) for outcomes in by_policy.values()]


def _outcomes(make: traces.Maker, seed: int) -> list[Outcome]:
    trace, world = make(seed), World(seed=seed)
    outcomes = [Simulation(trace, world, who).run() for who in contenders(world)]
    return [*outcomes, bound(trace, world)]


def show(rows: list[Row]) -> None:
    ours = rows[0].mean("cost_x_wait")
    print(f"\n{rows[0].trace}")
    print(f"  {'':20}{'cost $':>9}{'mean s':>9}{'p95 s':>9}{'$ x s':>11}{'to ours':>9}{'peak':>7}")
    for row in rows:
        product = row.mean("cost_x_wait")
        print(
            f"  {row.policy:20}{row.mean('cost_usd'):9.2f}{row.mean('mean_wait_s'):9.1f}"
            f"{row.mean('p95_wait_s'):9.1f}{product:11.3f}{product / ours:8.2f}x"
            f"{row.mean('peak'):7.0f}"
        )


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("trace", "policy", "seeds", *COLUMNS))
        for row in rows:
            values = [f"{row.mean(column):.4g}" for column in COLUMNS]
            out.writerow((row.trace, row.policy, len(row.outcomes), *values))


def draw_products(path: Path, rows: list[Row]) -> None:
    """Cost x wait of each policy on each trace, ours being 1."""
    names = list(dict.fromkeys(row.trace for row in rows))
    policies = list(dict.fromkeys(row.policy for row in rows))
    product = {(row.trace, row.policy): row.mean("cost_x_wait") for row in rows}
    figure, axes = plt.subplots(figsize=(11, 4.5))
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
    _save(figure, path)


def draw_course(path: Path, rows: list[Row]) -> None:
    """Machines over time on one trace, of the first seed."""
    figure, axes = plt.subplots(figsize=(11, 4.5))
    for row in rows:
        if row.policy != Clairvoyant.name:
            samples = row.outcomes[0].samples
            minutes = [at / 60 for at, _, _ in samples]
            axes.step(minutes, [n for _, _, n in samples], where="post", label=row.policy)
    axes.set_yscale("symlog", linthresh=10)
    axes.set_xlabel("minutes")
    axes.set_ylabel("machines")
    axes.set_title(rows[0].trace)
    axes.legend(fontsize=8)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": None})  # the same bytes each time
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.provisioning", description=__doc__)
    parser.add_argument(
        "--seeds", type=int, default=5, help="runs averaged (5; heavy tail 8 times as many)"
    )
    parser.add_argument("--quick", action="store_true", help="without the million tasks")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for CSV and PNG (docs/bench)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    everything: list[Row] = []
    started = time.perf_counter()
    for make in traces.ALL:
        if options.quick and make is traces.million:
            continue
        seeds = math.ceil(options.seeds * traces.SEEDS.get(make, 1))
        rows = compare(make, range(1, seeds + 1))
        show(rows)
        if make in (traces.step_ramp, traces.bursts):
            name = make.__name__.replace("_", "-")
            draw_course(options.out / f"provisioning-{name}.png", rows)
        everything += rows
    write_csv(options.out / "provisioning.csv", everything)
    draw_products(options.out / "provisioning.png", everything)
    print(f"\n{time.perf_counter() - started:.0f} s; CSV and plots are in {options.out}")


if __name__ == "__main__":
    main()
