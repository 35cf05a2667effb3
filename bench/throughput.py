"""No-op tasks by remote workers: `python -m bench.throughput [--quick] [--latency-ms 10]`.

2014's datasheet: 10,000 `sleep 0` by 1 to 16 remote workers, at best 36 tasks/s. The same here, and
100,000 by one worker of 16 threads.
"""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

from bench import report
from bench.harness import Bench, Run, bench_cloud, repeated

WORKERS = (1, 2, 4, 8, 16)
THREADS = 16
BEST_OF_2014 = 36.0
"""Tasks/s, remote, with 16 workers."""


def main() -> None:
    options = report.options("throughput", __doc__)
    each = options.pick(10_000, 1_000)
    many = options.pick(100_000, 10_000)
    counts = options.pick(WORKERS, (1, 2))
    points = [(count, each) for count in counts] + [(1, many)]
    with bench_cloud(latency_ms=options.latency_ms) as bench:
        rows = [
            row(measured(bench, count, tasks, options.repeats), count, options)
            for count, tasks in points
        ]
    name = report.named("throughput", options)
    report.show("`sleep 0` by remote workers of 16 threads, submission to last result", rows)
    report.write_csv(options.out / f"{name}.csv", rows)
    report.plot(
        options.out / f"{name}.png", "No-op tasks by remote workers", lambda a: draw(a, rows)
    )


def measured(bench: Bench, workers: int, tasks: int, repeats: int) -> Run:
    batch = ["sleep 0"] * tasks
    with bench.workers(workers, THREADS):
        bench.measure(batch[:1000])  # connections are made, code is loaded
        return repeated(repeats, lambda: bench.measure(batch))


def row(run: Run, workers: int, options: report.Options) -> dict[str, Any]:
    return {
        "tasks": run.tasks,
        "workers": workers,
        "latency ms": options.latency_ms,
        "seconds": run.seconds,
        "tasks/s": run.tasks_per_s,
        "to 2014's best": run.tasks_per_s / BEST_OF_2014,
        **run.cost_columns(),
    }


def draw(axes: Axes, rows: list[dict[str, Any]]) -> None:
    curve, (single,) = rows[:-1], rows[-1:]
    counts = [int(str(row["workers"])) for row in curve]
    axes.plot(counts, [row["tasks/s"] for row in curve], "o-", label=f"{curve[0]['tasks']:,} tasks")
    axes.plot([1], [single["tasks/s"]], "s", label=f"{single['tasks']:,} tasks, one worker")
    axes.axhline(BEST_OF_2014, color="grey", linestyle="--", label="2014's best: 36/s, 16 workers")
    axes.set_yscale("log")
    axes.set_ylabel("tasks/s")
    report.doubling(axes, "workers (processes of 16 threads, on this machine's cores)", counts)


if __name__ == "__main__":
    main()
