"""How near workers come to the shortest possible time: `python -m bench.efficiency [--quick]
[--latency-ms 10] [--part local|threads|processes|small]`.

2014's datasheet: 80 s of work for each worker, as 80 x 1 s, 40 x 2 s, 20 x 4 s and 10 x 8 s, on 1
to 16 workers, where efficiency is ideal time over time taken. Here a worker of 2014 is a slot:
a thread of the local worker, a thread of one remote worker, or one of 16 slots shared out among
processes. Besides, on 16 threads: 80 x 1 s in all, and 8,000 x 10 ms.

Sleeping needs no core, so the four durations of a sheet are measured side by side, each in
processes (and on a local cloud) of its own; the short tasks of `small` run alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from matplotlib.axes import Axes

from bench import report
from bench.harness import Bench, Run, bench_cloud, repeated
from bench.local import run_local

WORK_S = 80.0
"""For each slot."""
QUICK = 0.05
"""Scale of every duration with --quick."""
DURATIONS_S = (1.0, 2.0, 4.0, 8.0)
THREADS = (1, 2, 4, 8, 16)
PROCESSES = (2, 4, 8, 16)
SLOTS = 16


@dataclass(frozen=True)
class Point:
    """So many tasks of one duration on `processes` of `threads` slots each."""

    part: str
    tasks: int
    each_s: float
    processes: int
    threads: int

    @property
    def ideal_s(self) -> float:
        return self.tasks * self.each_s / (self.processes * self.threads)

    @property
    def lines(self) -> list[str]:
        return [f"sleep {self.each_s * 1000:g}"] * self.tasks

    def row(self, run: Run, latency_ms: float) -> dict[str, Any]:
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
    """The points of one duration: 80 s for each slot."""
    tasks_each = round(WORK_S / each_s)
    return [
        Point(part, tasks_each * processes * threads, each_s * scale, processes, threads)
        for processes, threads in shapes
    ]


def main() -> None:
    parser = report.parser("efficiency", __doc__)
    parser.add_argument("--part", choices=[*PARTS], action="append", help="repeatable; all of them")
    options, given = report.parsed(parser)
    parts = given.part or (LATENCY_PARTS if options.latency_ms else PARTS)
    rows = [row for part in parts for row in PARTS[part](options)]
    name = report.named("efficiency", options)
    report.show("Efficiency: ideal time over submission to last result", rows)
    report.write_csv(options.out / f"{name}.csv", rows)
    for part in ("local", "threads", "processes"):
        of_part = [row for row in rows if row["part"] == part]
        if of_part:
            path = options.out / f"{name}-{part}.png"
            report.plot(path, TITLES[part], partial(draw, rows=of_part))


Rows = list[dict[str, Any]]


def local(options: report.Options) -> Rows:
    def one(point: Point) -> dict[str, Any]:
        return point.row(run_local(point.lines, point.threads), 0.0)

    scale = options.pick(1.0, QUICK)
    counts = options.pick(THREADS, (1, 16))
    points = [
        point
        for each_s in DURATIONS_S
        for point in sheet("local", each_s, [(1, n) for n in counts], scale)
    ]
    with ThreadPoolExecutor(len(points)) as side_by_side:
        return list(side_by_side.map(one, points))


def threads(options: report.Options) -> Rows:
    counts = THREADS if not (options.quick or options.latency_ms) else (SLOTS,)
    return remote("threads", options, [(1, n) for n in counts])


def processes(options: report.Options) -> Rows:
    counts = options.pick(PROCESSES, (2,))
    return remote("processes", options, [(n, SLOTS // n) for n in counts])


def remote(part: str, options: report.Options, shapes: list[tuple[int, int]]) -> Rows:
    def one(each_s: float) -> Rows:
        points = sheet(part, each_s, shapes, options.pick(1.0, QUICK))
        with bench_cloud(latency_ms=options.latency_ms) as bench:
            return [measured(bench, point, 1) for point in points]

    with ThreadPoolExecutor(len(DURATIONS_S)) as side_by_side:
        return [row for rows in side_by_side.map(one, DURATIONS_S) for row in rows]


def small(options: report.Options) -> Rows:
    """Where what a task costs shows the most."""
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


def measured(bench: Bench, point: Point, repeats: int) -> dict[str, Any]:
    with bench.workers(point.processes, point.threads):
        bench.measure(["sleep 0"] * 100)  # connections are made, code is loaded
        run = repeated(repeats, lambda: bench.measure(point.lines))
    return point.row(run, bench.latency_ms)


PARTS: dict[str, Callable[[report.Options], Rows]] = {
    "local": local,
    "threads": threads,
    "processes": processes,
    "small": small,
}
LATENCY_PARTS = ("threads", "small")
TITLES = {
    "local": "Local worker, 80 s of work a thread",
    "threads": "One remote worker, 80 s of work a thread",
    "processes": "Remote workers of 16 slots in all, 80 s of work a slot",
}


def draw(axes: Axes, rows: Rows) -> None:
    across = "threads" if rows[0]["part"] != "processes" else "processes"
    counts = sorted({row[across] for row in rows})
    for each_s in sorted({row["each s"] for row in rows}):
        of_size = [row for row in rows if row["each s"] == each_s]
        a_slot = of_size[0]["tasks"] // (of_size[0]["processes"] * of_size[0]["threads"])
        axes.plot(
            [row[across] for row in of_size],
            [row["efficiency"] for row in of_size],
            "o-",
            label=f"{a_slot} x {each_s:g} s",
        )
    axes.set_ylim(min(0.8, *(row["efficiency"] for row in rows)), 1.005)
    axes.set_ylabel("efficiency")
    report.doubling(axes, across, counts)


if __name__ == "__main__":
    main()
