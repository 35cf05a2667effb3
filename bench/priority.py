"""Waiting times of high and normal priority on one worker:
`python -m bench.priority [--quick]`.

10,000 tasks of normal priority keep one worker of 16 threads busy. Beside them come batches of high
priority, in two ways: `trickle`, a batch of 10 tasks every half second, and `flood`, as many tasks
at once. The kind `sleep` says how long a task takes, the kind `nap` (`examples/naps.py`) does not.

The wait of a task lasts from the submission of its batch to the start of its execution. In a flood,
the share of normal work is counted among all tasks that started while tasks of high priority
waited.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from bench import report
from bench.harness import Bench, BenchFailed, bench_cloud
from bench.report import Row
from taskfleet import Client

TASKS = 10_000
SLOTS = 16
TRICKLE_TASKS = 10
TRICKLE_S = 0.5
"""Seconds between two batches of the trickle."""
KINDS = {"sleep": "sleep 20", "nap": "nap 0.02"}


@dataclass(frozen=True)
class Started:
    """When the tasks of a batch were submitted and began to run, in epoch seconds."""

    submitted: float
    starts: list[float]

    @property
    def waits_s(self) -> list[float]:
        return [start - self.submitted for start in self.starts]


def epoch(text: str | None) -> float:
    if text is None:
        raise BenchFailed("a task has no start")
    return datetime.fromisoformat(text).timestamp()


def finished(client: Client, batch_id: str) -> Started:
    """Wait for a batch and return when its tasks started."""
    batch = client.wait(batch_id)
    rows = list(client.results(batch_id))
    if batch.succeeded != batch.total or len(rows) != batch.total:
        raise BenchFailed(f"{len(rows)} of {batch.total} tasks have results: {batch}")
    return Started(epoch(batch.created_at), [epoch(row.started_at) for row in rows])


def trickle(client: Client, task: str, _tasks: int, ended: threading.Event) -> list[str]:
    made = []
    while not ended.wait(TRICKLE_S):
        made.append(client.submit([task] * TRICKLE_TASKS, priority="high").batch_id)
    return made


def flood(client: Client, task: str, tasks: int, _ended: threading.Event) -> list[str]:
    time.sleep(2 * TRICKLE_S)  # the worker is busy by then
    return [client.submit([task] * tasks, priority="high").batch_id]


Way = Callable[[Client, str, int, threading.Event], list[str]]
WAYS: dict[str, Way] = {"trickle": trickle, "flood": flood}


def measure(bench: Bench, kind: str, way: str, tasks: int) -> Row:
    url, token = (bench.cloud.variables[name] for name in ("TASKFLEET_URL", "TASKFLEET_TOKEN"))
    ended = threading.Event()
    made: list[str] = []

    def send() -> None:
        with Client(url, token) as own:
            made.extend(WAYS[way](own, KINDS[kind], tasks, ended))

    with Client(url, token) as client:
        normal_id = client.submit([KINDS[kind]] * tasks).batch_id
        thread = threading.Thread(target=send)
        thread.start()
        normal = finished(client, normal_id)
        ended.set()
        thread.join()
        high = [finished(client, batch_id) for batch_id in made]
    if not high:
        raise BenchFailed("the normal work ended before any of high priority came")
    waits_s = [wait for one in high for wait in one.waits_s]
    usual, fast = statistics.median(normal.waits_s), statistics.median(waits_s)
    return {
        "kind": kind,
        "high priority": way,
        "normal tasks": tasks,
        "high tasks": len(waits_s),
        "normal wait s": usual,
        "high wait s": fast,
        "ratio": fast / usual,
        "p95 of high s": statistics.quantiles(waits_s, n=20)[-1],
        "normal share": share(normal, high) if way == "flood" else "-",
    }


def share(normal: Started, high: list[Started]) -> float:
    """Share of normal tasks among those that started between the first and the last task of high
    priority."""
    first, last = min(min(one.starts) for one in high), max(max(one.starts) for one in high)
    beside = sum(first <= start <= last for start in normal.starts)
    return beside / (beside + sum(len(one.starts) for one in high))


def main() -> None:
    options = report.options("priority", __doc__)
    tasks = options.pick(TASKS, 2_000)
    rows = []
    with (
        bench_cloud(latency_ms=options.latency_ms, kinds=["naps"]) as bench,
        bench.workers(1, SLOTS),
    ):
        bench.warm_up()
        for kind in KINDS:
            rows += [measure(bench, kind, way, tasks) for way in WAYS]
    name = options.named("priority")
    report.publish(options, name, "High priority beside normal work on one busy worker", rows)


if __name__ == "__main__":
    main()
