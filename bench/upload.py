"""A large batch through an upload on a local cloud of its own: `python -m bench.upload [--quick]`.

1,000,000 tasks, once all `sleep 0` and once with no two lines equal. It measures how long it takes
to send the file, to accept the batch, to enqueue all tasks, to run them and to read all results,
and the peak memory of the process that reads the file (the local cloud's collector). One worker
runs the tasks meanwhile on the same cores. Linux only.
"""

from __future__ import annotations

import io
import os
import statistics
import tempfile
import threading
import time
from pathlib import Path
from unittest import mock

from bench import report
from bench.harness import COLLECTOR, BenchFailed, cloud_processes, process_of
from bench.machine import CpuWatch
from bench.report import Row
from localcloud.launch import Launched, launched
from taskfleet import Client
from taskfleet.aws.session import Aws
from taskfleet.clock import SystemClock
from taskfleet.ports import TaskMonitor
from taskfleet.settings import load
from taskfleet.task import TaskStatus

POLL_S = 0.1
"""Seconds between two readings of the batch's record."""
TIMEOUT_S = 900
"""Longest time from acceptance to the last result, in seconds."""


def main() -> None:
    options = report.options("upload", __doc__)
    count = options.pick(1_000_000, 20_000)
    rows = []
    # Distinct lines take minutes, so they run once.
    for distinct, repeats in ((False, options.repeats), (True, 1)):
        rows.append(row([run(count, distinct) for _ in range(repeats)]))
    title = "A file of tasks, through an upload; seconds from its acceptance"
    report.publish(options, "upload", title, rows)


def row(runs: list[Row]) -> Row:
    """The median of each figure."""
    first = runs[0]
    figures = {
        name: statistics.median(one[name] for one in runs)
        for name, value in first.items()
        if isinstance(value, float)
    }
    return {**first, **figures, "runs": len(runs)}


def run(count: int, distinct: bool) -> Row:
    """Measure one batch on a new local cloud."""
    with (
        tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder,
        launched(Path(folder), "--workers", "1", "--threads", "16") as cloud,
    ):
        return measure(cloud, count, distinct)


def measure(cloud: Launched, count: int, distinct: bool) -> Row:
    """Measure one batch. Raises BenchFailed unless every task succeeds and has one result."""
    env = cloud.variables
    data = lines(count, distinct)
    reader = process_of(cloud, COLLECTOR).pid
    before_mb = memory_mb(reader, "VmRSS")
    with mock.patch.dict(os.environ, env):  # boto3 reads its variables from there
        monitor = Aws(load(), SystemClock()).monitor()
        monitor.batch("none")  # the AWS client is made at its first call
    watch = CpuWatch({"cloud": cloud_processes(cloud)})
    with Client(env["TASKFLEET_URL"], env["TASKFLEET_TOKEN"]) as client:
        sent_at: list[float] = []
        started = time.perf_counter()
        accepted = client.submit_file(
            io.BytesIO(data), on_sent=lambda *_: sent_at.append(time.perf_counter())
        )
        accepted_at = time.perf_counter()
        progress = UploadProgress(monitor, accepted.batch_id)
        try:
            batch = client.wait(accepted.batch_id, timeout_s=TIMEOUT_S)
        finally:
            done_at = time.perf_counter()
            progress.stop()
        rows = succeeded = 0
        for result in client.results(accepted.batch_id):
            if result.index != rows:
                raise BenchFailed(f"result {rows} is that of task {result.index}")
            rows += 1
            succeeded += result.status is TaskStatus.SUCCEEDED
        read_at = time.perf_counter()
        # The bill is complete a moment after the last result.
        batch = client.status(accepted.batch_id)
    cpu = watch.stop()
    if not rows == succeeded == batch.succeeded == batch.total == count:
        raise BenchFailed(f"{succeeded} of {count} tasks succeeded, {rows} results: {batch}")
    if not (progress.checked_at and progress.enqueued_at):
        raise BenchFailed("the batch's record never showed its file as checked and enqueued")
    return {
        "tasks": count,
        "lines": "distinct" if distinct else "sleep 0",
        "MB": len(data) / 1e6,
        "sent s": sent_at[-1] - started,
        "accepted s": accepted_at - sent_at[-1],
        "checked s": progress.checked_at - accepted_at,
        "enqueued s": progress.enqueued_at - accepted_at,
        "done s": done_at - accepted_at,
        "read s": read_at - done_at,
        "AWS calls a task": batch.aws_calls / batch.total,
        "$ a million": batch.cost_usd / batch.total * 1e6,
        "reader MB": memory_mb(reader),
        "reader MB before": before_mb,
        "cores busy elsewhere": cpu.other_cores,
    }


class UploadProgress:
    """Polls a batch's record. Keeps the times at which the batch's file was checked and all of its
    tasks were enqueued."""

    def __init__(self, monitor: TaskMonitor, batch_id: str) -> None:
        self.checked_at = 0.0
        self.enqueued_at = 0.0
        """Times by `time.perf_counter`; 0 until then."""
        self._monitor = monitor
        self._batch_id = batch_id
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)
        self._thread.start()

    def _poll(self) -> None:
        while not self._stop.is_set():
            batch = self._monitor.batch(self._batch_id)
            assert batch is not None
            assert batch.upload is not None
            now = time.perf_counter()
            if batch.upload.checked and not self.checked_at:
                self.checked_at = now
            if batch.closed and batch.enqueued == batch.total:
                self.enqueued_at = now
                return
            self._stop.wait(POLL_S)

    def stop(self) -> None:
        """End the polling, after a last reading of a batch that has just been done."""
        self._thread.join(2 * POLL_S + 1.0)
        self._stop.set()
        self._thread.join()


def lines(count: int, distinct: bool) -> bytes:
    """A file of `count` tasks, all equal or all distinct."""
    if not distinct:
        return b"sleep 0\n" * count
    return b"".join(b'{"kind": "sleep", "params": %.7f}\n' % (n / 1e7) for n in range(count))


def memory_mb(pid: int, field: str = "VmHWM") -> float:
    """A field of a process's status in MiB; by default the peak of its resident memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) / 1024


if __name__ == "__main__":
    main()
