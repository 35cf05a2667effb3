"""What the benchmarks of speed and cost share: a local cloud, workers as processes, one measured
batch, and the median of several. Owns the measuring; how it is shown is `bench.report`'s.

A measurement is taken from the first byte of the submission to the last result in the client's
hands. Beside it stands what the machine did meanwhile for others, since a shared machine's figures
mean little without.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psutil

from localcloud.launch import Launched, launched
from localcloud.options import ROOT
from taskfleet import Client
from taskfleet.bundle import DEFAULT_SLOTS

RUN_PY = ROOT / "ec2_worker" / "run.py"
EXAMPLES = ROOT / "examples"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
OWN_PARTS = {"localcloud.serve", "localcloud.pump"}
"""Of a local cloud; what else it runs plays AWS."""
LONG_POLL_S = 1
"""Of the workers. A message that comes while the last long poll of a worker that has gone is still
open goes to nobody, for the length of a lease: the next measurement must not begin before."""


class BenchFailed(Exception):
    """What was to be measured went wrong, so there is no figure."""


@dataclass(frozen=True)
class Run:
    """One batch. `worker_cpu_s` is the workers' CPU time, `cpu_s` that of all of Taskfleet (API,
    collector, workers, the client), `emulator_cpu_s` of what plays AWS, `others` the mean number
    of cores that other programs kept busy."""

    tasks: int
    seconds: float
    aws_calls: float = 0.0
    usd: float = 0.0
    worker_cpu_s: float = 0.0
    cpu_s: float = 0.0
    emulator_cpu_s: float = 0.0
    others: float = 0.0

    @property
    def tasks_per_s(self) -> float:
        return self.tasks / self.seconds

    def cost_columns(self) -> dict[str, float]:
        """What every table shows beside its own figures."""
        return {
            "AWS calls a task": self.aws_calls / self.tasks,
            "$ a million": self.usd / self.tasks * 1e6,
            "worker CPU ms a task": self.worker_cpu_s / self.tasks * 1e3,
            "CPU ms a task": self.cpu_s / self.tasks * 1e3,
            "emulator CPU ms a task": self.emulator_cpu_s / self.tasks * 1e3,
            "cores busy elsewhere": self.others,
        }


def median(runs: Sequence[Run]) -> Run:
    """The run in the middle by time, its other figures with it, but for the noise: the mean."""
    ordered = sorted(runs, key=lambda run: run.seconds)
    middle = ordered[(len(ordered) - 1) // 2]
    return replace(middle, others=statistics.fmean(run.others for run in runs))


def repeated(count: int, measure: Callable[[], Run]) -> Run:
    return median([measure() for _ in range(count)])


# --- CPU time ---------------------------------------------------------------------------------


class CpuWatch:
    """CPU time of groups of processes, and what the machine did for everybody else, since it was
    made."""

    def __init__(self, groups: Mapping[str, Iterable[psutil.Process]]) -> None:
        self._groups = {name: list(processes) for name, processes in groups.items()}
        self._started = time.perf_counter()
        self._machine_before = _busy_s()
        self._own_before = _own_s(psutil.Process())
        self._before = self._read()

    def _read(self) -> dict[str, float]:
        return {name: sum(map(_own_s, group)) for name, group in self._groups.items()}

    def stop(self) -> tuple[dict[str, float], float, float]:
        """CPU seconds by group, those of this process, and the cores busy for others."""
        now = self._read()
        used = {name: now[name] - before for name, before in self._before.items()}
        own = _own_s(psutil.Process()) - self._own_before
        elapsed_s = time.perf_counter() - self._started
        others = _busy_s() - self._machine_before - sum(used.values()) - own
        return used, own, max(0.0, others / elapsed_s)


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _own_s(process: psutil.Process) -> float:
    """With those of its children that ended, such as ffmpeg; 0 for one that has ended itself."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def machine_line() -> str:
    """Where the figures come from."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    memory = psutil.virtual_memory().total / 2**30
    # Before other programs or after them, which matters where there are others.
    niceness = f", niceness {nice}" if (nice := os.nice(0)) else ""
    return (
        f"{_cpu_model()}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}; load average {load}{niceness}"
    )


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


# --- a cloud, and workers ---------------------------------------------------------------------


@dataclass
class Bench:
    """A local cloud without workers of its own; `workers` starts some."""

    cloud: Launched
    directory: Path
    latency_ms: float
    workers_running: list[psutil.Process]

    @property
    def environ(self) -> dict[str, str]:
        return _environ(self.latency_ms) | dict(self.cloud.variables)

    @contextmanager
    def workers(self, count: int, threads: int = DEFAULT_SLOTS) -> Iterator[None]:
        """`count` processes of `threads` slots, as `python ec2_worker/run.py` starts them."""
        processes, logs = [], []
        command = [sys.executable, str(RUN_PY), "--threads", str(threads)]
        for number in range(count):
            log = self.directory / f"bench-worker-{number}.log"
            logs.append(log)
            with log.open("wb") as out:
                processes.append(
                    subprocess.Popen(
                        command, cwd=ROOT, env=self.environ, stdout=out, stderr=subprocess.STDOUT
                    )
                )
        try:
            self._wait_started(processes, logs)
            self.workers_running = [psutil.Process(process.pid) for process in processes]
            yield
        finally:
            self.workers_running = []
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(STOP_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
            time.sleep(LONG_POLL_S)

    def _wait_started(self, processes: list[subprocess.Popen[bytes]], logs: list[Path]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        for process, log in zip(processes, logs, strict=True):
            while '"worker_started"' not in (said := log.read_text(errors="replace")):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchFailed(f"a worker did not start: {said[-600:]}")
                time.sleep(0.05)

    def measure(self, tasks: Sequence[Any]) -> Run:
        """Submit, wait, read every result. BenchFailed unless all succeeded."""
        client = Client(
            self.cloud.variables["TASKFLEET_URL"], self.cloud.variables["TASKFLEET_TOKEN"]
        )
        watch = CpuWatch({**self._parts(), "workers": self.workers_running})
        with client:
            started = time.perf_counter()
            accepted = client.submit(tasks)
            client.wait(accepted.batch_id)
            results = sum(1 for _ in client.results(accepted.batch_id))
            seconds = time.perf_counter() - started
            used, own, others = watch.stop()
            batch = client.status(accepted.batch_id)
        if batch.succeeded != len(tasks) or results != len(tasks):
            raise BenchFailed(f"of {len(tasks)} tasks {results} have results: {batch}")
        return Run(
            tasks=len(tasks),
            seconds=seconds,
            aws_calls=batch.aws_calls,
            usd=batch.cost_usd,
            worker_cpu_s=used["workers"],
            cpu_s=used["workers"] + used["taskfleet"] + own,
            emulator_cpu_s=used["emulator"],
            others=others,
        )

    def _parts(self) -> dict[str, list[psutil.Process]]:
        """The cloud's processes: Taskfleet's own, and what plays AWS."""
        found: dict[str, list[psutil.Process]] = {"taskfleet": [], "emulator": []}
        for process in psutil.Process(self.cloud.process.pid).children(recursive=True):
            own = not OWN_PARTS.isdisjoint(process.cmdline())
            found["taskfleet" if own else "emulator"].append(process)
        return found


@contextmanager
def bench_cloud(*, latency_ms: float = 0.0, kinds: Sequence[str] = ()) -> Iterator[Bench]:
    """A local cloud on free ports for one benchmark; `kinds` are modules of `examples/`."""
    options = ["--workers", "0", "--no-provisioner"]
    for name in kinds:
        options += ["--kinds", name]
    with tempfile.TemporaryDirectory(prefix="taskfleet-bench-") as folder:
        directory = Path(folder)
        with launched(directory, *options, environ=_environ(latency_ms)) as cloud:
            yield Bench(cloud, directory, latency_ms, [])


def _environ(latency_ms: float) -> dict[str, str]:
    """The caller's environment without what would change how Taskfleet behaves."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TASKFLEET_", "AWS_"))}
    path = os.pathsep.join(filter(None, [str(ROOT), str(EXAMPLES), kept.get("PYTHONPATH", "")]))
    return kept | {
        "PYTHONPATH": path,
        "TASKFLEET_AWS_LATENCY_MS": f"{latency_ms:g}",
        "TASKFLEET_RECEIVE_WAIT_S": f"{LONG_POLL_S}",
    }
