"""Durations unknown and mixed: `python -m bench.mixed [--quick] [--latency-ms 10]`.

200 tasks of a kind that gives no hint (`examples/naps.py`), log-normal around 0.3 s, on one worker
of 16 threads: how long from submission to the last result, against the best list schedule for 16
slots (the longest first, which takes knowing them) and against the same tasks in the order given.
The first batch finds nothing learned, those after it do. Each series has a local cloud and a seed
of its own.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes

from bench import report
from bench.harness import Run, bench_cloud, median
from bench.schedule import list_makespan_s, lower_bound_s, lpt_makespan_s

TASKS = 200
MEDIAN_S = 0.3
SIGMA = 0.5
"""Of the logarithm: one task in forty takes over 0.8 s."""
SLOTS = 16
BATCHES = 3


def durations_s(seed: int, count: int) -> list[float]:
    rng = random.Random(seed)
    return [round(MEDIAN_S * rng.lognormvariate(0.0, SIGMA), 4) for _ in range(count)]


def series(seed: int, options: report.Options) -> list[tuple[list[float], Run]]:
    """Batches one after the other on a cloud that knows nothing; each has its own durations."""
    found = []
    with (
        bench_cloud(latency_ms=options.latency_ms, kinds=["naps"]) as bench,
        bench.workers(1, SLOTS),
    ):
        bench.measure(["sleep 0"] * 100)  # connections are made, code is loaded
        for number in range(BATCHES):
            tasks = durations_s(100 * seed + number, options.pick(TASKS, 100))
            found.append((tasks, bench.measure([f"nap {seconds}" for seconds in tasks])))
    return found


def main() -> None:
    options = report.options("mixed", __doc__)
    all_series = [series(seed, options) for seed in range(1, options.repeats + 1)]
    rows: list[dict[str, Any]] = []
    for number in range(BATCHES):
        measured = [one[number] for one in all_series]
        rows.append(row(number + 1, measured, options))
    name = report.named("mixed", options)
    report.show("Tasks of unknown, mixed durations: makespan to schedules for 16 slots", rows)
    report.write_csv(options.out / f"{name}.csv", rows)
    report.plot(options.out / f"{name}.png", "Unknown, mixed durations", lambda a: draw(a, rows))


def row(
    number: int, measured: list[tuple[list[float], Run]], options: report.Options
) -> dict[str, Any]:
    def ratio(schedule_s: Callable[[list[float], int], float]) -> float:
        return statistics.median(run.seconds / schedule_s(tasks, SLOTS) for tasks, run in measured)

    middle = median([run for _, run in measured])
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


def draw(axes: Axes, rows: list[dict[str, Any]]) -> None:
    numbers = [row["batch"] for row in rows]
    for column in ("to longest first", "to order given"):
        axes.plot(numbers, [row[column] for row in rows], "o-", label=column)
    axes.axhline(1.0, color="grey", linestyle="--")
    axes.set_xticks(numbers)
    axes.set_xlabel("batch")
    axes.set_ylabel("makespan, the schedule = 1")


if __name__ == "__main__":
    main()
