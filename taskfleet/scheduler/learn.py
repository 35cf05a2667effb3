"""Writes the durations that a collector measures to the paces of kinds. Owns how often it writes:
while work trickles in, each count of a response would bring a read and two writes of paces that
hardly change; the pace itself is `taskfleet.pace`."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import NamedTuple

from taskfleet.pace import Sample
from taskfleet.ports import Clock, TaskMonitor

SETTLED_TASKS = 100
"""Tasks of which a pace is written at once: the rest of a batch may be cut by the first of them."""
HOLD_S = 5.0
"""Least seconds between two writes of one pace after that."""
NAMES_MAX = 10_000
"""Most paces whose writes are remembered, since each function has one: about a megabyte."""


class _Written(NamedTuple):
    """The last write of a pace by this process: its tasks so far, and its time in epoch seconds."""

    tasks: int = 0
    at: float = 0.0


class Learner:
    """Learns for one process. Safe for any number of threads.

    What is held when the process ends is lost: at most the samples of `HOLD_S` seconds, of a pace
    that is known from a hundred tasks.
    """

    def __init__(self, monitor: TaskMonitor, clock: Clock) -> None:
        self._monitor = monitor
        self._clock = clock
        self._lock = threading.Lock()
        self._held: dict[str, Sample] = {}
        self._written: dict[str, _Written] = {}

    def learn(self, samples: Mapping[str, Sample]) -> None:
        """Learn from samples by the name of their pace, now or with later ones. Raises
        TransientError when the table is busy."""
        now = self._clock.now()
        due: dict[str, Sample] = {}
        with self._lock:
            for name, sample in samples.items():
                self._held[name] = self._held.get(name, Sample()) + sample
            if len(self._written) > NAMES_MAX:
                self._written.clear()
            for name in list(self._held):
                written = self._written.get(name, _Written())
                # A clock that was set back must not hold a pace for long.
                just_now = 0 <= now - written.at < HOLD_S
                if written.tasks < SETTLED_TASKS or not just_now:
                    due[name] = self._held.pop(name)
                    self._written[name] = _Written(written.tasks + due[name].tasks, now)
        if due:
            self._monitor.learn(due)
