"""The view of the fleet: each reason why waiting tasks do not run."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    Group,
    KindDemand,
    Shortage,
    Snapshot,
    Trouble,
    WorkerRecord,
)
from taskfleet.provisioner.view import diagnose
from taskfleet.settings import Settings

NOW = 10_000.0
CONF = Settings(max_capacity=3, max_usd_per_hour=0.2, bucket="b")
SEEN = FleetState(revision=1, last_round_at=NOW - 20)
HISTORY = [
    Snapshot(NOW - 60, Demand(), 0.0),
    Snapshot(NOW - 30, Demand(1, 1, {"animoto": KindDemand(1)}), 0.0),
    Snapshot(NOW - 20, Demand(1, 1, {"animoto": KindDemand(1)}), 0.0),
]


def trouble(shortage: Shortage) -> Trouble:
    return Trouble(shortage, "InsufficientInstanceCapacity", NOW - 20, 3, NOW + 40)


def worker(**others: Any) -> WorkerRecord:
    return replace(WorkerRecord("w-1", "i-1", 16, ["sleep"], NOW - 90, NOW - 4), **others)


def places(**counts: int) -> dict[str, Group]:
    return {name: Group(count, NOW - 70, NOW - 5) for name, count in counts.items()}


@pytest.mark.parametrize(
    ("state", "workers", "conf", "words"),
    [
        (FleetState(), [], CONF, "the provisioner has never run: check the schedule"),
        (
            replace(SEEN, last_round_at=NOW - 2_000),
            [],
            CONF,
            "the provisioner has not run for 2000 s",
        ),
        (
            replace(SEEN, groups=places(booting=2)),
            [],
            CONF,
            "2 machines are booting, the first since 70 s",
        ),
        (
            replace(SEEN, groups=places(booting=2), never_reported=1),
            [],
            CONF,
            "1 machines have booted, but their workers never reported",
        ),
        (
            replace(SEEN, trouble=trouble(Shortage.NO_CAPACITY)),
            [],
            CONF,
            "EC2 has no capacity; add TASKFLEET_INSTANCE_TYPES or TASKFLEET_SUBNETS "
            "(InsufficientInstanceCapacity; 3 times, next try in 40 s)",
        ),
        (replace(SEEN, trouble=trouble(Shortage.QUOTA)), [], CONF, "a quota of the account"),
        (replace(SEEN, trouble=trouble(Shortage.REFUSED)), [], CONF, "EC2 refuses to launch"),
        (replace(SEEN, trouble=trouble(Shortage.NO_ANSWER)), [], CONF, "EC2 does not answer"),
        (SEEN, [], replace(CONF, max_capacity=0), "TASKFLEET_MAX_CAPACITY is 0"),
        (
            replace(SEEN, over_budget=True, desired=2, groups=places(leaving=2)),
            [worker(leaving=True)],
            CONF,
            "the budget (TASKFLEET_MAX_USD_PER_HOUR) is spent on 2 machines",
        ),
        (
            replace(SEEN, groups=places(leaving=1, ending=2)),
            [worker(leaving=True)],
            CONF,
            "all 3 places within TASKFLEET_MAX_CAPACITY are taken by machines that leave or end",
        ),
        (
            replace(SEEN, history=HISTORY),
            [worker()],
            CONF,
            "no worker takes tasks of kind animoto: the workers there are take sleep",
        ),
        (
            replace(SEEN, history=HISTORY),
            [worker(kinds=["sleep", "animoto"])],
            CONF,
            "1 workers are there, the last report 4 s ago",
        ),
        (SEEN, [worker(reported_at=NOW - 300)], CONF, "will see the tasks in its next round"),
        (replace(SEEN, last_round_at=NOW - 400), [], CONF, "recorded 400 s ago that nothing waits"),
        (
            replace(SEEN, last_round_at=NOW - 400, wanted=1),
            [],
            CONF,
            "the provisioner has not run for 400 s",
        ),
        (SEEN, [], CONF, "the provisioner ran 20 s ago and will see the tasks"),
    ],
)
def test_each_reason_is_given(
    state: FleetState, workers: list[WorkerRecord], conf: Settings, words: str
) -> None:
    assert words in diagnose(state, workers, conf, NOW)
