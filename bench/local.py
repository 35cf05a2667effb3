"""The local worker on no-op tasks: `python -m bench.local [--quick]`.

2014's datasheet: 100,000 `sleep 0` in memory, at best 10.08 s. Here the same through
`ec2_worker.local`, with claims, leases and a result for each task, in threads 1 to 16; from the
task file's lines being read to the last result being counted.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from bench import report
from bench.harness import BenchFailed, CpuWatch, Run, repeated

THREADS = (1, 2, 4, 8, 16)
BEST_OF_2014_S = 10.08
"""For 100,000."""


def run_local(lines: Sequence[str], threads: int) -> Run:
    """One run in a fresh process, as `ec2_worker/run.py --local` would make it."""
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder,
        ProcessPoolExecutor(1, mp_context=spawn) as fresh,
    ):
        path = Path(folder) / "tasks.txt"
        path.write_text("".join(f"{line}\n" for line in lines))
        return fresh.submit(_run, path, threads).result()


def _run(path: Path, threads: int) -> Run:
    from ec2_worker.local import LocalRun
    from ec2_worker.wiring import memory_ports
    from taskfleet.registry import Registry
    from taskfleet.settings import Settings

    run = LocalRun(memory_ports(), Registry.load(), Settings(), threads=threads)
    watch = CpuWatch({})
    summary = run.run(path, lambda _view: None)
    _, cpu_s, others = watch.stop()
    batch = summary.batch
    if batch.succeeded != batch.total:
        raise BenchFailed(f"not all succeeded: {batch}")
    return Run(batch.total, summary.seconds, worker_cpu_s=cpu_s, cpu_s=cpu_s, others=others)


def main() -> None:
    options = report.options("local", __doc__)
    tasks = options.pick(100_000, 10_000)
    lines = ["sleep 0"] * tasks
    rows: list[dict[str, Any]] = []
    for threads in options.pick(THREADS, (1, 16)):
        run = repeated(options.repeats, partial(run_local, lines, threads))
        rows.append(
            {
                "tasks": tasks,
                "threads": threads,
                "seconds": run.seconds,
                "tasks/s": run.tasks_per_s,
                "to 2014's best": run.tasks_per_s * BEST_OF_2014_S / 100_000,
                **run.cost_columns(),
            }
        )
    report.show("`sleep 0` by the local worker", rows)
    report.write_csv(options.out / "local.csv", rows)
    report.plot(
        options.out / "local.png", f"{tasks:,} no-op tasks, in memory", lambda a: draw(a, rows)
    )


def draw(axes: Axes, rows: list[dict[str, Any]]) -> None:
    counts = [row["threads"] for row in rows]
    axes.plot(counts, [row["tasks/s"] for row in rows], "o-", label="local worker")
    best = 100_000 / BEST_OF_2014_S
    axes.axhline(best, color="grey", linestyle="--", label=f"2014's best: {best:,.0f}/s")
    axes.set_yscale("log")
    axes.set_ylabel("tasks/s")
    report.doubling(axes, "threads", counts)


if __name__ == "__main__":
    main()
