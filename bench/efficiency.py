"""How close workers come to the shortest possible time:
`python -m bench.efficiency [--quick] [--latency-ms 10] [--part local|threads|processes|small]`.

2014's datasheet gave each of 1 to 16 workers 80 s of work, as 80 x 1 s, 40 x 2 s, 20 x 4 s or
10 x 8 s. Efficiency is ideal time over time taken. Here a slot takes the place of a worker of 2014:
a thread of the local worker, a thread of one remote worker, or one of 16 slots that several
processes share. Part `small` runs 80 x 1 s and 8,000 x 10 ms in all, on 16 threads.

Sleeping needs no core, so the four durations are measured at the same time, each in processes and
on a local cloud of its own; the short tasks of `small` run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from matplotlib.axes import Axes

from bench import report
from bench.harness import Bench, Run, bench_cloud, repeated
from bench.local import run_local
from bench.report import Row

WORK_S = 80.0
"""Work of each slot, in seconds."""
QUICK = 0.05
"""Factor on every duration with --quick."""
DURATIONS_S = (1.0, 2.0, 4.0, 8.0)
THREADS = (1, 2, 4, 8, 16)
PROCESSES = (2, 4, 8, 16)
SLOTS = 16


@dataclass(frozen=True)
class Point:
    """`tasks` tasks of `each_s` seconds on `processes` workers of `threads` slots each."""

    part: str
    tasks: int
    each_s: float
    processes: int
    threads: int

    @property
    def ideal_s(self) -> float:
        """The time without any overhead, in seconds."""
        return self.tasks * self.each_s / (self.processes * self.threads)

    @property
    def lines(self) -> list[str]:
        return [f"sleep {self.each_s * 1000:g}"] * self.tasks

    def row(self, run: Run, latency_ms: float) -> Row:
        return {
            "part": self.part,
            "tasks": self.tasks,
            "each s": self.each_s,
            "processes": self.processes,
            "threads": self.threads,
            "latency ms": latency_ms,
            "seconds": run.seconds,
            "ideal s": self.ideal_s,
            "efficiency": self.ideal_s / run.seconds,
            **run.cost_columns(),
        }


def sheet(part: str, each_s: float, shapes: Iterable[tuple[int, int]], scale: float) -> list[Point]:
    """The points of one duration, with `WORK_S` for each slot. `shapes` are pairs of processes and
    threads; `scale` is a factor on the duration."""
    tasks_each = round(WORK_S / each_s)
    return [
        Point(part, tasks_each * processes * threads, each_s * scale, processes, threads)
        for processes, threads in shapes
    ]


def main() -> None:
    parser = report.parser("efficiency", __doc__)
    parser.add_argument(
        "--part", choices=[*PARTS], action="append", help="run this part; repeatable (all parts)"
    )
    options, given = report.parsed(parser)
    parts = given.part or (LATENCY_PARTS if options.latency_ms else PARTS)
    rows = [row for part in parts for row in PARTS[part](options)]
    name = options.named("efficiency")
    title = "Efficiency: ideal time over submission to last result"
    report.publish(options, name, title, rows)
    for part, plot_title in PLOTS.items():
        if of_part := [row for row in rows if row["part"] == part]:
            path = options.out / f"{name}-{part}.png"
            report.plot(path, plot_title, partial(draw, rows=of_part))


# --- parts ------------------------------------------------------------------------------------


def local(options: report.Options) -> list[Row]:
    """The local worker, on 1 to 16 threads."""

    def measured_row(point: Point) -> Row:
        return point.row(run_local(point.lines, point.threads), 0.0)

    scale = options.pick(1.0, QUICK)
    counts = options.pick(THREADS, (1, 16))
    points = [
        point
        for each_s in DURATIONS_S
        for point in sheet("local", each_s, [(1, n) for n in counts], scale)
    ]
    with ThreadPoolExecutor(len(points)) as pool:
        return list(pool.map(measured_row, points))


def threads(options: report.Options) -> list[Row]:
    """One remote worker, on 1 to 16 threads."""
    counts = (SLOTS,) if options.quick or options.latency_ms else THREADS
    return remote("threads", options, [(1, n) for n in counts])


def processes(options: report.Options) -> list[Row]:
    """16 slots in 2 to 16 remote workers."""
    counts = options.pick(PROCESSES, (2,))
    return remote("processes", options, [(n, SLOTS // n) for n in counts])


def remote(part: str, options: report.Options, shapes: list[tuple[int, int]]) -> list[Row]:
    def measured_rows(each_s: float) -> list[Row]:
        points = sheet(part, each_s, shapes, options.pick(1.0, QUICK))
        with bench_cloud(latency_ms=options.latency_ms) as bench:
            return [measured(bench, point, 1) for point in points]

    with ThreadPoolExecutor(len(DURATIONS_S)) as pool:
        return [row for rows in pool.map(measured_rows, DURATIONS_S) for row in rows]


def small(options: report.Options) -> list[Row]:
    """Short work, where the overhead of a task shows most."""
    scale = options.pick(1.0, 0.2)
    points = [
        Point("small", 80, 1.0 * scale, 1, SLOTS),
        Point("small", round(8000 * scale), 0.010, 1, SLOTS),
    ]
    with bench_cloud(latency_ms=options.latency_ms) as bench:
        rows = [measured(bench, point, options.repeats) for point in points]
    if not options.latency_ms:
        for point in points:
            run = repeated(options.repeats, partial(run_local, point.lines, point.threads))
            rows.append({**point.row(run, 0.0), "part": "small, local"})
    return rows


def measured(bench: Bench, point: Point, repeats: int) -> Row:
    with bench.workers(point.processes, point.threads):
        bench.warm_up()
        run = repeated(repeats, lambda: bench.measure(point.lines))
    return point.row(run, bench.latency_ms)


PARTS: dict[str, Callable[[report.Options], list[Row]]] = {
    "local": local,
    "threads": threads,
    "processes": processes,
    "small": small,
}
LATENCY_PARTS = ("threads", "small")
"""Parts that run by default when there is latency."""
PLOTS = {
    "local": "Local worker, 80 s of work a thread",
    "threads": "One remote worker, 80 s of work a thread",
    "processes": "Remote workers of 16 slots in all, 80 s of work a slot",
}
"""Titles of the plots, by part."""


def draw(axes: Axes, rows: list[Row]) -> None:
    """Plot efficiency over threads or processes, with one line for each duration."""
    across = "threads" if rows[0]["part"] != "processes" else "processes"
    counts = sorted({row[across] for row in rows})
    for each_s in sorted({row["each s"] for row in rows}):
        line = [row for row in rows if row["each s"] == each_s]
        tasks_each = line[0]["tasks"] // (line[0]["processes"] * line[0]["threads"])
        axes.plot(
            [row[across] for row in line],
            [row["efficiency"] for row in line],
            "o-",
            label=f"{tasks_each} x {each_s:g} s",
        )
    axes.set_ylim(min(0.8, *(row["efficiency"] for row in rows)), 1.005)
    axes.set_ylabel("efficiency")
    report.doubling_axis(axes, across, counts)


if __name__ == "__main__":
    main()
