"""The scaling policy: how many machines it wants within the limits, and its reasons."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.provisioner.demand import is_stream, steady_rate, waiting_at_least
from taskfleet.provisioner.policy import (
    BETWEEN_STRIKES_S,
    SILENT_S,
    STRIKE_S,
    FleetLimits,
    KindLoad,
    Machine,
    MachineState,
    Observation,
    by_threshold,
    by_work,
    decide,
    drain_target_s,
)

TEN = FleetLimits(10, 16)
BOOTING, LIVE, LEAVING, ENDING = MachineState


def seen(
    waiting: float = 0,
    running: float = 0,
    mean_s: float | None = 1.0,
    machines: tuple[Machine, ...] = (),
    limits: FleetLimits = TEN,
    **others: Any,
) -> Observation:
    timing = {"boot_s": 40.0, "idle_s": 45.0} | others
    return Observation([KindLoad("sleep", waiting, running, mean_s)], machines, limits, **timing)


def live(name: str, **others: Any) -> Machine:
    return Machine(name, LIVE, age_s=300.0, quiet_s=5.0, **others)


def booting(name: str, age_s: float = 10.0, **others: Any) -> Machine:
    return Machine(name, BOOTING, age_s, quiet_s=age_s, **others)


@pytest.mark.parametrize(
    ("observation", "desired", "launch"),
    [
        (seen(), 0, 0),
        (seen(waiting=1, mean_s=0.001), 1, 1),
        (seen(waiting=1, mean_s=None), 1, 1),
        # 40 s of boot and 45 s idle give a drain target of 82 s: 1,319 slot-seconds a machine.
        (seen(waiting=1_300), 1, 1),
        (seen(waiting=1_400), 2, 2),
        (seen(waiting=13_000), 10, 10),
        (seen(waiting=130_000), 10, 10),
        # A task longer than the target takes one slot, however long it is.
        (seen(waiting=32, mean_s=1e9), 2, 2),
        (seen(waiting=33, mean_s=100.0), 3, 3),
        (seen(running=16, mean_s=1e9, machines=(live("a"),)), 1, 0),
        # Booting machines count; leaving machines do not.
        (seen(waiting=1_400, machines=(booting("a"),)), 2, 1),
        (seen(waiting=1_400, machines=(live("a"), booting("b"))), 2, 0),
        (seen(waiting=1_400, machines=(Machine("a", LEAVING, 99),)), 2, 2),
        # An overdue machine is replaced, but still counts towards the limit.
        (seen(waiting=1_400, machines=(booting("a", 100),)), 2, 2),
        (seen(waiting=1_400, machines=(booting("a", 100),), limits=FleetLimits(2, 16)), 2, 1),
        (
            seen(waiting=1_400, machines=(Machine("a", ENDING, 100),), limits=FleetLimits(2, 16)),
            2,
            1,
        ),
        # A machine whose image boots slowly is not overdue.
        (seen(waiting=1, machines=(booting("a", 100),), boot_s=90.0), 1, 0),
        (seen(waiting=9, limits=FleetLimits(0, 16)), 0, 0),
        # A stream gets headroom for growth.
        (seen(running=16, machines=(live("a"),), arriving=16.0, trickling=True), 3, 2),
        # Nothing waits now, but a trickle of tasks keeps its machine.
        (seen(machines=(live("a"),), trickling=True), 1, 0),
    ],
)
def test_desired_capacity(observation: Observation, desired: int, launch: int) -> None:
    decision = decide(by_work, observation)
    assert (decision.desired, decision.launch) == (desired, launch)
    assert f"wanted {decision.wanted}, there are" in decision.reason


def test_the_drain_target_minimises_cost_times_wait() -> None:
    boot_s, idle_s, work_s = 40.0, 45.0, 10_000.0

    def cost_x_wait(machines: float) -> float:
        return (work_s + machines * (boot_s + idle_s)) * (boot_s + work_s / machines / 2)

    best = work_s / drain_target_s(boot_s, idle_s)
    assert cost_x_wait(best) < min(cost_x_wait(best * 0.9), cost_x_wait(best * 1.1))


def test_the_budget_is_hard_and_named() -> None:
    limits = FleetLimits(10, 16, usd_per_hour=0.1, max_usd_per_hour=0.3)
    decision = decide(by_work, seen(waiting=1_000_000, limits=limits))
    assert decision.launch == 3
    assert "the budget of $0.3 an hour pays for 3 at $0.1" in decision.reason
    assert "the limit is 10" in decide(by_work, seen(waiting=1_000_000)).reason


def test_the_threshold_rule_adds_one_machine_in_each_round_over_the_threshold() -> None:
    policy = by_threshold(10)
    assert decide(policy, seen(waiting=10)).launch == 0
    assert decide(policy, seen(waiting=11)).launch == 1
    two = (live("a"), booting("b"))
    assert decide(policy, seen(waiting=10**6, machines=two)).desired == 3
    full = tuple(live(str(n)) for n in range(10))
    assert decide(policy, seen(waiting=10**6, machines=full)).launch == 0


@pytest.mark.parametrize(
    ("machine", "fate"),
    [
        (booting("m", STRIKE_S - 1), None),
        (booting("m", STRIKE_S), "mark"),
        (booting("m", STRIKE_S + 9, marked_s=9.0), None),
        (booting("m", STRIKE_S + 60, marked_s=BETWEEN_STRIKES_S), "end"),
        (Machine("m", LIVE, 999, quiet_s=STRIKE_S), None),
        (Machine("m", LIVE, 999, quiet_s=SILENT_S), "mark"),
        (Machine("m", LIVE, 999, quiet_s=SILENT_S + 60, marked_s=60), "end"),
        (Machine("m", LIVE, 999, quiet_s=1.0, marked_s=60), None),
        (Machine("m", LEAVING, 9_999, quiet_s=1.0, busy=3), None),
        (Machine("m", ENDING, 9_999, quiet_s=9_999, marked_s=99), None),
    ],
)
def test_two_strikes_end_only_silent_machines(machine: Machine, fate: str | None) -> None:
    decision = decide(by_work, seen(machines=(machine,)))
    assert (decision.mark, decision.end) == (
        ["m"] if fate == "mark" else [],
        ["m"] if fate == "end" else [],
    )


def test_surplus_machines_are_asked_to_leave_the_emptiest_first_while_tasks_trickle_in() -> None:
    machines = (live("full", busy=9), live("empty"), live("one", busy=1), booting("new"))
    observation = seen(running=10, machines=machines, trickling=True, surplus_s=45.0)
    assert decide(by_work, observation).retire == ["empty", "one", "full"]

    def changed(**others: Any) -> list[str]:
        values = {"running": 10.0, "machines": machines, "trickling": True, "surplus_s": 45.0}
        return decide(by_work, seen(**(values | others))).retire

    assert changed(surplus_s=44.0) == []
    assert changed(trickling=False) == [], "idle machines end themselves"
    assert changed(waiting=5_000.0) == []


def test_a_burst_is_no_stream_and_a_stream_is() -> None:
    burst = [(0.0, 0.0), (100.0, 5_000.0), (200.0, 5_000.0)]
    for now in range(90, 200):
        assert steady_rate(burst, float(now)) == 0
    stream = [(float(t), 2.0 * t) for t in range(0, 200, 3)]
    assert steady_rate(stream, 150.0) == pytest.approx(2.0, rel=0.2)
    assert steady_rate([], 1.0) == 0
    assert is_stream(1.0)
    assert not is_stream(0.2)


def test_recent_arrivals_that_did_not_start_wait_even_if_a_stale_count_lacks_them() -> None:
    arrived = [(0.0, 0.0), (100.0, 500.0)]
    assert waiting_at_least(arrived, [(0.0, 0.0)], 100.0) == 500
    assert waiting_at_least(arrived, [(0.0, 0.0), (110.0, 200.0)], 115.0) == 300
    assert waiting_at_least(arrived, [(0.0, 0.0)], 161.0) == 0, "by then the count includes them"


machines = st.lists(
    st.builds(
        Machine,
        machine_id=st.uuids().map(str),
        state=st.sampled_from(MachineState),
        age_s=st.floats(0, 5_000),
        quiet_s=st.floats(0, 5_000),
        busy=st.integers(0, 16),
        marked_s=st.none() | st.floats(0, 500),
    ),
    max_size=30,
)
loads = st.lists(
    st.builds(
        KindLoad,
        kind=st.sampled_from(["sleep", "animoto"]),
        waiting=st.floats(0, 1e9),
        running=st.floats(0, 1e6),
        mean_s=st.none() | st.floats(0, 1e6),
    ),
    max_size=3,
)


@given(
    st.builds(
        Observation,
        loads=loads,
        machines=machines,
        limits=st.builds(
            FleetLimits,
            max_capacity=st.integers(0, 40),
            slots=st.integers(1, 64),
            usd_per_hour=st.floats(0, 2),
            max_usd_per_hour=st.none() | st.floats(0, 20),
        ),
        arriving=st.floats(0, 1e6),
        trickling=st.booleans(),
        boot_s=st.floats(0, 600),
        idle_s=st.floats(0, 600),
        surplus_s=st.floats(0, 600),
    ),
    st.sampled_from([by_work, by_threshold(0), by_threshold(50)]),
)
def test_for_any_observation_the_limits_hold_and_no_working_machine_is_ended(
    observation: Observation, policy: Any
) -> None:
    decision = decide(policy, observation)
    limits = observation.limits
    assert 0 <= decision.desired <= limits.max_capacity
    assert decision.launch >= 0
    total = len(observation.machines) + decision.launch
    assert decision.launch == 0 or total <= limits.max_capacity
    if limits.max_usd_per_hour is not None and decision.launch:
        assert total * limits.usd_per_hour <= limits.max_usd_per_hour * (1 + 1e-5) + 1e-5
    by_id = {m.machine_id: m for m in observation.machines}
    for name in decision.end:
        assert by_id[name].quiet_s >= STRIKE_S
        assert by_id[name].marked_s is not None
    assert not set(decision.end) & set(decision.mark)
    assert all(by_id[name].state is LIVE for name in decision.retire)
    assert math.isfinite(decision.wanted)
    if policy is by_work and any(load.waiting > 0 for load in observation.loads):
        assert decision.wanted >= 1, "waiting tasks always get a machine"
