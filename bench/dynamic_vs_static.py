"""What it costs in time to begin with no machine: `python -m bench.dynamic_vs_static
[--quick]`.

The comparison of 2014 (72.79 s with dynamic provisioning, 2.19 s with a worker that is there) on
the local cloud: one batch of two rounds of `sleep 1000` for 16 threads, from the first byte of the
submission to its end. A boot is played by `--boot-s`; 26 s is what Amazon Linux 2023 takes. 2014's
batch is not on record: 2 s of work a slot is what its 2.19 s suggest.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from bench import report
from localcloud.launch import launched
from taskfleet import Client

THREADS = 16
TASKS = ["sleep 1000"] * (2 * THREADS)
DYNAMIC_2014_S, STATIC_2014_S = 72.79, 2.19
GONE_TIMEOUT_S = 180.0


def measure(client: Client) -> float:
    started = time.perf_counter()
    batch = client.wait(client.submit(TASKS).batch_id)
    seconds = time.perf_counter() - started
    if batch.succeeded != len(TASKS):
        raise SystemExit(f"{batch.succeeded} of {len(TASKS)} tasks succeeded: no figure")
    return seconds


def wait_until_empty(client: Client) -> None:
    """The next run, too, must find no machine."""
    deadline = time.monotonic() + GONE_TIMEOUT_S
    while client.fleet().instances or client.fleet().workers:
        if time.monotonic() > deadline:
            raise SystemExit("the fleet did not shrink to nothing: no figure")
        time.sleep(1.0)


def runs(count: int, *options: str, empty: bool) -> list[float]:
    found = []
    with tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
        environ = {"TASKFLEET_IDLE_S": "5"}
        with launched(Path(folder), "--threads", str(THREADS), *options, environ=environ) as cloud:
            env = cloud.variables
            with Client(env["TASKFLEET_URL"], env["TASKFLEET_TOKEN"]) as client:
                for _ in range(count):
                    found.append(measure(client))
                    if empty:
                        wait_until_empty(client)
    return found


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
    rows = []
    for name, before_s, arguments, empty in settings:
        seconds = runs(options.repeats, *arguments, empty=empty)
        rows.append(
            {
                "setting": name,
                "seconds": statistics.median(seconds),
                "2014's seconds": "" if before_s is None else before_s,
                "fastest": min(seconds),
                "slowest": max(seconds),
                "runs": len(seconds),
            }
        )
    report.show(f"{len(TASKS)} x sleep 1000 for {THREADS} threads, submission to end", rows)
    report.write_csv(options.out / "dynamic-vs-static.csv", rows)


if __name__ == "__main__":
    main()
