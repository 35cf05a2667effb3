"""Points of the fleet's history: how the fleet stood at one time, for charts. Owns when a point is
due and what it says; not where points are kept (`taskfleet.provisioner.ports`) nor how they are
shown (`taskfleet.provisioner.history`). Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskfleet.ports import QueueDepth
from taskfleet.provisioner.records import FleetState, WorkerRecord

POINT_S = 55.0
"""Least seconds between two points. Rounds begin a few times a minute."""


class Point(msgspec.Struct, frozen=True, array_like=True):
    """How the fleet stood. In JSON it is an array in the order of the fields.

    at: when, in epoch seconds.
    backlog, in_flight: messages that wait, and that workers hold.
    running: tasks that workers execute.
    ended: tasks that ended since the point before, as far as workers reported them.
    slots, workers: of the workers that live.
    instances: machines that are there or on their way.
    desired: machines that the provisioner wants.
    usd_per_hour: the price of the machines.
    """

    at: float
    backlog: int
    in_flight: int
    running: int
    ended: int
    slots: int
    workers: int
    instances: int
    desired: int
    usd_per_hour: float


def ended_after(before: FleetState, workers: Sequence[WorkerRecord]) -> tuple[int, dict[str, int]]:
    """Returns how many tasks ended since the last point, and what each worker counts by now.

    A worker that is seen for the first time has ended all of its tasks since, unless an earlier
    version, which did not count them, has seen it before. What a worker that is lost ends after the
    last report that is seen of it is missing.
    """
    ended = before.ended_since
    for worker in workers:
        unseen = worker.ended if worker.worker_id in before.claimed else 0
        ended += max(0, worker.ended - before.ended.get(worker.worker_id, unseen))
    return ended, {worker.worker_id: worker.ended for worker in workers}


def is_due(before: FleetState, now: float) -> bool:
    """Returns whether a round at `now` makes a point."""
    return now - before.pointed_at >= POINT_S


def point(state: FleetState, depth: QueueDepth, alive: Sequence[WorkerRecord], ended: int) -> Point:
    """Returns the point of a round that ended with this state.

    alive: the workers that live.
    ended: tasks that ended since the point before.
    """
    return Point(
        round(state.last_round_at, 3),
        depth.backlog,
        depth.in_flight,
        sum(sum(worker.running.values()) for worker in alive),
        ended,
        sum(worker.slots for worker in alive),
        len(alive),
        state.machines,
        state.desired,
        round(state.usd_per_hour, 6),
    )
