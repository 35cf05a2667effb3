"""Estimates of the provisioner: how many tasks wait and run, of which kinds, on which machines."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.ports import QueueDepth
from taskfleet.provisioner.observe import observe
from taskfleet.provisioner.policy import MachineState, Observation
from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    Instance,
    InstanceState,
    KindDemand,
    Reading,
    WorkerRecord,
)
from taskfleet.settings import Settings

CONF = Settings(bucket="b")
NOW = 1_000_000.0


def demand(messages: int, **kinds: tuple[int, int, float]) -> Demand:
    return Demand(messages, messages, {name: KindDemand(*k) for name, k in kinds.items()})


def read(
    at: float, state: FleetState | None = None, **others: Any
) -> tuple[Observation, FleetState]:
    reading = Reading(NOW + at, QueueDepth(0, 0), Demand(), [], [])
    return observe(replace(reading, **others), state or FleetState(), CONF)


def worker(**others: Any) -> WorkerRecord:
    return replace(WorkerRecord("w-1", "i-1", 16, ["sleep"], NOW - 9, NOW), **others)


def instance(**others: Any) -> Instance:
    return replace(Instance("i-1", InstanceState.RUNNING, NOW - 60, "c7g.large"), **others)


def waiting(seen: Observation) -> dict[str, float]:
    return {load.kind: round(load.waiting, 2) for load in seen.loads}


def test_waiting_tasks_are_of_the_kinds_that_arrived_last() -> None:
    _, state = read(0, demand=demand(100, sleep=(1_000, 1_000, 500.0)))
    both = demand(150, sleep=(1_000, 1_000, 500.0), animoto=(50, 0, 0.0))
    seen, state = read(100, state, demand=both, depth=QueueDepth(50, 0), means_s={"animoto": 9.0})
    assert waiting(seen) == {"animoto": 50}
    assert seen.loads[0].mean_s == 9.0
    seen, _ = read(200, state, demand=both, depth=QueueDepth(25, 0))
    assert waiting(seen) == {"animoto": 25}
    seen, _ = read(200, state, demand=both, depth=QueueDepth(150, 0))
    assert waiting(seen) == {"animoto": 50, "sleep": 1_000}
    assert {load.kind: load.mean_s for load in seen.loads} == {"animoto": None, "sleep": 0.5}


def test_messages_of_programs_of_2014_are_of_an_unknown_kind() -> None:
    seen, _ = read(0, depth=QueueDepth(7, 0))
    assert waiting(seen) == {"?": 7}


def test_tasks_in_hand_wait_until_they_are_in_a_slot() -> None:
    seen, _ = read(0, workers=[worker(running={"sleep": 3}, pending={"sleep": 5})])
    assert (seen.waiting, seen.running) == (5, 3)
    assert seen.static_slots == 16, "the worker is on no machine of the fleet"
    seen, _ = read(0, workers=[worker(reported_at=NOW - 90, running={"sleep": 3})])
    assert (seen.running, seen.static_slots) == (0, 0)


def test_a_worker_that_finds_the_queue_empty_overrides_a_stale_count() -> None:
    full = QueueDepth(500, 0)
    finds_queue_empty = worker(finds_queue_empty=True)
    seen, _ = read(0, depth=full, workers=[finds_queue_empty], demand=demand(9, sleep=(9, 9, 9.0)))
    assert seen.waiting <= 9
    _, state = read(0, demand=demand(9, sleep=(9, 9, 9.0)))
    late = demand(9, sleep=(9, 9, 9.0))
    seen, _ = read(
        90,
        state,
        depth=full,
        workers=[replace(finds_queue_empty, reported_at=NOW + 89)],
        demand=late,
    )
    assert seen.waiting == 0
    old = [replace(finds_queue_empty, reported_at=NOW + 60)]
    seen, _ = read(90, state, depth=full, workers=old, demand=late)
    assert seen.waiting >= 500, "the worker's report is too old"


def test_a_task_of_a_limited_kind_counts_as_several_slots() -> None:
    seen, _ = read(0, workers=[worker(running={"animoto": 2}, limits={"animoto": 2})])
    assert seen.loads[0].slots_each == 8


@pytest.mark.parametrize(
    ("machine", "workers", "state"),
    [
        (instance(), [], MachineState.BOOTING),
        (instance(state=InstanceState.PENDING), [], MachineState.BOOTING),
        (instance(), [worker()], MachineState.LIVE),
        (instance(), [worker(leaving=True)], MachineState.LEAVING),
        (instance(), [worker(leaving=True, signed_off=True)], MachineState.LEAVING),
        (instance(state=InstanceState.ENDING), [worker()], MachineState.ENDING),
    ],
)
def test_the_states_of_a_machine(
    machine: Instance, workers: list[WorkerRecord], state: MachineState
) -> None:
    seen, known = read(0, instances=[machine], workers=workers)
    (found,) = seen.machines
    assert (found.state, found.age_s) == (state, 60)
    assert found.quiet_s == (0 if workers else 60)
    assert known.groups[state].count == 1


def test_of_two_workers_on_one_machine_the_newer_report_counts() -> None:
    old = worker(worker_id="w-0", reported_at=NOW - 50, leaving=True)
    seen, _ = read(0, instances=[instance()], workers=[worker(), old])
    assert seen.machines[0].state is MachineState.LIVE


def test_a_worker_that_signed_off_offers_no_slots_and_runs_nothing() -> None:
    seen, _ = read(0, workers=[worker(running={"sleep": 3}, leaving=True, signed_off=True)])
    assert (seen.running, seen.static_slots) == (0, 0)


def test_the_boot_time_is_learned_once_from_each_machine() -> None:
    machine, its = instance(launched_at=NOW - 60), worker(started_at=NOW - 10)
    seen, state = read(0, instances=[machine], workers=[its])
    assert seen.boot_s == pytest.approx(40 + 0.3 * (50 - 40))
    again, _ = read(15, state, instances=[machine], workers=[its])
    assert again.boot_s == seen.boot_s


def test_the_bill_counts_every_machine_from_round_to_round() -> None:
    _, state = read(0, instances=[instance(), instance(instance_id="i-2")])
    _, state = read(3_600, state, instances=[])
    assert state.cost_usd == pytest.approx(2 * CONF.instance_usd_per_hour)
    _, state = read(7_200, state)
    assert state.cost_usd == pytest.approx(2 * CONF.instance_usd_per_hour)


def test_totals_that_restart_from_zero_do_no_harm() -> None:
    _, state = read(0, demand=demand(100, sleep=(100, 100, 100.0)))
    seen, state = read(15, state, demand=demand(2, sleep=(2, 2, 2.0)), depth=QueueDepth(2, 0))
    assert waiting(seen) == {"sleep": 2}
    assert seen.arriving == 0


def test_the_history_stays_short_however_long_it_goes_on() -> None:
    state = FleetState()
    for number in range(2_000):
        _, state = read(15.0 * number, state, demand=demand(number, sleep=(number, 0, 0.0)))
    assert len(state.history) < 40
    seen, _ = read(
        30_000, state, demand=demand(2_000, sleep=(2_000, 0, 0.0)), depth=QueueDepth(1_500, 0)
    )
    assert waiting(seen)["sleep"] == pytest.approx(1_500)
