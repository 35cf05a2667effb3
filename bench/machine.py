"""A line that describes this machine, and the CPU time of groups of processes. Owns reading both
from the system.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import psutil


class CpuUse(NamedTuple):
    """CPU use during one measurement.

    `groups_s` and `own_s` are the CPU seconds of each watched group and of this process.
    `other_cores` is the mean number of cores that all other programs kept busy.
    """

    groups_s: Mapping[str, float]
    own_s: float
    other_cores: float


class CpuWatch:
    """Measures the CPU use of groups of processes, of this process and of all others from its
    creation to `stop`."""

    def __init__(self, groups: Mapping[str, Iterable[psutil.Process]]) -> None:
        self._groups = {name: list(processes) for name, processes in groups.items()}
        self._started = time.perf_counter()
        self._machine_before_s = _machine_cpu_s()
        self._own_before_s = _process_cpu_s(psutil.Process())
        self._groups_before_s = self._read_groups()

    def _read_groups(self) -> dict[str, float]:
        return {name: sum(map(_process_cpu_s, group)) for name, group in self._groups.items()}

    def stop(self) -> CpuUse:
        now_s = self._read_groups()
        groups_s = {name: now_s[name] - before for name, before in self._groups_before_s.items()}
        own_s = _process_cpu_s(psutil.Process()) - self._own_before_s
        elapsed_s = time.perf_counter() - self._started
        others_s = _machine_cpu_s() - self._machine_before_s - sum(groups_s.values()) - own_s
        return CpuUse(groups_s, own_s, max(0.0, others_s / elapsed_s))


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(times.user + times.system + getattr(times, "nice", 0.0))


def _process_cpu_s(process: psutil.Process) -> float:
    """The CPU seconds of a process and of its ended children, such as ffmpeg; 0 if it has ended."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


def machine_line() -> str:
    """Describe this machine and its load in one line."""
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    memory = psutil.virtual_memory().total / 2**30
    # Tells whether the benchmark ran before or after other programs.
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
