"""The rule for batches with a deadline or a budget: machines, reasons, and who leaves."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.provisioner.goals import others_of, steer
from taskfleet.provisioner.policy import (
    Decision,
    FleetLimits,
    KindLoad,
    Machine,
    MachineState,
    Observation,
    by_work,
    decide,
)
from taskfleet.provisioner.supply import Goal, Reaction

PRICE = 0.36
"""Dollars for a machine and hour: a machine-second costs $0.0001."""
LIMITS = FleetLimits(10, 16, PRICE)
BOOTING, LIVE = MachineState.BOOTING, MachineState.LIVE
REACTION = Reaction(look_s=15, beat_s=15, drain_s=100)


def goal(waiting: float = 0, running: float = 0, mean_s: float = 1.0, **others: Any) -> Goal:
    return Goal("b1", waiting, running, mean_s, **{"tail_s": mean_s, **others})


def live(name: str, **others: Any) -> Machine:
    return Machine(name, LIVE, age_s=300.0, quiet_s=5.0, **others)


def steered(
    *goals: Goal,
    others: tuple[KindLoad, ...] = (),
    machines: tuple[Machine, ...] = (),
    limits: FleetLimits = LIMITS,
    **more: Any,
) -> tuple[Decision, dict[str, str]]:
    loads = [*others, *(each.load for each in goals)]
    timing = {"boot_s": 40.0, "idle_s": 45.0} | more
    seen = Observation(loads, machines, limits, **timing)
    return steer(by_work, seen, goals, others, REACTION)


@pytest.mark.parametrize(
    ("made", "machines", "desired"),
    [
        # 16,000 slot-seconds are 1,000 machine-seconds. By the policy they would get 13 machines.
        (goal(16_000, due_in_s=math.inf), (), 10),
        (goal(16_000, due_in_s=10_000), (), 1),
        (goal(16_000, due_in_s=1_300), (), 1),
        (goal(16_000, due_in_s=1_000), (), 2),
        (goal(16_000, due_in_s=300), (), 5),
        # Machines that are there need no boot.
        (goal(16_000, due_in_s=300), tuple(live(f"m{n}") for n in range(4)), 4),
        # No more machines than tasks for their slots, however short the time.
        (goal(20, mean_s=30, due_in_s=120), (), 2),
        # Too late for any machine: it goes on as if it had no deadline.
        (goal(1_000, due_in_s=30), (), 1),
        (goal(1_000, due_in_s=-5), (), 1),
        # More than the limit allows.
        (goal(160_000, due_in_s=300), (), 10),
    ],
)
def test_as_many_machines_as_finish_in_time(
    made: Goal, machines: tuple[Machine, ...], desired: int
) -> None:
    decision, _ = steered(made, machines=machines)
    assert decision.desired == desired


def test_beside_other_work_the_fleet_is_as_large_as_without_deadlines() -> None:
    relaxed = goal(1_600, due_in_s=10_000)
    others = (KindLoad("sleep", 1_600, 0, 1.0),)
    both = Observation([*others, relaxed.load], (), LIMITS, boot_s=40.0, idle_s=45.0)
    assert steered(relaxed)[0].desired == 1
    assert steered(relaxed, others=others)[0].desired == decide(by_work, both).desired == 3


def test_the_work_of_earlier_batches_counts_before_a_deadline() -> None:
    early = Goal("b0", 16_000, 0, 1.0, 1.0, due_in_s=5_000)
    late = goal(1_600, due_in_s=600)
    alone, _ = steered(late)
    decision, _ = steered(early, late)
    assert (alone.desired, decision.desired) == (1, 3), "it waits behind 1,000 machine-seconds"


@pytest.mark.parametrize(
    ("usd", "desired"),
    # One machine costs its boot, its work and its end (40 + 100 + 32 s); each other one 72 s more.
    [(1.0, 2), (0.0250, 2), (0.0243, 1), (0.0173, 1), (0.0100, 1), (0.0072, 0), (0.0, 0)],
)
def test_as_few_machines_as_the_money_buys(usd: float, desired: int) -> None:
    decision, risks = steered(goal(1_600, usd_left=usd))
    assert decision.desired == decision.launch == desired
    assert bool(risks) == (usd < 0.0172)
    if risks:
        assert risks["b1"] == (
            "its tasks need about $0.0172 of machines, with their boot and their end, and "
            f"${usd:.3g} of its budget are left"
        )


def test_machines_that_are_no_longer_paid_for_leave_the_emptiest_first() -> None:
    machines = (live("full", busy=16), live("half", busy=8), Machine("boots", BOOTING, 10, 10))
    # A machine that is kept must be paid for 32 s more: until it is gone after the next round.
    decision, _ = steered(goal(8_000, 24, usd_left=0.0040), machines=machines)
    assert (decision.end, decision.retire, decision.launch) == (["boots"], ["half"], 0)
    decision, _ = steered(goal(8_000, 24, usd_left=0.0), machines=machines)
    assert (decision.end, decision.retire, decision.launch) == (["boots"], ["half", "full"], 0)


def test_machines_that_others_need_do_not_leave_when_a_budget_is_spent() -> None:
    machines = tuple(live(f"m{n}", busy=16) for n in range(4))
    others = (KindLoad("sleep", 2_600, 32, 1.0),)
    decision, _ = steered(goal(8_000, 32, usd_left=0.0), others=others, machines=machines)
    without, _ = steered(others=others, machines=machines)
    assert (decision.desired, len(decision.retire)) == (without.desired, 2) == (2, 2)


def test_idle_machines_leave_at_once_when_nothing_waits() -> None:
    machines = (live("works", busy=3), live("idle"))
    assert steered(goal(0, 3, due_in_s=500), machines=machines)[0].retire == ["idle"]
    assert steered(goal(9, 3, due_in_s=500), machines=machines)[0].retire == []
    others = (KindLoad("sleep", 0, 2, 1.0),)
    assert steered(goal(0, 3, due_in_s=500), others=others, machines=machines)[0].retire == []
    assert steered(machines=machines)[0].retire == [], "they wait for what may come, as ever"


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        (goal(16_000, due_in_s=10_000), None),
        (goal(160_000, due_in_s=1_100), None),
        (
            goal(160_000, due_in_s=1_000),
            "11 machines would finish it in the 1000 s until the deadline, and only 10 may run",
        ),
        (
            goal(100, mean_s=5, due_in_s=44),
            "the 44 s until the deadline are too short: a machine boots in 40 s and a task takes "
            "5 s, so no more machines would help",
        ),
        (goal(0, 3, due_in_s=9), None),
        (goal(0, 3, due_in_s=-1), "its last tasks take longer than the 0 s until the deadline"),
        (
            goal(16_000, due_in_s=300, usd_left=0.1200),
            "4 machines would finish it in the 300 s until the deadline, and its budget pays for 2",
        ),
    ],
)
def test_what_cannot_be_met_is_said(made: Goal, reason: str | None) -> None:
    _, risks = steered(made)
    assert risks.get("b1") == reason


def test_launches_that_pause_put_a_deadline_at_risk() -> None:
    _, risks = steered(goal(1_600, due_in_s=300), launch_at_most=0)
    assert risks["b1"].endswith("and only 0 may run")


@pytest.mark.parametrize(
    ("at_most", "left"),
    [
        (math.inf, {"sleep": (60, 12), "other": (7, 0)}),
        (39.5, {"sleep": (30, 6), "other": (3.5, 0)}),
    ],
)
def test_the_tasks_of_others(at_most: float, left: dict[str, tuple[float, float]]) -> None:
    loads = [KindLoad("sleep", 100, 20, 1.0), KindLoad("other", 7, 0), KindLoad("b", 5, 0)]
    found = others_of(loads, {"sleep": 48.0, "b": 9.0}, at_most)
    assert {load.kind: (load.waiting, load.running) for load in found} == {
        name: pytest.approx(each) for name, each in left.items()
    }


@given(
    waiting=st.floats(1, 1e6),
    due_in_s=st.floats(-100, 1e5),
    usd=st.one_of(st.just(math.inf), st.floats(-1, 10)),
    here=st.integers(0, 10),
)
def test_never_beyond_the_limit_nor_the_money(
    waiting: float, due_in_s: float, usd: float, here: int
) -> None:
    machines = tuple(live(f"m{n}", busy=1) for n in range(here))
    decision, _ = steered(goal(waiting, due_in_s=due_in_s, usd_left=usd), machines=machines)
    assert 0 <= decision.launch <= 10 - here
    staying = here - len(decision.retire)
    assert staying * 32.0 * PRICE / 3600 <= max(0.0, usd) + 1e-9
    assert not (decision.launch and decision.retire), "none leaves while another comes"


def test_without_goals_the_decision_is_that_of_the_policy() -> None:
    seen = Observation(
        [KindLoad("sleep", 5_000, 3, 2.0)], (live("a"),), LIMITS, boot_s=40.0, idle_s=45.0
    )
    assert steer(by_work, seen, [], seen.loads, REACTION) == (decide(by_work, seen), {})
