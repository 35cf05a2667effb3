"""The promises of `FleetRecords`, in memory and on DynamoDB."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.provisioner.points import Point
from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    Intent,
    KindDemand,
    Noted,
    Round,
    Snapshot,
    WorkerRecord,
)

WORKER = WorkerRecord(
    "w-1", "i-1", 16, ["sleep", "animoto"], 100.5, 130.25, {"sleep": 3}, {}, {"animoto": 2}, 7, True
)


def test_demand_adds_up_and_returns_what_is_noted_of_the_fleet(world: Any) -> None:
    records = world.records
    assert records.demand() == Demand()
    assert records.add_demand(Demand(1, 2, {"sleep": KindDemand(3, 3, 4.5)})) is None
    assert records.noted() is None
    first = Noted(4, 80, 48, 16, 31.25, 1234.5, 1_700_000_000.5, {"animoto": 2})
    records.note(first)
    more = Demand(1, 1, {"sleep": KindDemand(1, 0, 0.0), "a.b-c/d": KindDemand(9, 0, 0.0)})
    assert records.add_demand(more) == first
    assert records.noted() == first
    records.note(Noted(0, 16))
    records.note(Noted(0, 16))
    assert records.add_demand(Demand(1, 1, {}, high=1)) == Noted(0, 16)
    assert records.noted() == Noted(0, 16)
    kinds = {"sleep": KindDemand(4, 3, 4.5), "a.b-c/d": KindDemand(9, 0, 0.0)}
    assert records.demand() == Demand(3, 4, kinds, high=1)
    assert records.demand().since(Demand(2, 3, kinds)) == Demand(1, 1, {}, high=1)


def test_batches_to_watch_are_listed_with_their_tasks_until_they_are_taken_off(
    world: Any,
) -> None:
    records = world.records
    assert records.watched() == {}
    records.unwatch("b1")
    records.watch("b1", {"sleep": KindDemand(3, 3, 4.5)})
    records.watch("b2", {"python:f-1/2": KindDemand(2, 0, 0.0)})
    records.watch("b1", {"sleep": KindDemand(1, 1, 0.5), "animoto": KindDemand(7, 0, 0.0)})
    first = {"sleep": KindDemand(4, 4, 5.0), "animoto": KindDemand(7, 0, 0.0)}
    second = {"python:f-1/2": KindDemand(2, 0, 0.0)}
    assert records.watched() == {"b1": first, "b2": second}
    assert records.demand() == Demand(watched=3)
    records.unwatch("b1")
    records.unwatch("b1")
    assert records.watched() == {"b2": second}
    assert records.demand() == Demand(watched=3), "the list grew three times"


def test_points_are_read_since_a_time_in_order_and_once_each(world: Any) -> None:
    records = world.records
    now = world.clock.now()
    assert records.points(now - 3600) == []
    made = [Point(now - 60 * age, age, 0, 1, 2, 16, 1, 1, 1, 0.0725) for age in range(90)]
    for point in [*made, made[3]]:
        records.add_point(point)
    assert records.points(now - 86_400) == made[::-1]
    assert records.points(now - 1800) == made[30::-1]


def test_workers_are_listed_as_last_reported_until_they_are_forgotten(world: Any) -> None:
    records = world.records
    assert records.workers() == []
    assert records.report(WORKER) is False
    second = replace(WORKER, worker_id="w-2", instance_id=None, started_at=101.0)
    records.report(second)
    later = replace(WORKER, reported_at=145.0, running={}, leaving=True)
    records.report(later)
    assert sorted(records.workers(), key=lambda w: w.worker_id) == [later, second]
    records.forget(["w-1", "w-2", "never-there"])
    assert len(records.workers()) == 2, "neither has signed off"
    last = replace(later, reported_at=150.0, bundles=9, signed_off=True)
    records.sign_off(last)
    assert records.report(later) is True, "a report that comes late finds that it has ended"
    records.sign_off(replace(last, reported_at=151.0))
    assert sorted(records.workers(), key=lambda w: w.worker_id) == [last, second]
    for _ in range(2):
        records.forget(["w-1", "w-2", "never-there"])
        assert records.workers() == [second]
    assert records.report(later) is True
    assert records.workers() == [second]


def test_a_worker_that_could_never_report_signs_off_all_the_same(world: Any) -> None:
    last = replace(WORKER, leaving=True, signed_off=True)
    world.records.sign_off(last)
    assert world.records.workers() == [last]


def test_a_worker_that_is_asked_to_leave_learns_it_from_its_next_report(world: Any) -> None:
    records = world.records
    records.report(WORKER)
    records.report(replace(WORKER, worker_id="w-2"))
    records.ask_to_leave(["w-1", "unknown"])
    assert records.report(WORKER) is True
    assert records.report(replace(WORKER, worker_id="w-2")) is False
    assert {worker.worker_id for worker in records.workers()} == {"w-1", "w-2"}


def test_many_workers_are_all_listed(world: Any) -> None:
    for number in range(130):
        worker = replace(WORKER, worker_id=f"w-{number}", started_at=float(number))
        world.records.report(worker)
    assert len({worker.worker_id for worker in world.records.workers()}) == 130


def test_a_state_replaces_only_the_revision_that_was_read(world: Any) -> None:
    records = world.records
    assert records.state() == FleetState()
    snapshot = Snapshot(1.0, Demand(1, 1, {"sleep": KindDemand(1, 1, 2.0)}), 0.0)
    state = replace(
        records.state(),
        desired=3,
        history=[snapshot],
        intent=Intent("t", 3, 1.0),
        decisions=[Round(1.0, 3, 0, [], [], "because")],
    )
    assert records.save_state(state)
    saved = records.state()
    assert saved == replace(state, revision=1)
    assert not records.save_state(replace(state, desired=9)), "another writer was first"
    assert records.state() == saved
    assert records.save_state(replace(saved, desired=4))
    assert records.state().desired == 4


def test_workers_are_in_no_client_s_list_of_batches(world: Any) -> None:
    world.records.report(WORKER)
    for client in ("alice", "workers"):
        assert world.monitor.batches(client, limit=10, cursor=None).items == []


@pytest.mark.parametrize("revision", [1, 7])
def test_a_state_of_an_unknown_revision_is_not_saved(world: Any, revision: int) -> None:
    assert not world.records.save_state(FleetState(revision=revision))
    assert world.records.state() == FleetState()
