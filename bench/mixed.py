"""Makespan of tasks with unknown, mixed durations:
`python -m bench.mixed [--quick] [--latency-ms 10]`.

200 tasks of a kind that gives no hint (`examples/naps.py`), with log-normal durations around 0.3 s,
run on one worker of 16 threads. The time from submission to the last result is compared with the
list schedule for 16 slots of the longest tasks first, which requires knowing the durations, and of
the tasks in their order. The first batch of each series finds nothing learned; the next ones do.
Each series has a local cloud and a seed of its own.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable

from matplotlib.axes import Axes

from bench import report
from bench.harness import Run, bench_cloud, median
from bench.report import Row
from bench.schedule import list_makespan_s, lower_bound_s, lpt_makespan_s

TASKS = 200
MEDIAN_S = 0.3
SIGMA = 0.5
"""Standard deviation of the logarithm of a duration: one task in forty takes over 0.8 s."""
SLOTS = 16
BATCHES = 3
"""Batches of a series."""
Batch = tuple[list[float], Run]
"""The durations of a batch's tasks in seconds, and its measurement."""


def durations_s(seed: int, count: int) -> list[float]:
    rng = random.Random(seed)
    return [round(MEDIAN_S * rng.lognormvariate(0.0, SIGMA), 4) for _ in range(count)]


def series(seed: int, options: report.Options) -> list[Batch]:
    """Measure batches one after the other on a new cloud. Each has its own durations."""
    batches = []
    with (
        bench_cloud(latency_ms=options.latency_ms, kinds=["naps"]) as bench,
        bench.workers(1, SLOTS),
    ):
        bench.warm_up()
        for number in range(BATCHES):
            tasks = durations_s(100 * seed + number, options.pick(TASKS, 100))
            batches.append((tasks, bench.measure([f"nap {seconds}" for seconds in tasks])))
    return batches


def main() -> None:
    options = report.options("mixed", __doc__)
    all_series = [series(seed, options) for seed in range(1, options.repeats + 1)]
    rows = [
        row(number + 1, [one[number] for one in all_series], options) for number in range(BATCHES)
    ]
    name = options.named("mixed")
    title = "Tasks of unknown, mixed durations: makespan to schedules for 16 slots"
    report.publish(options, name, title, rows)
    report.plot(
        options.out / f"{name}.png", "Unknown, mixed durations", lambda axes: draw(axes, rows)
    )


def row(number: int, batches: list[Batch], options: report.Options) -> Row:
    """The medians over all series of the batches with this number."""

    def ratio(schedule_s: Callable[[list[float], int], float]) -> float:
        return statistics.median(run.seconds / schedule_s(tasks, SLOTS) for tasks, run in batches)

    middle = median([run for _, run in batches])
    return {
        "batch": number,
        "tasks": middle.tasks,
        "latency ms": options.latency_ms,
        "seconds": middle.seconds,
        "to longest first": ratio(lpt_makespan_s),
        "to order given": ratio(list_makespan_s),
        "to lower bound": ratio(lower_bound_s),
        **middle.cost_columns(),
    }


def draw(axes: Axes, rows: list[Row]) -> None:
    numbers = [row["batch"] for row in rows]
    for column in ("to longest first", "to order given"):
        axes.plot(numbers, [row[column] for row in rows], "o-", label=column)
    axes.axhline(1.0, color="grey", linestyle="--")
    axes.set_xticks(numbers)
    axes.set_xlabel("batch")
    axes.set_ylabel("makespan, the schedule = 1")


if __name__ == "__main__":
    main()
