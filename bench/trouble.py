"""Counts the calls that survive when something dies, side by side with other pools, each when
installed: `python -m bench.trouble`.

Every pool has two slots and runs the same calls (`bench.trouble_driver`). In turn: one call of 200
ends its process; the process that runs calls, or the worker above it, is killed at 40 calls; a call
hangs; the caller is killed with 10 of 40 results. Counts come from what the calls wrote to disk and
from the results that a caller got.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil

from bench import report
from bench.harness import Bench, bench_cloud
from bench.report import Row
from bench.trouble_driver import PATIENCE_S, POOLS
from localcloud.options import ROOT
from taskfleet import FleetExecutor

LIMIT_S = 90.0
"""Most seconds for one trouble; a pool that has not ended then is ended."""
QUIET_S = 8.0
"""Seconds without a new line after which the calls of a dead caller are over."""
OWN = "FleetExecutor"
MODULES = {"loky": "joblib", "dask.distributed": "distributed", "ray": "ray"}
"""The module that must be installed for a pool."""


@dataclass
class Caller:
    """A driver under way: its process and the log of its calls."""

    process: subprocess.Popen[bytes]
    log: Path

    def lines(self, word: str) -> list[tuple[int, int]]:
        """Index and process id of each call that wrote the word."""
        text = self.log.read_text() if self.log.exists() else ""
        found = [line.split() for line in text.splitlines()]
        return [(int(index), int(pid)) for first, index, pid in found if first == word]

    def wait_for(self, word: str, count: int) -> None:
        """Wait until so many calls wrote the word. Raises TimeoutError after `LIMIT_S`."""
        deadline = time.monotonic() + LIMIT_S
        while len(self.lines(word)) < count:
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError(f"{len(self.lines(word))} of {count} calls wrote {word!r}")
            time.sleep(0.02)

    def outcome(self) -> dict[str, Any]:
        """The outcome that the caller wrote; that of no call if it did not end in time."""
        return self._read("outcome") or {"good": 0, "first_s": None, "printed": False}

    def batch_id(self) -> str:
        """The id of the caller's batch."""
        return str(self._read("batch"))

    def _read(self, name: str) -> Any:
        """Wait for a file of the caller. Returns None if it does not come."""
        path, deadline = self.log.parent / name, time.monotonic() + LIMIT_S
        while not path.exists():
            if time.monotonic() > deadline or self.process.poll() not in (None, 0):
                return None
            time.sleep(0.02)
        return json.loads(path.read_text())

    def again(self) -> int:
        """Number of calls that began more than once."""
        begun = Counter(index for index, _ in self.lines("begin"))
        return sum(count > 1 for count in begun.values())

    def settle(self) -> int:
        """Wait until no call writes any more. Returns how many have ended."""
        deadline, size, quiet_since = time.monotonic() + LIMIT_S, -1, time.monotonic()
        while time.monotonic() < deadline and time.monotonic() - quiet_since < QUIET_S:
            now = self.log.stat().st_size if self.log.exists() else 0
            if now != size:
                size, quiet_since = now, time.monotonic()
            time.sleep(0.1)
        return len({index for index, _ in self.lines("end")})


@contextmanager
def caller(pool: str, trouble: str, variables: dict[str, str]) -> Iterator[Caller]:
    """Start a driver, and end it and all that it started at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="taskfleet-trouble-") as folder:
        Path(folder).chmod(0o777)  # runners may be another user
        process = subprocess.Popen(
            [sys.executable, "-m", "bench.trouble_driver", pool, trouble, folder],
            cwd=ROOT,
            env={**os.environ, **variables, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield Caller(process, Path(folder) / "log")
        finally:
            with suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with suppress(psutil.Error):
                        child.kill()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def main() -> None:
    options, _ = report.parsed(report.parser("trouble", __doc__, measured=False))
    rows: list[Row] = []
    with bench_cloud() as bench:
        for pool in POOLS:
            if pool in MODULES and not _installed(MODULES[pool]):
                print(f"not installed: {pool}")
                continue
            rows.append(row(pool, bench))
    report.publish(options, options.named("trouble"), "Pools under trouble, two slots", rows)


def row(pool: str, bench: Bench) -> Row:
    """All troubles of one pool."""
    troubles: dict[str, Callable[[str, Bench], str]] = {
        "one call of 200 ends its process": crashed,
        "a worker is killed (40 calls)": killed,
        "one call hangs": hung,
        "the caller is killed with 10 of 40": orphaned,
        "what a call printed": printed,
    }
    return {"pool": pool, **{name: trouble(pool, bench) for name, trouble in troubles.items()}}


def crashed(pool: str, bench: Bench) -> str:
    with bench.workers(1, 2), caller(pool, "crash", dict(bench.cloud.variables)) as found:
        good = found.outcome()["good"]
        innocent = found.again() - _began_again(found, 100)
        return f"{good} of 199, {innocent} of them ran again"


def killed(pool: str, bench: Bench) -> str:
    """Kill the process that runs the last call; for FleetExecutor, one of two whole workers."""
    with bench.workers(2, 1), caller(pool, "killed", dict(bench.cloud.variables)) as found:
        found.wait_for("end", 6)
        if pool == OWN:
            bench.running_workers[0].kill()
        else:
            _, pid = found.lines("begin")[-1]
            os.kill(pid, signal.SIGKILL)
        good = found.outcome()["good"]
        return f"{good} of 40, {found.again()} of them ran again"


def hung(pool: str, bench: Bench) -> str:
    with bench.workers(1, 2), caller(pool, "hang", dict(bench.cloud.variables)) as found:
        first_s = found.outcome()["first_s"]
        if first_s is None or first_s >= PATIENCE_S:
            return "goes on"
        return f"ended after {first_s:.1f} s"


def orphaned(pool: str, bench: Bench) -> str:
    with bench.workers(1, 2), caller(pool, "driver", dict(bench.cloud.variables)) as found:
        batch_id = found.batch_id() if pool == OWN else None
        found.wait_for("end", 10)
        found.process.kill()
        ran = found.settle()
        if batch_id is None:
            return f"{ran} ran, none can be collected"
        variables = bench.cloud.variables
        url, token = variables["TASKFLEET_URL"], variables["TASKFLEET_TOKEN"]
        futures = FleetExecutor.attach(batch_id, url=url, token=token)
        good = sum(future.result(LIMIT_S) is not None for future in futures)
        return f"{ran} ran, {good} collected by another process, {found.again()} ran again"


def printed(pool: str, bench: Bench) -> str:
    with bench.workers(1, 2), caller(pool, "print", dict(bench.cloud.variables)) as found:
        return "beside its result" if found.outcome()["printed"] else "not with its result"


def _began_again(found: Caller, index: int) -> int:
    return int(sum(i == index for i, _ in found.lines("begin")) > 1)


def _installed(module: str) -> bool:
    return find_spec(module) is not None


if __name__ == "__main__":
    main()
