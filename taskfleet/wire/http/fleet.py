"""Answers about the fleet: its machines, workers, decisions and history."""

from __future__ import annotations

import msgspec

from taskfleet.wire import faces

HISTORY_MAX_MINUTES = 1_440
"""Most minutes of the fleet's history in an answer."""


class InstancesView(msgspec.Struct, frozen=True):
    """The EC2 instances in one state: their number, and the ages of the oldest and the newest in
    seconds."""

    state: str
    count: int
    oldest_s: float
    newest_s: float


class WorkerView(msgspec.Struct, frozen=True):
    """A worker, which executes up to `slots` tasks at a time.

    `running` counts the tasks that it executes, `pending` those that wait for one of its slots.
    `age_s` is the number of seconds since its start, `beat_s` that since its last report. `leaving`
    is true when it takes no more work. `instance_id` is null for a worker outside EC2. `ended`
    counts the tasks that it has ended since its start.
    """

    worker_id: str
    instance_id: str | None
    slots: int
    running: int
    pending: int
    age_s: float
    beat_s: float
    leaving: bool
    ended: int = 0


class DecisionView(msgspec.Struct, frozen=True):
    """One decision of the provisioner: at the time `at` it wanted `desired` machines for `reason`.

    `launched` and `ended` count the machines that it started and terminated; `retired` counts those
    that it asked to finish their work and leave.
    """

    at: str
    desired: int
    launched: int
    ended: int
    retired: int
    reason: str


class FleetView(msgspec.Struct, frozen=True):
    """The state of the fleet, which is the same for all clients: totals, machines, and names of
    kinds; nothing that belongs to one client.

    `backlog` and `in_flight` count the messages that wait on the queue and that workers hold; they
    may be a minute old. `running` counts tasks. `desired` is the number of machines that the
    provisioner wants, `max_capacity` the most that it may start. `decisions` begins with the
    newest. `cost_usd` is the price of all machines so far in US dollars, `usd_per_hour` that of the
    machines that run now. `looked_s` is the number of seconds since the provisioner last recorded a
    round, null when it never did; while it finds neither work nor machines, it records one in half
    an hour. `why` explains why nothing runs; it is null unless tasks wait and none runs.
    """

    backlog: int
    in_flight: int
    running: int
    workers: list[WorkerView]
    instances: list[InstancesView]
    desired: int
    max_capacity: int
    decisions: list[DecisionView]
    cost_usd: float
    usd_per_hour: float
    looked_s: float | None
    why: str | None

    def __repr__(self) -> str:
        return faces.fleet_text(self)


class FleetPoint(msgspec.Struct, frozen=True):
    """The fleet at one time.

    `backlog`, `in_flight`, `running`, `desired` and `usd_per_hour` are those of `GET /fleet` then.
    `ended` counts the tasks that ended since the point before, as far as workers reported them.
    `workers` and `slots` count the workers that lived and what they execute at a time, `instances`
    the machines that were there or on their way.
    """

    at: str
    backlog: int
    in_flight: int
    running: int
    ended: int
    slots: int
    workers: int
    instances: int
    desired: int
    usd_per_hour: float


class FleetHistory(msgspec.Struct, frozen=True):
    """The fleet over time, oldest first: about one point a minute, and none while there is nothing
    to do and no machine."""

    points: list[FleetPoint]
