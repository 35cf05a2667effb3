"""What it costs in time to begin with no machine: `python -m bench.dynamic_vs_static`.

The comparison of 2014 (72.79 s with dynamic provisioning, 2.19 s with a worker that is there) on
the local cloud: one batch of two rounds of `sleep 1000` for 16 threads, from the first byte of the
submission to its end. A boot is played by `--boot-s`; 26 s is what Amazon Linux 2023 takes. 2014's
batch is not on record: 2 s of work a slot is what its 2.19 s suggest.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
import time
from pathlib import Path

from localcloud.launch import launched
from taskfleet.client import Client

DOCS = Path(__file__).resolve().parent.parent / "docs"
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
    parser = argparse.ArgumentParser(prog="python -m bench.dynamic_vs_static", description=__doc__)
    parser.add_argument("--runs", type=int, default=3, help="the median counts (3)")
    parser.add_argument("--boot-s", type=float, default=26.0, help="seconds of a boot (26)")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for the CSV (docs/)")
    options = parser.parse_args()
    dynamic = ("--workers", "0", "--max-capacity", "3", "--boot-s")
    rows = [
        (
            "static worker",
            STATIC_2014_S,
            runs(options.runs, "--workers", "1", "--no-provisioner", empty=False),
        ),
        (
            f"no machine, boot {options.boot_s:g} s",
            DYNAMIC_2014_S,
            runs(options.runs, *dynamic, str(options.boot_s), empty=True),
        ),
        ("no machine, boot 0 s", None, runs(options.runs, *dynamic, "0", empty=True)),
    ]
    print(f"{len(TASKS)} x sleep 1000, from submission to end; median of {options.runs}")
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "dynamic_vs_static.csv").open("w", newline="") as file:
        out = csv.writer(file, lineterminator="\n")
        out.writerow(("setting", "seconds", "seconds_2014", "runs"))
        for name, before, seconds in rows:
            then = "" if before is None else f"{before:.2f}"
            print(f"  {name:28}{statistics.median(seconds):8.2f} s   2014: {then or '-':>6}")
            every = " ".join(f"{value:.2f}" for value in seconds)
            out.writerow((name, f"{statistics.median(seconds):.2f}", then, every))


if __name__ == "__main__":
    main()
