"""The work of batches with a deadline or a budget, and the machines that do it in time. Owns this
arithmetic; what follows from it belongs to `taskfleet.provisioner.goals` and
`taskfleet.provisioner.risks`. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from taskfleet.pace import ASSUMED_TASK_S
from taskfleet.provisioner.policy import KindLoad, MachineState, Observation, counts

TAILS = 2.0
"""Longest tasks, one after the other, that a machine which leaves is taken to run still."""
SOME_TASKS = 1.0
"""Fewer tasks than this are none: numbers of tasks are estimates."""


class Goal(msgspec.Struct, frozen=True):
    """A batch with a deadline or a budget.

    waiting, running: its tasks that wait and that run; both are estimates.
    mean_s: expected seconds of one task.
    tail_s: expected seconds of one of its longest tasks.
    slots_each: slots that one task takes up.
    due_in_s: seconds until its deadline; infinite without one.
    usd_left: dollars of its budget that are left for machines; infinite without one.
    """

    batch_id: str
    waiting: float
    running: float
    mean_s: float
    tail_s: float
    slots_each: float = 1.0
    due_in_s: float = math.inf
    usd_left: float = math.inf

    @property
    def work_s(self) -> float:
        """Slot-seconds that are left; of a task that runs, half is."""
        return (self.waiting + self.running / 2) * self.mean_s * self.slots_each

    @property
    def load(self) -> KindLoad:
        """The batch as work for a policy."""
        return KindLoad(self.batch_id, self.waiting, self.running, self.mean_s, self.slots_each)


class Reaction(msgspec.Struct, frozen=True):
    """How fast a fleet follows a decision: seconds until the next one (`look_s`), until a worker
    that was asked to leave hears of it (`beat_s`), and until it has broken off its tasks at the
    latest (`drain_s`)."""

    look_s: float
    beat_s: float
    drain_s: float

    def leave_s(self, goal: Goal) -> float:
        """Seconds until a machine is gone that is asked to leave in the round after this one."""
        return self.look_s + self.beat_s + min(self.drain_s, TAILS * goal.tail_s)


def is_alone(seen: Observation, others: Sequence[KindLoad]) -> bool:
    """Returns whether there is no other work than that of watched batches."""
    return not seen.trickling and sum(load.waiting + load.running for load in others) < SOME_TASKS


def work_s(load: KindLoad) -> float:
    """Slot-seconds that are left of a load; of a task that runs, half is."""
    return (
        (load.waiting + load.running / 2)
        * (ASSUMED_TASK_S if load.mean_s is None else load.mean_s)
        * load.slots_each
    )


def boots_s(seen: Observation) -> list[float]:
    """Seconds until each machine that counts works, the first first."""
    return sorted(
        max(0.0, seen.boot_s - m.age_s) if m.state is MachineState.BOOTING else 0.0
        for m in seen.machines
        if counts(m, seen.boot_s)
    )


def needed(seen: Observation, work_s: float, time_s: float) -> int | None:
    """The fewest machines that do so many slot-seconds in the time; None if not even many do."""
    slots = seen.limits.slots
    supply_s = seen.static_slots * max(0.0, time_s)
    number = 0
    for boot_s in boots_s(seen):
        if supply_s >= work_s:
            return number
        supply_s += slots * max(0.0, time_s - boot_s)
        number += 1
    if supply_s >= work_s:
        return number
    each_s = slots * (time_s - seen.boot_s)
    return number + math.ceil((work_s - supply_s) / each_s) if each_s > 0 else None
