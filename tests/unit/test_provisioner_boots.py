"""Machines whose worker never reports: launches pause and probe; and a machine's longest life."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from taskfleet.provisioner.boots import failures_after, launch_at_most, probe_at
from taskfleet.provisioner.policy import (
    LAST_GRACE_S,
    FleetLimits,
    Machine,
    MachineState,
    Observation,
    by_work,
    decide,
)
from taskfleet.provisioner.records import BootFailures, FleetState
from tests.support.worker import Faulty
from tests.unit.test_provisioner import CONF, World

HOUR_S = 3_600.0
NOW = 100_000.0
BOOTING, LIVE, LEAVING, ENDING = MachineState


def machines_launched(world: World) -> int:
    """All machines that were ever launched in this world, read without a launch of its own."""
    return max(int(name[2:], 16) for name in world.idle_at)


def test_machines_that_never_report_are_launched_a_few_times_an_hour() -> None:
    world = World(conf=replace(CONF, max_capacity=10), break_rate=1.0)
    world.submit(2_000)
    world.run(6 * HOUR_S)
    launched = machines_launched(world)
    assert launched <= 10 + 6 * 3, f"{launched} launches in 6 h, trouble: {world.why()}"
    assert world.queue.depth().backlog, "the test shows nothing when tasks were taken"
    why = world.why() or ""
    assert "machines in a row ended or grew old before their worker reported" in why
    assert "launches pause, and a try with one machine" in why
    assert "never reported, so launches pause" in world.records.state().decisions[-1].reason


def test_once_boots_work_again_the_next_probe_ends_the_pause() -> None:
    world = World(break_rate=1.0)
    world.submit(2_000)
    world.run(HOUR_S)
    world.break_rate = 0.0
    world.run(HOUR_S)
    assert world.queue.depth().backlog == 0
    failures = world.records.state().boot_failures
    assert (failures.count, failures.probes, failures.awaited) == (0, 0, {})


@pytest.mark.parametrize(
    ("failures", "at_most"),
    [
        (BootFailures(), None),
        (BootFailures(count=3, counted_at=NOW), None),
        (BootFailures(count=4, counted_at=NOW - 299), 0),
        (BootFailures(count=4, counted_at=NOW - 300), 1),
        (BootFailures(count=9, counted_at=NOW - 300), 1),
        (BootFailures(count=5, probes=1, counted_at=NOW - 599), 0),
        (BootFailures(count=5, probes=1, counted_at=NOW - 600), 1),
        (BootFailures(count=30, probes=26, counted_at=NOW - 3_599), 0),
        (BootFailures(count=30, probes=26, counted_at=NOW - 3_600), 1),
        # A probe is under way.
        (BootFailures(count=4, counted_at=NOW - 500, awaited={"p": NOW - 100}), 0),
        # A machine from before the pause is no probe.
        (BootFailures(count=4, counted_at=NOW - 300, awaited={"p": NOW - 301}), 1),
    ],
)
def test_launches_pause_and_probe(failures: BootFailures, at_most: int | None) -> None:
    assert launch_at_most(failures, NOW) == at_most


def after(
    before: BootFailures,
    *machines: Machine,
    reported: tuple[str, ...] = (),
    new_boot_at: float | None = None,
    unlisted: dict[str, float] | None = None,
) -> BootFailures:
    state = FleetState(boot_failures=before, unlisted=unlisted or {})
    return failures_after(state, machines, reported, new_boot_at, 40.0, NOW)


def booting(name: str, age_s: float) -> Machine:
    return Machine(name, BOOTING, age_s, age_s)


def test_a_machine_fails_when_it_ends_or_grows_old_without_a_report_and_is_counted_once() -> None:
    waited = after(BootFailures(), booting("a", 10), booting("b", 170))
    assert waited.awaited == {"a": NOW - 10, "b": NOW - 170}
    assert waited.count == 0
    old = after(waited, booting("a", 25), booting("b", 185))
    assert (old.count, old.newest, set(old.awaited)) == (1, "b", {"a"})
    assert after(old, booting("a", 40), booting("b", 200)) == replace(old, awaited={"a": NOW - 10})
    gone = after(old, booting("b", 200))
    assert (gone.count, gone.newest, gone.awaited) == (2, "a", {})
    ending = after(waited, Machine("a", ENDING, 25), booting("b", 175))
    assert (ending.count, ending.newest) == (1, "a")


def test_a_machine_that_no_listing_ever_showed_fails_once_it_counts_no_more() -> None:
    lost = after(BootFailures(), unlisted={"a": NOW - 70})
    assert (lost.count, lost.newest) == (1, "a")


def test_a_report_ends_the_count() -> None:
    bad = BootFailures(count=6, probes=2, counted_at=NOW - 50, awaited={"a": NOW - 60})
    good = after(bad, Machine("a", LIVE, 60), reported=("a",), new_boot_at=NOW - 60)
    assert good == BootFailures(good_at=NOW - 60)


def test_a_few_of_many_machines_launched_together_are_no_failures_in_a_row() -> None:
    """The good ones report within a minute, the bad ones are counted two minutes later."""
    awaited = {str(n): NOW - 181 for n in range(20)}
    known = BootFailures(awaited=awaited, good_at=NOW - 182)
    assert after(known).count == 0
    assert after(replace(known, good_at=NOW - 400)).count == 20


def test_only_probes_that_fail_lengthen_the_pause() -> None:
    known = BootFailures(count=4, counted_at=NOW - 400, awaited={"old": NOW - 500})
    straggler = after(known)
    assert (straggler.count, straggler.probes) == (5, 0)
    probe = after(replace(known, awaited={"p": NOW - 100}))
    assert (probe.count, probe.probes) == (5, 1)
    assert probe_at(probe) == NOW + 600


def test_why_tells_the_last_step_of_a_boot_that_failed() -> None:
    world = World(break_rate=1.0)
    world.fleet.console = "aws s3 cp s3://bucket/worker/abc.tar.gz"
    world.submit(2_000)
    world.run(HOUR_S)
    assert "the last one's console says: aws s3 cp s3://bucket" in (world.why() or "")


def test_a_console_that_cannot_be_read_stops_nothing() -> None:
    world = World(break_rate=1.0)
    world.submit(2_000)
    deaf = Faulty(world.fleet, lambda name: "before" if name == "boot_step" else None)
    world.run(HOUR_S, world.new_provisioner(fleet=deaf))
    assert "machines in a row ended or grew old" in (world.why() or "")
    assert "console says" not in (world.why() or "")


# --- the longest life of a machine ---


@pytest.mark.parametrize(
    ("machine", "fate"),
    [
        (Machine("m", LIVE, 999.0, 5.0, busy=9), None),
        (Machine("m", LIVE, 1_000.0, 5.0, busy=9), "retire"),
        (Machine("m", LEAVING, 1_000.0, 5.0, busy=9), None),
        (Machine("m", LEAVING, 1_000.0 + LAST_GRACE_S, 5.0, busy=9), "end"),
        (Machine("m", ENDING, 1_000.0 + LAST_GRACE_S), None),
    ],
)
def test_a_machine_that_is_too_old_is_asked_to_leave_and_then_ended(
    machine: Machine, fate: str | None
) -> None:
    limits = FleetLimits(10, 16, max_age_s=1_000.0)
    decision = decide(by_work, Observation([], [machine], limits, boot_s=40.0, idle_s=45.0))
    assert decision.retire == (["m"] if fate == "retire" else [])
    assert decision.end == (["m"] if fate == "end" else [])


def test_no_machine_outlives_the_setting_by_more_than_the_grace_however_busy_it_is() -> None:
    """The workers of this world do not leave while there are tasks, so they are ended at last."""
    world = World(conf=replace(CONF, machine_max_s=1_800.0, max_capacity=1))
    oldest = 0.0
    for _ in range(200):
        world.submit(200)
        world.run(60)
        ages = [world.clock.now() - m.launched_at for m in world.fleet.instances()]
        oldest = max([oldest, *ages])
    assert machines_launched(world) >= 3
    assert 1_800.0 < oldest <= 1_800.0 + LAST_GRACE_S + 60
