"""The batches with a deadline or a budget that the provisioner watches from round to round."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.batch import BatchRecord, Tally
from taskfleet.bill import Spend
from taskfleet.memory import ManualClock, MemoryFleetRecords, MemoryMonitor
from taskfleet.options import BatchOptions
from taskfleet.pace import ASSUMED_TASK_S, Pace
from taskfleet.ports import QueueDepth
from taskfleet.provisioner.policy import KindLoad
from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    KindDemand,
    Reading,
    Snapshot,
    Watched,
)
from taskfleet.provisioner.watch import WATCHED_MAX, Followed, Watch, follow

NOW = 10_000.0
READING = Reading(NOW, QueueDepth(0, 0), Demand(), [], [])
SLEEP = Watched({"sleep": KindDemand(100, 100, 50.0)})
BOTH = BatchOptions(deadline_s=600, budget_usd=1.0)


def batch(name: str = "b1", options: BatchOptions = BOTH, **others: Any) -> BatchRecord:
    made = BatchRecord(
        name, "alice", None, NOW - 100, 100, 10, "", closed=True, enqueued=100, options=options
    )
    return replace(made, **others)


def followed(
    *batches: BatchRecord,
    watched: dict[str, Watched] | None = None,
    loads: tuple[KindLoad, ...] = (),
    before: FleetState | None = None,
    cost_usd: float = 0.0,
    **reading: Any,
) -> Followed:
    known = watched if watched is not None else {each.batch_id: SLEEP for each in batches}
    read = replace(READING, **reading)
    return follow(known, batches, read, loads, before or FleetState(), cost_usd)


def test_a_goal_is_what_is_left_of_the_batch() -> None:
    ended = batch(tally=Tally(30, 10), spend=Spend(40, 0.04))
    (goal,) = followed(ended, loads=(KindLoad("sleep", 45, 15, 0.5),)).goals
    assert (goal.waiting, goal.running, goal.mean_s) == (45, 15, 0.5)
    assert goal.due_in_s == 500
    assert goal.usd_left == pytest.approx(1 - 0.04 - 0.04 * 60 / 40), "its calls cost on"
    (goal,) = followed(batch(options=BatchOptions(timeout_s=3))).goals
    assert (goal.due_in_s, goal.usd_left) == (math.inf, math.inf)


@pytest.mark.parametrize(
    ("record", "load", "left"),
    [
        # What workers have ended and the collector has not counted is no longer on the queue.
        (batch(), (20, 5), (20, 5)),
        # Old counts of the queue have more than is left.
        (batch(tally=Tally(90)), (40, 10), (8, 2)),
        # What is still to be read of a file waits.
        (batch(enqueued=40), (20, 0), (80, 0)),
        (batch(cancelled_at=NOW), (40, 10), (0, 0)),
        (batch(tally=Tally(100)), (40, 10), (0, 0)),
    ],
)
def test_what_waits_and_runs_of_a_batch(
    record: BatchRecord, load: tuple[int, int], left: tuple[int, int]
) -> None:
    (goal,) = followed(record, loads=(KindLoad("sleep", *load),)).goals
    assert (goal.waiting, goal.running) == left


@pytest.mark.parametrize(
    ("kinds", "mean_s", "tail_s"),
    [
        ({"sleep": KindDemand(100, 100, 50.0)}, 0.5, 0.5),
        ({"new": KindDemand(100)}, ASSUMED_TASK_S, ASSUMED_TASK_S),
        ({"python": KindDemand(100)}, 4.0, 4.0 + 3 * 2.0),
        ({"python:slow": KindDemand(100)}, 40.0, 40.0),
        ({"python:other": KindDemand(100)}, 4.0, 4.0 + 3 * 2.0),
        ({"sleep": KindDemand(50, 50, 25.0), "python": KindDemand(50)}, 2.25, 10.0),
        # A part that was enqueued twice counts twice, and changes no mean.
        ({"sleep": KindDemand(200, 200, 100.0)}, 0.5, 0.5),
    ],
)
def test_seconds_of_its_tasks(kinds: dict[str, KindDemand], mean_s: float, tail_s: float) -> None:
    paces = {"python": Pace(9, 4.0, 4.0), "python:slow": Pace(9, 40.0, 0.0)}
    (goal,) = followed(batch(), watched={"b1": Watched(kinds)}, paces=paces).goals
    assert (goal.mean_s, goal.tail_s) == (pytest.approx(mean_s), pytest.approx(tail_s))


def test_the_cost_of_the_machines_is_shared_by_the_work() -> None:
    before = FleetState(watched={"b1": SLEEP, "b2": SLEEP})
    loads = (KindLoad("sleep", 200, 0, 0.5), KindLoad("other", 100, 0, 1.0))
    found = followed(batch(), batch("b2"), loads=loads, before=before, cost_usd=0.8)
    assert [each.machines_usd for each in found.watched.values()] == pytest.approx([0.2, 0.2])
    assert found.other_tasks == 100
    (alone,) = followed(batch(), before=before, cost_usd=0.8).watched.values()
    assert alone.machines_usd == 0.8
    (new,) = followed(batch(), cost_usd=0.8).watched.values()
    assert new.machines_usd == 0, "what was spent before it came is not its"


def test_an_ended_batch_is_told_of_once_more_and_forgotten() -> None:
    found = followed(batch(tally=Tally(100)), before=FleetState(watched={"b1": SLEEP}))
    assert [goal.waiting + goal.running for goal in found.goals] == [0]
    assert found.watched == {}


def test_others_are_no_more_than_were_there_and_came_since() -> None:
    earlier = Snapshot(NOW - 15, Demand(1, 9, {"sleep": KindDemand(1_000)}), 0)
    before = FleetState(watched={"b1": SLEEP}, other_tasks=5, history=[earlier])
    loads = (KindLoad("sleep", 400, 0, 0.5),)
    demand = Demand(2, 12, {"sleep": KindDemand(1_130)})
    grown = {"b1": Watched({"sleep": KindDemand(200, 200, 100.0)})}
    found = followed(batch(), loads=loads, before=before, demand=demand, watched=grown)
    assert found.other_tasks == pytest.approx(5 + 130 - 100), "not the 300 that the queue counts"
    assert followed(batch(), loads=loads, demand=demand).other_tasks == 300


def test_the_list_is_read_only_when_it_has_grown_and_up_to_a_number() -> None:
    records = MemoryFleetRecords()
    watch = Watch(records, MemoryMonitor(ManualClock()))
    kinds = {"sleep": KindDemand(1)}
    records.watch("b1", kinds)
    before = FleetState(watched={"b0": SLEEP}, watched_to=1)
    assert watch.known(before, records.demand()) == {"b0": SLEEP}
    for number in range(2 * WATCHED_MAX):
        records.watch(f"c{number:03}", kinds)
    found = watch.known(before, records.demand())
    assert len(found) == WATCHED_MAX
    assert (found["b0"], found["b1"]) == (SLEEP, Watched(kinds))
    assert watch.batches(found) == [], "they have expired"


def test_batches_come_in_the_order_in_which_their_tasks_are_taken() -> None:
    monitor = MemoryMonitor(ManualClock())
    watch = Watch(MemoryFleetRecords(), monitor)
    high = BatchOptions(deadline_s=9, priority="high")
    made = [batch("b2"), batch("b1", created_at=NOW), batch("b3", high, created_at=NOW + 9)]
    for each in made:
        monitor.create_batch(each)
    found = watch.batches({each.batch_id: SLEEP for each in made})
    assert [each.batch_id for each in found] == ["b3", "b2", "b1"]
