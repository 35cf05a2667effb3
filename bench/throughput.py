"""Throughput of no-op tasks on remote workers:
`python -m bench.throughput [--quick] [--latency-ms 10]`.

2014's datasheet ran 10,000 `sleep 0` on 1 to 16 remote workers, at best 36 tasks/s. This runs the
same tasks, and 100,000 on one worker of 16 threads.
"""

from __future__ import annotations

from matplotlib.axes import Axes

from bench import report
from bench.harness import Bench, Run, bench_cloud, repeated
from bench.report import Row

WORKERS = (1, 2, 4, 8, 16)
THREADS = 16
"""Slots of each worker."""
BEST_OF_2014 = 36.0
"""Best throughput of 2014, with 16 remote workers, in tasks/s."""


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
    name = options.named("throughput")
    title = "`sleep 0` by remote workers of 16 threads, submission to last result"
    report.publish(options, name, title, rows)
    report.plot(
        options.out / f"{name}.png",
        "No-op tasks by remote workers",
        lambda axes: draw(axes, rows),
    )


def measured(bench: Bench, workers: int, tasks: int, repeats: int) -> Run:
    with bench.workers(workers, THREADS):
        bench.warm_up(min(tasks, 1000))
        return repeated(repeats, lambda: bench.measure(["sleep 0"] * tasks))


def row(run: Run, workers: int, options: report.Options) -> Row:
    return {
        "tasks": run.tasks,
        "workers": workers,
        "latency ms": options.latency_ms,
        "seconds": run.seconds,
        "tasks/s": run.tasks_per_s,
        "to 2014's best": run.tasks_per_s / BEST_OF_2014,
        **run.cost_columns(),
    }


def draw(axes: Axes, rows: list[Row]) -> None:
    """Plot throughput over workers. The last row is the large batch on one worker."""
    *curve, single = rows
    counts = [row["workers"] for row in curve]
    axes.plot(counts, [row["tasks/s"] for row in curve], "o-", label=f"{curve[0]['tasks']:,} tasks")
    axes.plot([1], [single["tasks/s"]], "s", label=f"{single['tasks']:,} tasks, one worker")
    axes.axhline(BEST_OF_2014, color="grey", linestyle="--", label="2014's best: 36/s, 16 workers")
    axes.set_yscale("log")
    axes.set_ylabel("tasks/s")
    report.doubling_axis(axes, "workers (processes of 16 threads, on this machine's cores)", counts)


if __name__ == "__main__":
    main()
