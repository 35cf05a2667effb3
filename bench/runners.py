"""What it costs to run tasks in processes of their own:
`python -m bench.runners [--quick] [--part throughput|cores|latency|memory]`.

Part `throughput` runs 100,000 tasks: no-ops that are all the same, no-ops that are all distinct,
and tasks of a kind in runner processes that returns its params. Part `cores` runs pure Python that
keeps a core busy, part `latency` one task at a time and what each leg of its way takes, and part
`memory` looks at the processes of a worker whose 16 runners have run. One worker of 16 slots runs
all of it.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from collections.abc import Callable, Sequence
from datetime import datetime

from bench import report
from bench.harness import Bench, Run, bench_cloud, repeated
from bench.report import Row
from taskfleet import Client

KINDS = "bench.runner_kinds"
SPINS = ((16, 1000), (64, 250))
"""Numbers of tasks, and milliseconds of a core's time that each takes."""
GAP_S = 0.05
"""Pause between two tasks of the part `latency`: the next one finds everything idle."""


def main() -> None:
    parser = report.parser("runners", __doc__)
    parser.add_argument(
        "--part", choices=[*PARTS], action="append", help="run this part; repeatable (all parts)"
    )
    options, given = report.parsed(parser)
    for part in given.part or PARTS:
        title, measure = PARTS[part]
        with bench_cloud(latency_ms=options.latency_ms, kinds=[KINDS]) as bench, bench.workers(1):
            bench.warm_up(1000)
            # Runners start, and the kinds' durations are learned.
            bench.measure(["echo 1"] * 100)
            bench.measure(["spin 1"] * 100)
            rows = measure(bench, options)
        report.publish(options, options.named(f"runners-{part}"), title, rows)


# --- parts ------------------------------------------------------------------------------------


def throughput(bench: Bench, options: report.Options) -> list[Row]:
    """Many small tasks, in threads and in processes."""
    count = options.pick(100_000, 10_000)
    batches = {
        "sleep 0, all the same": ["sleep 0"] * count,
        "sleep 0.0…, all distinct": [f"sleep 0.0{number:08d}" for number in range(count)],
        "echo in runners, all distinct": [f"echo {number}" for number in range(count)],
    }
    return [
        {
            "tasks": f"{count:,} x {name}",
            "seconds": run.seconds,
            "tasks/s": run.tasks_per_s,
            **run.cost_columns(),
        }
        for name, tasks in batches.items()
        for run in [_median(bench, options, tasks)]
    ]


def cores(bench: Bench, options: report.Options) -> list[Row]:
    """Pure Python that keeps a core busy."""
    count = os.cpu_count() or 1
    rows: list[Row] = []
    for tasks, each_ms in SPINS:
        each_ms = options.pick(each_ms, each_ms // 10)
        run = _median(bench, options, [f"spin {each_ms}"] * tasks)
        ideal_s = tasks * each_ms / 1000 / count
        rows.append(
            {
                "tasks": tasks,
                "each s of a core": each_ms / 1000,
                "cores": count,
                "seconds": run.seconds,
                "ideal s": ideal_s,
                "efficiency": ideal_s / run.seconds,
            }
        )
    return rows


def latency(bench: Bench, options: report.Options) -> list[Row]:
    """One task at a time, from the POST to its result in hand."""
    count = options.pick(200, 20)
    return [one_at_a_time(bench, task, count) for task in ("sleep 0", "echo 1")]


def memory(bench: Bench, options: report.Options) -> list[Row]:
    """The worker, its fork server and its runners after work in all slots."""
    bench.measure(["spin 100"] * options.pick(160, 32))
    (worker,) = bench.running_workers
    server = worker.children()[0]
    runners = server.children()
    rows = {"worker": [worker], "fork server": [server], "runner": runners}
    return [
        {
            "process": name,
            "count": len(processes),
            "MB proportional": statistics.fmean(p.memory_full_info().pss for p in processes) / 1e6,
            "MB resident": statistics.fmean(p.memory_info().rss for p in processes) / 1e6,
        }
        for name, processes in rows.items()
    ]


PARTS: dict[str, tuple[str, Callable[[Bench, report.Options], list[Row]]]] = {
    "throughput": ("Small tasks, from the submission to the results in hand", throughput),
    "cores": ("Pure Python that keeps a core busy, in runners", cores),
    "latency": ("One task, milliseconds from the POST to its result in hand, medians", latency),
    "memory": ("Memory of a worker with the AWS SDK and of its runners", memory),
}


# --- measuring --------------------------------------------------------------------------------


def _median(bench: Bench, options: report.Options, tasks: Sequence[str]) -> Run:
    return repeated(options.repeats, lambda: bench.measure(tasks))


def one_at_a_time(bench: Bench, task: str, count: int) -> Row:
    """Submit the task `count` times, each time after the last has ended. Returns the medians of its
    legs. The clocks of all processes are one."""
    variables = bench.cloud.variables
    legs: list[tuple[float, ...]] = []
    with Client(variables["TASKFLEET_URL"], variables["TASKFLEET_TOKEN"]) as client:
        for _ in range(count):
            posted = time.time()
            accepted = client.submit([task])
            answered = time.time()
            (row,) = client.completed(accepted.batch_id, wait_s=20.0).rows
            read = time.time()
            began = _epoch(row.started_at)
            counted = _epoch(client.status(accepted.batch_id).finished_at)
            steps = [
                after - before
                for before, after in itertools.pairwise((posted, answered, began, counted, read))
            ]
            legs.append((*steps, read - posted))
            time.sleep(GAP_S)
    medians = [statistics.median(leg) * 1000 for leg in zip(*legs, strict=True)]
    names = ("POST", "to its start", "to the answer recorded", "to the result in hand", "all")
    return {"task": task, "runs": count, **dict(zip(names, medians, strict=True))}


def _epoch(moment: str | None) -> float:
    assert moment is not None
    return datetime.fromisoformat(moment).timestamp()


if __name__ == "__main__":
    main()
