"""The cloud of a simulation at scale: virtual time, and the capacity of the services that all
machines share. Owns the order of events and the queueing at a service's limit; the workers stand in
`bench.scale_worker`.

Sources of the defaults: "Service, account, and table quotas in Amazon DynamoDB" (on-demand
throughput of one table); "Lambda quotas". A call takes 10 ms in the median, as in the other
benchmarks, and three times that once in a hundred.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CALL_S = 0.010
"""Median time of one call to a service, in seconds."""
CALL_SPREAD = 0.5
"""Standard deviation of the logarithm of that time."""


@dataclass(frozen=True)
class Limits:
    """What the stage may use of the services.

    table_units: write units a second of the table; 40,000 is the default quota of one table.
    collectors: Lambda functions that count answers at a time.
    collector_cpu_s: seconds of one such call besides its calls to the table.
    feeders: files that are read into the queue at a time.
    feeder_messages_s: messages a second that one of them puts on the queue.
    """

    table_units: float = 40_000.0
    collectors: int = 64
    collector_cpu_s: float = 0.010
    feeders: int = 5
    feeder_messages_s: float = 5_000.0


class Timeline:
    """Virtual time. Implements `taskfleet.ports.Clock` for code that only asks for the time; code
    that sleeps has no place in a simulation of events."""

    def __init__(self) -> None:
        self._now = 1_700_000_000.0
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._number = 0
        self._rng = random.Random(1)

    def now(self) -> float:
        """Returns the virtual time in epoch seconds."""
        return self._now

    def sleep(self, seconds: float) -> None:
        """Raises RuntimeError: an event must be scheduled instead."""
        raise RuntimeError(f"the simulated code slept for {seconds} s")

    def call_s(self) -> float:
        """Returns the time of one call to a service that is not at its limit, in seconds."""
        return CALL_S * self._rng.lognormvariate(0.0, CALL_SPREAD)

    def after(self, seconds: float, handle: Callable[..., None], *arguments: Any) -> None:
        """Call `handle(*arguments)` after so many seconds of virtual time, after what was scheduled
        for the same time earlier."""
        self._number += 1
        event = (self._now + max(0.0, seconds), self._number, handle, arguments)
        heapq.heappush(self._events, event)

    def run(self, until: Callable[[], bool]) -> None:
        """Handle events in order until `until` holds. Raises RuntimeError when none is left."""
        while not until():
            if not self._events:
                raise RuntimeError("nothing is left to happen, and the work is not done")
            self._now, _, handle, arguments = heapq.heappop(self._events)
            handle(*arguments)


class Capacity:
    """A service that takes so many units a second. Calls beyond that wait their turn, as calls that
    are throttled and tried again do."""

    def __init__(self, timeline: Timeline, units_a_second: float) -> None:
        self._timeline = timeline
        self._unit_s = 1.0 / units_a_second
        self._free_at = 0.0
        self.used = 0.0
        """Units used so far."""

    def call_s(self, units: float = 1.0) -> float:
        """Use `units`. Returns the seconds until the answer to this call."""
        now = self._timeline.now()
        begins_at = max(now, self._free_at)
        self._free_at = begins_at + units * self._unit_s
        self.used += units
        return begins_at - now + self._timeline.call_s()
