"""What is explored, and how a state is written down: the scenario, its faults, the shared part of a
state, and what really happened. Owns these values; `tests.model.world` changes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from taskfleet.batch import BatchRecord
from taskfleet.memory import MemoryMonitor

NOW = 1_700_000_000.0
LEASE_S = 30.0
GONE = NOW - 1.0
"""End of a lease that has expired."""


def still(expires_at: float) -> float:
    """Returns the end of a lease as the model tells it: it lives, or it has ended."""
    return NOW + LEASE_S if expires_at > NOW else GONE


class Ghost(NamedTuple):
    """What really happened, which no process of the system knows. All by position of the task in
    its batch, except for `losses` and `published`.

    starts: runs of the task that began.
    excused: further runs that are in order: one that failed for a while, was told to stop, or was a
        second copy.
    charged: most attempts that a row may name: runs that began, and notes that were written.
    fine: whether a run ended well.
    losses: leases that ended before their bundle was settled, by bundle.
    published: whether an answer was published, by bundle.
    kills: workers that a task ended.
    """

    starts: tuple[int, ...]
    excused: tuple[int, ...]
    charged: tuple[int, ...]
    fine: tuple[bool, ...]
    losses: tuple[int, ...]
    published: tuple[bool, ...]
    cancelled: bool = False
    kills: int = 0


class Budget(NamedTuple):
    """Faults that may still happen.

    crashes: workers that vanish.
    errors: calls that fail, before or after they take effect, take effect late or twice.
    expiries: leases that end while their worker is alive.
    doubles: messages that are delivered after they were deleted.
    cancels: cancellations by the client.
    drains: workers that are told to leave.
    overstays: bundles whose tasks take too long.
    """

    crashes: int = 0
    errors: int = 0
    expiries: int = 0
    doubles: int = 0
    cancels: int = 0
    drains: int = 0
    overstays: int = 0

    def less(self, name: str) -> Budget:
        return self._replace(**{name: getattr(self, name) - 1})


NO_FAULTS = Budget()


class Shared(NamedTuple):
    """The shared part of a state, frozen."""

    items: tuple[Any, ...]
    batch: BatchRecord
    counted: tuple[int, ...]
    queue: tuple[int, ...]
    dead: tuple[int, ...]
    responses: tuple[str, ...]
    late: tuple[Any, ...]
    ghost: Ghost
    budget: Budget


CUTS = frozenset(
    {
        *("claim", "commit", "release", "publish", "delete", "dead letter"),
        *("read the item", "mark the item"),  # of a broken protocol
    }
)
"""Calls before which other processes act in every scenario."""


@dataclass(frozen=True)
class Scenario:
    """What is explored.

    tasks: what becomes of each task: `good`, `flaky` (may fail for a while), `bad`, `killer` (ends
        its worker), `timed` (may come to its time-out), `hedged` (gets a second copy).
    budget: faults.
    bundles: bundles that the tasks are cut into.
    faulty: calls that can fail; each is then a place where other processes act.
    cuts: further such places.
    together: whether a slot takes both tasks of a bundle at once.
    slots: chunks that run at a time in a worker.
    monitor, broken: the monitor, and what is changed in each worker (`tests.model.broken`).
    """

    name: str
    tasks: tuple[str, ...] = ("good", "good")
    budget: Budget = NO_FAULTS
    bundles: int = 1
    faulty: frozenset[str] = frozenset()
    cuts: frozenset[str] = CUTS
    together: bool = True
    slots: int = 1
    workers: int = 2
    max_attempts: int = 2
    monitor: type[MemoryMonitor] = MemoryMonitor
    broken: Callable[[Any], None] | None = None
