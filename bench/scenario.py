"""The inputs and the results of a simulation: a trace of tasks, the faults of the world, and the
outcome. Owns these forms and the prices; not the events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.settings import Settings

SLOTS = DEFAULT_SLOTS
"""Tasks that one machine runs at a time."""
PRICE_USD_H = Settings().instance_usd_per_hour
"""US dollars for one machine and hour."""
BILLED_MIN_S = 60.0
"""Shortest time that EC2 bills for one machine, in seconds. Beyond it, EC2 bills by the second."""


@dataclass(frozen=True)
class Trace:
    """The tasks of one simulation, in order of arrival.

    `at` holds the arrival times and `seconds` the durations, one item per task. `droughts` are the
    periods (start, end) during which every launch is refused. All times are in seconds.
    """

    name: str
    at: np.ndarray
    seconds: np.ndarray
    max_capacity: int = 100
    droughts: Sequence[tuple[float, float]] = ()

    @property
    def end(self) -> float:
        """The time of the last arrival; 0 for a trace without tasks."""
        return float(self.at[-1]) if len(self.at) else 0.0


@dataclass(frozen=True)
class World:
    """The delays and faults of the simulated cloud; times are in seconds.

    `boot_s` is the range that boot times are drawn from, and `boot_failure` the share of machines
    that never start. The queue's reported count is up to `stale_s` old. A machine is interrupted
    `spot_per_h` times an hour on average, with a notice of `notice_s`; most spot types are
    interrupted less often than the default. `idle_s` is the time after which an idle machine ends,
    for policies that use it.
    """

    boot_s: tuple[float, float] = (25.0, 55.0)
    boot_failure: float = 0.02
    stale_s: float = 30.0
    spot_per_h: float = 0.05
    notice_s: float = 120.0
    idle_s: float = 45.0
    seed: int = 1


@dataclass
class Outcome:
    """The figures of one policy on one trace.

    A task waits from its arrival to its last start. `machines` counts all machines that were
    launched, `peak` the most at one time, `refused` the machines that were asked for during a
    drought, and `reruns` the tasks that lost their machine. `seconds` is the simulated time.
    """

    policy: str
    trace: str
    cost_usd: float
    mean_wait_s: float
    p95_wait_s: float
    machines: int
    peak: int
    refused: int
    reruns: int
    seconds: float
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, waiting tasks, machines) at each decision, for the plot."""

    @property
    def cost_x_wait(self) -> float:
        """Cost times mean wait, in US dollars times seconds. Less is better."""
        return self.cost_usd * self.mean_wait_s
