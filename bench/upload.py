"""A large batch through an upload on a local cloud of its own:
`python -m bench.upload [--tasks 1000000] [--distinct]`.

Prints how long the file takes to send, the batch to be accepted, all of it to be enqueued, done and
read, and the most memory that the reading process (the local cloud's pump) and this one ever had.
Linux only. The worker runs all the while on the same cores.
"""

from __future__ import annotations

import argparse
import io
import os
import tempfile
import threading
import time
from pathlib import Path

import psutil

from localcloud.launch import Launched, launched
from taskfleet.aws.session import Aws
from taskfleet.client import Client
from taskfleet.clock import SystemClock
from taskfleet.settings import load
from taskfleet.task import TaskStatus

POLL_S = 0.1
WAIT_S = 900


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.upload", description=__doc__)
    parser.add_argument("--tasks", type=int, default=1_000_000)
    parser.add_argument("--distinct", action="store_true", help="no two lines are the same")
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder,
        launched(Path(folder), "--workers", "1", "--threads", "16") as cloud,
    ):
        os.environ.update(cloud.variables)
        measure(cloud, options.tasks, options.distinct)


def measure(cloud: Launched, count: int, distinct: bool) -> None:
    env = cloud.variables
    data = lines(count, distinct)
    family = psutil.Process(cloud.process.pid).children(recursive=True)
    (pump,) = (child.pid for child in family if "localcloud.pump" in child.cmdline())
    before_mb = memory_mb(pump, "VmRSS")
    monitor = Aws(load(env), SystemClock()).monitor()
    with Client(env["TASKFLEET_URL"], env["TASKFLEET_TOKEN"]) as client:
        sent_at: list[float] = []
        started = time.perf_counter()
        accepted = client.submit_file(
            io.BytesIO(data), on_sent=lambda *_: sent_at.append(time.perf_counter())
        )
        accepted_at = time.perf_counter()
        stop = threading.Event()
        marks: dict[str, float] = {}

        def watch() -> None:
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

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            batch = client.wait(accepted.batch_id, timeout_s=WAIT_S)
        finally:
            done_at = time.perf_counter()
            stop.set()
            watcher.join()
        rows = succeeded = 0
        for row in client.results(accepted.batch_id):
            assert row.index == rows
            rows += 1
            succeeded += row.status is TaskStatus.SUCCEEDED
        read_at = time.perf_counter()
    ended = batch.succeeded + batch.failed + batch.cancelled
    kind = "distinct lines" if distinct else "sleep 0"
    print(f"{count:,} tasks, {kind}, {len(data) / 1e6:.1f} MB")
    print(f"  sent                        {sent_at[-1] - started:8.2f} s")
    print(f"  accepted, after it was sent {accepted_at - sent_at[-1]:8.2f} s")
    print(f"  all lines checked           {marks['checked'] - accepted_at:8.2f} s after that")
    print(f"  all enqueued                {marks['enqueued'] - accepted_at:8.2f} s after that")
    print(f"  all done                    {done_at - accepted_at:8.2f} s after that")
    print(f"  all results read            {read_at - done_at:8.2f} s after the end")
    print(f"  batch                       {batch.status}, {ended:,} of {batch.total:,} ended")
    print(f"  results                     {rows:,}, of which {succeeded:,} succeeded")
    print(f"  AWS calls a task            {batch.aws_calls / batch.total:8.4f}")
    print(f"  $ a million tasks           {batch.cost_usd / batch.total * 1e6:8.4f}")
    print(
        f"  most memory of the reader   {memory_mb(pump):8.0f} MB at most, {before_mb:.0f} before"
    )
    print(f"  most memory of the client   {memory_mb(os.getpid()):8.0f} MB")


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
