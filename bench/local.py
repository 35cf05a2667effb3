"""Throughput of no-op tasks on the local worker: `python -m bench.local [--quick]`.

2014's datasheet ran 100,000 `sleep 0` in memory, at best in 10.08 s. This runs the same tasks
through `ec2_worker.local`, with claims, leases and a result for each task, on 1 to 16 threads. A
measurement lasts from reading the lines of the task file to counting the last result.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from matplotlib.axes import Axes

from bench import report
from bench.harness import BenchFailed, Run, repeated
from bench.machine import CpuWatch
from bench.report import Row

THREADS = (1, 2, 4, 8, 16)
BEST_OF_2014 = 100_000 / 10.08
"""Best throughput of 2014, in memory, in tasks/s."""


def run_local(lines: Sequence[str], threads: int) -> Run:
    """Run a task file in a new process, as `ec2_worker/run.py --local` does."""
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder,
        ProcessPoolExecutor(1, mp_context=spawn) as pool,
    ):
        path = Path(folder) / "tasks.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
        return pool.submit(_run, path, threads).result()


def _run(path: Path, threads: int) -> Run:
    from ec2_worker.local import LocalRun
    from ec2_worker.wiring import memory_ports
    from taskfleet.registry import Registry
    from taskfleet.settings import Settings

    local = LocalRun(memory_ports(), Registry.load(), Settings(), threads=threads)
    watch = CpuWatch({})
    summary = local.run(path, lambda _view: None)
    cpu = watch.stop()
    batch = summary.batch
    if batch.succeeded != batch.total:
        raise BenchFailed(f"not all tasks succeeded: {batch}")
    return Run(
        batch.total,
        summary.seconds,
        worker_cpu_s=cpu.own_s,
        cpu_s=cpu.own_s,
        other_cores=cpu.other_cores,
    )


def main() -> None:
    options = report.options("local", __doc__)
    tasks = options.pick(100_000, 10_000)
    lines = ["sleep 0"] * tasks
    rows: list[Row] = []
    for threads in options.pick(THREADS, (1, 16)):
        run = repeated(options.repeats, partial(run_local, lines, threads))
        rows.append(
            {
                "tasks": tasks,
                "threads": threads,
                "seconds": run.seconds,
                "tasks/s": run.tasks_per_s,
                "to 2014's best": run.tasks_per_s / BEST_OF_2014,
                **run.cost_columns(),
            }
        )
    report.publish(options, "local", "`sleep 0` by the local worker", rows)
    report.plot(
        options.out / "local.png",
        f"{tasks:,} no-op tasks, in memory",
        lambda axes: draw(axes, rows),
    )


def draw(axes: Axes, rows: list[Row]) -> None:
    counts = [row["threads"] for row in rows]
    axes.plot(counts, [row["tasks/s"] for row in rows], "o-", label="local worker")
    label = f"2014's best: {BEST_OF_2014:,.0f}/s"
    axes.axhline(BEST_OF_2014, color="grey", linestyle="--", label=label)
    axes.set_yscale("log")
    axes.set_ylabel("tasks/s")
    report.doubling_axis(axes, "threads", counts)


if __name__ == "__main__":
    main()
