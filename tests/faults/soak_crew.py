"""The processes of the soak's stage. Owns their starts, their deaths and their samples.

The local cloud runs one API, one collector and one worker, which live as long as the run and are
measured. Beside them the crew runs another API, another collector and the other workers; these are
killed, one at random, and started again at once, as Lambda and systemd do. So are the processes
that tasks run in, of all workers; a worker replaces those itself. An emulator is never killed: AWS
is not what is tested.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from localcloud import leash
from localcloud.launch import Launched
from localcloud.options import ROOT
from tests.faults.flat import Sample

RUN_PY = str(ROOT / "ec2_worker" / "run.py")
TASK_PROCESS = "task process"
"""Role of the processes that a worker starts for tasks."""
STEADY = {"api": "localcloud.serve", "collector": "localcloud.pump", "worker": RUN_PY}
"""Roles of the cloud's own processes, by a word of their command lines."""
STOP_TIMEOUT_S = 20.0
"""Seconds that a process may take to end before it is killed."""


@dataclass
class Member:
    """A process that may be killed, by what it is started again."""

    role: str
    command: tuple[str, ...]
    log: Path
    process: subprocess.Popen[bytes] | None = None


@dataclass
class Crew:
    """Runs the processes that are killed. A context manager: at its end none is left.

    killed: kills so far, by role.
    samples: those of the cloud's own processes, by role.
    surprises: processes that ended without being killed.
    """

    cloud: Launched
    environ: Mapping[str, str]
    members: list[Member]
    rng: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    surprises: list[str] = field(default_factory=list)
    _draining: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _seen: set[psutil.Process] = field(default_factory=set)

    def __enter__(self) -> Crew:
        self._leash, self._leash_held = os.pipe()
        for member in self.members:
            self._start(member)
        self._steady = dict(_steady(self.cloud))
        self.samples = {role: [] for role in self._steady}
        return self

    def __exit__(self, *_error: object) -> None:
        running = [m.process for m in self.members if m.process is not None] + self._draining
        for process in running:
            process.terminate()
        for process in running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_TIMEOUT_S)
            _kill_group(process)
        os.close(self._leash_held)
        os.close(self._leash)

    def _start(self, member: Member) -> None:
        with member.log.open("ab") as out:
            member.process = subprocess.Popen(
                [sys.executable, "-m", leash.__name__, *member.command],
                cwd=ROOT,
                env={**self.environ, leash.VARIABLE: str(self._leash)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=[self._leash],
                process_group=0,
            )

    def kill(self) -> str:
        """Kills one process at random, with SIGKILL, a worker one time in four with SIGTERM.
        Starts it again. Returns what was done, for people."""
        self._draining = [process for process in self._draining if process.poll() is None]
        member = self.rng.choice([*self.members, None])
        if member is None or member.process is None:
            return self._kill_task_process()
        drains = member.role == "worker" and self.rng.random() < 0.25
        self.killed[member.role] += 1
        if drains:
            drained = member.process
            drained.terminate()
            self._draining.append(drained)
            self._start(member)  # the other drains meanwhile, as when a machine is replaced
            return f"{member.role} {drained.pid}: SIGTERM"
        pid = member.process.pid
        member.process.kill()
        member.process.wait()
        _kill_group(member.process)
        self._start(member)
        return f"{member.role} {pid}: SIGKILL"

    def _kill_task_process(self) -> str:
        found = [p for worker in self._workers() for p in _descendants(worker)]
        if not found:
            return "no task had a process"
        process = self.rng.choice(found)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
            self.killed[TASK_PROCESS] += 1
        return f"{TASK_PROCESS} {process.pid}: SIGKILL"

    def _workers(self) -> Iterator[psutil.Process]:
        if "worker" in self._steady:
            yield self._steady["worker"]
        for member in self.members:
            if member.role == "worker" and member.process is not None:
                with contextlib.suppress(psutil.NoSuchProcess):
                    yield psutil.Process(member.process.pid)

    def sample(self) -> None:
        """Measures the cloud's own processes, and looks whether all that should run does."""
        for role, process in list(self._steady.items()):
            below = _descendants(process)
            self._seen.update(below)
            try:
                with process.oneshot():
                    found = Sample(
                        process.memory_info().rss / 1e6,
                        process.num_fds(),
                        process.num_threads(),
                        len(below),
                    )
            except psutil.NoSuchProcess:
                del self._steady[role]
                self.surprises.append(f"the {role} {process.pid} of the cloud ended by itself")
            else:
                self.samples[role].append(found)
        for worker in self._workers():
            self._seen.update(_descendants(worker))
        for member in self.members:
            if member.process is not None and member.process.poll() is not None:
                code = member.process.returncode
                self.surprises.append(f"a {member.role} ended by itself with {code}: {member.log}")
                self._start(member)

    def left(self) -> list[str]:
        """Returns the command lines of processes of tasks that outlived their workers; to be called
        after the end of the crew and of the cloud."""
        return [" ".join(p.cmdline()) for p in self._seen if p.is_running()]


def crew(
    cloud: Launched,
    environ: Mapping[str, str],
    folder: Path,
    rng: random.Random,
    *,
    api_port: int,
    workers: int,
    threads: int,
) -> Crew:
    """Returns a crew with `workers` workers of so many threads, not started yet.

    environ: the environment of its processes.
    folder: takes their logs.
    api_port: port of its API.
    """
    worker = (RUN_PY, "--threads", str(threads))
    members = [
        Member("api", ("-m", "localcloud.serve", "--port", str(api_port)), folder / "api.log"),
        Member("collector", ("-m", "localcloud.pump"), folder / "collector.log"),
        *(Member("worker", worker, folder / f"worker-{n}.log") for n in range(workers)),
    ]
    return Crew(cloud, environ, members, rng)


def _steady(cloud: Launched) -> Iterator[tuple[str, psutil.Process]]:
    """Yields the cloud's own processes, by role."""
    children = psutil.Process(cloud.process.pid).children()
    for role, word in STEADY.items():
        (found,) = (child for child in children if word in child.cmdline())
        yield role, found


def _descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return found


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kills what is left of a process's group, as systemd does with a service's."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
