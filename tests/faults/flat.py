"""The rule by which memory, files and threads of a process are flat. Pure.

A process that works allocates at first: caches fill, connections open, threads start. So the first
quarter of its samples does not count, and the median of the second quarter is compared with that of
the last one. Allocators and pools breathe, so a small growth is allowed; a leak that a million
tasks would show, 20 bytes a task or one file in 100,000, is above it.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

SAMPLES_MIN = 90
"""Samples that a judgement needs; a process with fewer is not judged."""


@dataclass(frozen=True)
class Sample:
    """A process at one moment.

    memory_mb: its resident memory.
    files: its open files and sockets.
    threads: its threads.
    processes: the processes that descend from it.
    """

    memory_mb: float
    files: int
    threads: int
    processes: int


ALLOWED: dict[str, tuple[float, float]] = {
    "memory_mb": (0.10, 20.0),
    "files": (0.10, 10.0),
    "threads": (0.10, 6.0),
    "processes": (0.10, 6.0),
}
"""Growth that is allowed: this fraction and this amount together."""


@dataclass(frozen=True)
class Course:
    """A measure of a process over its life: the medians of the second and the last quarter.

    flat: whether the growth from one to the other is allowed.
    """

    name: str
    before: float
    after: float
    flat: bool


def courses(samples: Sequence[Sample]) -> list[Course]:
    """Judges each measure. Returns nothing for fewer than `SAMPLES_MIN` samples."""
    if len(samples) < SAMPLES_MIN:
        return []
    return [_course(name, [float(getattr(s, name)) for s in samples]) for name in ALLOWED]


def _course(name: str, values: Sequence[float]) -> Course:
    quarter = len(values) // 4
    before = statistics.median(values[quarter : 2 * quarter])
    after = statistics.median(values[-quarter:])
    share, amount = ALLOWED[name]
    return Course(name, before, after, after - before <= share * before + amount)
