"""The end of a batch when one slot is slowed tenfold, with and without second copies of tasks:
`python -m bench.stragglers [--quick]`.

One worker of 16 threads runs tasks whose durations are drawn from a log-normal distribution (median
100 ms, sigma 0.5; the same ones each time). The kinds are those of `bench.straggler_kinds`: `even`
has no slowed slot, `plain` has one, `hedged` has one and gets second copies
(`ec2_worker.stragglers`).
"""

from __future__ import annotations

import random

from bench import report
from bench.harness import Bench, bench_cloud, repeated
from bench.report import Row

KINDS = ("even", "plain", "hedged")
MEDIAN_MS = 100.0
SIGMA = 0.5


def main() -> None:
    options = report.options("stragglers", __doc__)
    count = options.pick(1_000, 200)
    rng = random.Random(1)
    durations = [rng.lognormvariate(0.0, SIGMA) * MEDIAN_MS for _ in range(count)]
    rows: list[Row] = []
    with bench_cloud(kinds=["bench.straggler_kinds"]) as bench:
        for kind in KINDS:
            seconds = measured(bench, kind, durations, options.repeats)
            first = rows[0]["seconds"] if rows else seconds
            rows.append(
                {"kind": kind, "tasks": count, "seconds": seconds, "to even": seconds / first}
            )
    title = "Log-normal tasks on 16 slots, one of them slowed tenfold"
    report.publish(options, options.named("stragglers"), title, rows)


def measured(bench: Bench, kind: str, durations: list[float], repeats: int) -> float:
    """Returns the median seconds of the batch on a worker that has learned the durations."""
    tasks = [f"{kind} {each:.3f}" for each in durations]
    with bench.workers(1):
        bench.measure(tasks[: len(tasks) // 4])
        return repeated(repeats, lambda: bench.measure(tasks)).seconds


if __name__ == "__main__":
    main()
