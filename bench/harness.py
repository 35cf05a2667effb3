"""A local cloud, workers as processes, one measured batch, and the median of several. Owns how
speed and cost are measured; `bench.report` owns how they are shown.

A measurement lasts from the first byte of the submission to the last result in the client's hands.
Each also records how many cores other programs kept busy meanwhile, because the figures of a shared
machine mean little without.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from bench.machine import CpuWatch
from localcloud.launch import Launched, launched
from localcloud.options import ROOT
from taskfleet import Client
from taskfleet.bundle import DEFAULT_SLOTS

RUN_PY = ROOT / "ec2_worker" / "run.py"
EXAMPLES = ROOT / "examples"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
API = "localcloud.serve"
COLLECTOR = "localcloud.pump"
"""Modules of the local cloud's processes that run Taskfleet. Its other processes emulate AWS."""
LONG_POLL_S = 5
"""Longest wait of a receive call, in seconds; 20 unless set. A message that arrives while the last
call of a stopped worker is still open is lost for the length of a lease, so the next measurement
must wait until that call has ended."""


class BenchFailed(Exception):
    """A measurement failed, so there is no figure."""


@dataclass(frozen=True)
class Run:
    """The figures of one batch.

    `worker_cpu_s` is the CPU time of the workers, `cpu_s` that of all of Taskfleet (API, collector,
    workers and client), and `emulator_cpu_s` that of the AWS emulators. `other_cores` is the mean
    number of cores that other programs kept busy.
    """

    tasks: int
    seconds: float
    aws_calls: float = 0.0
    usd: float = 0.0
    worker_cpu_s: float = 0.0
    cpu_s: float = 0.0
    emulator_cpu_s: float = 0.0
    other_cores: float = 0.0

    @property
    def tasks_per_s(self) -> float:
        return self.tasks / self.seconds

    def cost_columns(self) -> dict[str, float]:
        """The columns that every table has beside its own."""
        return {
            "AWS calls a task": self.aws_calls / self.tasks,
            "$ a million": self.usd / self.tasks * 1e6,
            "worker CPU ms a task": self.worker_cpu_s / self.tasks * 1e3,
            "CPU ms a task": self.cpu_s / self.tasks * 1e3,
            "emulator CPU ms a task": self.emulator_cpu_s / self.tasks * 1e3,
            "cores busy elsewhere": self.other_cores,
        }


def median(runs: Sequence[Run]) -> Run:
    """The run with the median time; its `other_cores` is the mean of all runs."""
    ordered = sorted(runs, key=lambda run: run.seconds)
    middle = ordered[(len(ordered) - 1) // 2]
    return replace(middle, other_cores=statistics.fmean(run.other_cores for run in runs))


def repeated(count: int, measure: Callable[[], Run]) -> Run:
    """Measure `count` times and return the median run."""
    return median([measure() for _ in range(count)])


def cloud_processes(cloud: Launched) -> list[psutil.Process]:
    """All processes of a local cloud but its supervisor."""
    return psutil.Process(cloud.process.pid).children(recursive=True)


def process_of(cloud: Launched, module: str) -> psutil.Process:
    """The process of a local cloud that runs a module, such as `COLLECTOR`."""
    (process,) = (one for one in cloud_processes(cloud) if module in one.cmdline())
    return process


@dataclass
class Bench:
    """A local cloud that starts without workers; `workers` starts some."""

    cloud: Launched
    directory: Path
    latency_ms: float
    running_workers: list[psutil.Process]

    @contextmanager
    def workers(self, count: int, threads: int = DEFAULT_SLOTS) -> Iterator[None]:
        """Run `count` workers of `threads` slots, each as `python ec2_worker/run.py` starts it.
        Raises BenchFailed if one does not start."""
        processes, logs = [], []
        command = [sys.executable, str(RUN_PY), "--threads", str(threads)]
        environ = _environ(self.latency_ms) | dict(self.cloud.variables)
        for number in range(count):
            log = self.directory / f"bench-worker-{number}.log"
            logs.append(log)
            with log.open("wb") as out:
                processes.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=environ, stdout=out, stderr=subprocess.STDOUT
                    )
                )
        try:
            _wait_started(processes, logs)
            self.running_workers = [psutil.Process(process.pid) for process in processes]
            yield
        finally:
            self.running_workers = []
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
            time.sleep(LONG_POLL_S)

    def warm_up(self, tasks: int = 100) -> None:
        """Run no-op tasks, so that connections are open and code is loaded."""
        self.measure(["sleep 0"] * tasks)

    def measure(self, tasks: Sequence[Any]) -> Run:
        """Submit tasks and read every result as it comes. Raises BenchFailed unless all
        succeed."""
        variables = self.cloud.variables
        client = Client(variables["TASKFLEET_URL"], variables["TASKFLEET_TOKEN"])
        watch = CpuWatch({**self._processes_by_role(), "workers": self.running_workers})
        with client:
            started = time.perf_counter()
            accepted = client.submit(tasks)
            results = sum(1 for _ in client.results(accepted.batch_id, order="completion"))
            seconds = time.perf_counter() - started
            cpu = watch.stop()
            batch = client.status(accepted.batch_id)
        if batch.succeeded != len(tasks) or results != len(tasks):
            raise BenchFailed(f"{results} of {len(tasks)} tasks have results: {batch}")
        return Run(
            tasks=len(tasks),
            seconds=seconds,
            aws_calls=batch.aws_calls,
            usd=batch.cost_usd,
            worker_cpu_s=cpu.groups_s["workers"],
            cpu_s=cpu.groups_s["workers"] + cpu.groups_s["taskfleet"] + cpu.own_s,
            emulator_cpu_s=cpu.groups_s["emulator"],
            other_cores=cpu.other_cores,
        )

    def _processes_by_role(self) -> dict[str, list[psutil.Process]]:
        roles: dict[str, list[psutil.Process]] = {"taskfleet": [], "emulator": []}
        for process in cloud_processes(self.cloud):
            is_taskfleet = not {API, COLLECTOR}.isdisjoint(process.cmdline())
            roles["taskfleet" if is_taskfleet else "emulator"].append(process)
        return roles


def _wait_started(processes: list[subprocess.Popen[bytes]], logs: list[Path]) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    for process, log in zip(processes, logs, strict=True):
        while '"worker_started"' not in (output := log.read_text(errors="replace")):
            if process.poll() is not None or time.monotonic() > deadline:
                raise BenchFailed(f"a worker did not start: {output[-600:]}")
            time.sleep(0.05)


@contextmanager
def bench_cloud(*, latency_ms: float = 0.0, kinds: Sequence[str] = ()) -> Iterator[Bench]:
    """Run a local cloud on free ports for one benchmark. `kinds` are modules of `examples/`."""
    options = ["--workers", "0", "--no-provisioner"]
    for name in kinds:
        options += ["--kinds", name]
    with tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
        directory = Path(folder)
        with launched(directory, *options, environ=_environ(latency_ms)) as cloud:
            yield Bench(cloud, directory, latency_ms, [])


def _environ(latency_ms: float) -> dict[str, str]:
    """The caller's environment without variables that change how Taskfleet behaves."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    path = os.pathsep.join(filter(None, [str(ROOT), str(EXAMPLES), kept.get("PYTHONPATH", "")]))
    return kept | {
        "PYTHONPATH": path,
        "TASKFLEET_AWS_LATENCY_MS": f"{latency_ms:g}",
        "TASKFLEET_RECEIVE_WAIT_S": f"{LONG_POLL_S}",
    }
