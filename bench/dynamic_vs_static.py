"""The time that it costs to begin without a machine:
`python -m bench.dynamic_vs_static [--quick]`.

2014 measured 72.79 s with dynamic provisioning and 2.19 s with a worker that was there. This
compares the same on the local cloud, from the first byte of the submission to the end of one batch:
two rounds of `sleep 1000` for 16 threads. `--boot-s` is the simulated boot; Amazon Linux 2023 takes
26 s. The batch of 2014 is not on record; its 2.19 s suggest 2 s of work for each slot.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from bench import report
from bench.harness import BenchFailed
from bench.report import Row
from localcloud.launch import launched
from taskfleet import Client

THREADS = 16
TASKS = ["sleep 1000"] * (2 * THREADS)
DYNAMIC_2014_S, STATIC_2014_S = 72.79, 2.19
GONE_TIMEOUT_S = 180.0
"""Longest time in which all machines must end after a batch, in seconds."""


def measure(client: Client) -> float:
    """The seconds from submission to the batch's end. Raises BenchFailed unless all succeed."""
    started = time.perf_counter()
    batch = client.wait(client.submit(TASKS).batch_id)
    seconds = time.perf_counter() - started
    if batch.succeeded != len(TASKS):
        raise BenchFailed(f"{batch.succeeded} of {len(TASKS)} tasks succeeded")
    return seconds


def wait_until_empty(client: Client) -> None:
    """Wait until there is no machine, so that the next run finds none. Raises BenchFailed after
    `GONE_TIMEOUT_S`."""
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while client.fleet().instances or client.fleet().workers:
        if time.monotonic() > deadline:
            raise BenchFailed(f"machines were still there after {GONE_TIMEOUT_S:g} s")
        time.sleep(1.0)


def runs(count: int, *options: str, empty: bool) -> list[float]:
    """Measure `count` batches on one local cloud with these options. `empty` lets every batch begin
    without a machine."""
    measured = []
    with tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
        environ = {"TASKFLEET_IDLE_S": "5"}
        with launched(Path(folder), "--threads", str(THREADS), *options, environ=environ) as cloud:
            env = cloud.variables
            with Client(env["TASKFLEET_URL"], env["TASKFLEET_TOKEN"]) as client:
                for _ in range(count):
                    measured.append(measure(client))
                    if empty:
                        wait_until_empty(client)
    return measured


def main() -> None:
    parser = report.parser("dynamic_vs_static", __doc__)
    parser.add_argument("--boot-s", type=float, default=26.0, help="seconds of a boot (26)")
    options, given = report.parsed(parser)
    boot_s = options.pick(given.boot_s, 1.0)
    dynamic = ("--workers", "0", "--max-capacity", "3", "--boot-s")
    settings: list[tuple[str, float | None, tuple[str, ...], bool]] = [
        ("static worker", STATIC_2014_S, ("--workers", "1", "--no-provisioner"), False),
        (f"no machine, boot {boot_s:g} s", DYNAMIC_2014_S, (*dynamic, f"{boot_s:g}"), True),
        ("no machine, boot 0 s", None, (*dynamic, "0"), True),
    ]
    rows: list[Row] = []
    for name, seconds_2014, arguments, empty in settings:
        seconds = runs(options.repeats, *arguments, empty=empty)
        rows.append(
            {
                "setting": name,
                "seconds": statistics.median(seconds),
                "2014's seconds": "" if seconds_2014 is None else seconds_2014,
                "fastest": min(seconds),
                "slowest": max(seconds),
                "runs": len(seconds),
            }
        )
    title = f"{len(TASKS)} x sleep 1000 for {THREADS} threads, submission to end"
    report.publish(options, "dynamic-vs-static", title, rows)


if __name__ == "__main__":
    main()
