"""A large batch through an upload on a local cloud of its own: `python -m bench.upload [--quick]`.

1,000,000 tasks, once all `sleep 0` and once no two lines the same: how long the file takes to send,
the batch to be accepted, all of it to be enqueued, done and read, and the most memory that the
reading process (the local cloud's pump) ever had. Linux only. The worker runs all the while on the
same cores.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from bench import report
from bench.harness import BenchFailed, CpuWatch
from localcloud.launch import Launched, launched
from taskfleet import Client
from taskfleet.aws.session import Aws
from taskfleet.clock import SystemClock
from taskfleet.settings import load
from taskfleet.task import TaskStatus

POLL_S = 0.1
WAIT_S = 900


def main() -> None:
    options = report.options("upload", __doc__)
    count = options.pick(1_000_000, 20_000)
    rows = []
    # The second takes minutes, so it runs once.
    for distinct, repeats in ((False, options.repeats), (True, 1)):
        runs = [run(count, distinct) for _ in range(repeats)]
        rows.append(row(runs))
    report.show("A file of tasks, through an upload; seconds from its acceptance", rows)
    report.write_csv(options.out / "upload.csv", rows)


def row(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Each figure's median."""
    first = runs[0]
    figures = {
        name: statistics.median(one[name] for one in runs)
        for name, value in first.items()
        if isinstance(value, float)
    }
    return {**first, **figures, "runs": len(runs)}


def run(count: int, distinct: bool) -> dict[str, Any]:
    with (
        tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder,
        launched(Path(folder), "--workers", "1", "--threads", "16") as cloud,
    ):
        return measure(cloud, count, distinct)


def measure(cloud: Launched, count: int, distinct: bool) -> dict[str, Any]:
    env = cloud.variables
    data = lines(count, distinct)
    family = psutil.Process(cloud.process.pid).children(recursive=True)
    (pump,) = (child.pid for child in family if "localcloud.pump" in child.cmdline())
    before_mb = memory_mb(pump, "VmRSS")
    with mock.patch.dict(os.environ, env):  # where boto3 looks
        monitor = Aws(load(), SystemClock()).monitor()
        monitor.batch("none")  # a client is made at its first call
    watch = CpuWatch({"cloud": family})
    with Client(env["TASKFLEET_URL"], env["TASKFLEET_TOKEN"]) as client:
        sent_at: list[float] = []
        started = time.perf_counter()
        accepted = client.submit_file(
            io.BytesIO(data), on_sent=lambda *_: sent_at.append(time.perf_counter())
        )
        accepted_at = time.perf_counter()
        stop = threading.Event()
        marks: dict[str, float] = {}

        def look() -> None:
            while not stop.is_set():
                batch = monitor.batch(accepted.batch_id)
                assert batch is not None
                assert batch.upload is not None
                if batch.upload.checked:
                    marks.setdefault("checked", time.perf_counter())
                if batch.closed and batch.enqueued == batch.total:
                    marks["enqueued"] = time.perf_counter()
                    return
                stop.wait(POLL_S)

        looking = threading.Thread(target=look)
        looking.start()
        try:
            batch = client.wait(accepted.batch_id, timeout_s=WAIT_S)
        finally:
            done_at = time.perf_counter()
            looking.join(2 * POLL_S + 1.0)
            stop.set()
            looking.join()
        rows = succeeded = 0
        for result in client.results(accepted.batch_id):
            if result.index != rows:
                raise BenchFailed(f"result {rows} is that of task {result.index}")
            rows += 1
            succeeded += result.status is TaskStatus.SUCCEEDED
        read_at = time.perf_counter()
        # A bill is complete a moment after the last result.
        batch = client.status(accepted.batch_id)
    _, _, others = watch.stop()
    if not rows == succeeded == batch.succeeded == batch.total == count:
        raise BenchFailed(f"of {count} tasks {succeeded} succeeded, by {rows} results: {batch}")
    return {
        "tasks": count,
        "lines": "distinct" if distinct else "sleep 0",
        "MB": len(data) / 1e6,
        "sent s": sent_at[-1] - started,
        "accepted s": accepted_at - sent_at[-1],
        "checked s": marks["checked"] - accepted_at,
        "enqueued s": marks["enqueued"] - accepted_at,
        "done s": done_at - accepted_at,
        "read s": read_at - done_at,
        "AWS calls a task": batch.aws_calls / batch.total,
        "$ a million": batch.cost_usd / batch.total * 1e6,
        "reader MB": memory_mb(pump),
        "reader MB before": before_mb,
        "cores busy elsewhere": others,
    }


def lines(count: int, distinct: bool) -> bytes:
    if not distinct:
        return b"sleep 0\n" * count
    return b"".join(b'{"kind": "sleep", "params": %.7f}\n' % (n / 1e7) for n in range(count))


def memory_mb(pid: int, field: str = "VmHWM") -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
