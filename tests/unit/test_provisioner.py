"""The provisioner under faults, on a virtual clock: it never exceeds its limits, always converges
and gives its reasons."""

from __future__ import annotations

import contextlib
import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.errors import PermanentError, TaskfleetError, TransientError
from taskfleet.memory import (
    ManualClock,
    MemoryFleet,
    MemoryFleetRecords,
    MemoryMonitor,
    MemoryQueue,
)
from taskfleet.ports import OutgoingMessage, QueueDepth
from taskfleet.provisioner.ports import ProvisionerPorts
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.provisioner.records import Demand, KindDemand, Noted, Shortage, WorkerRecord
from taskfleet.provisioner.view import FleetViews
from taskfleet.settings import Settings
from tests.support.worker import Faulty

CONF = Settings(max_capacity=5, bucket="b")


@dataclass
class World:
    """A fleet whose workers boot after `boot_s`, report, take a message every 4 s for each slot,
    and end when idle. `broken` are machines whose workers never report."""

    conf: Settings = CONF
    boot_s: float = 30.0
    clock: ManualClock = field(default_factory=ManualClock)
    broken: set[str] = field(default_factory=set)
    break_rate: float = 0.0
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    peak: int = 0
    idle_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.queue = MemoryQueue(self.clock)
        self.monitor = MemoryMonitor(self.clock)
        self.records = MemoryFleetRecords()
        self.fleet = MemoryFleet(self.clock)
        self.provisioner = self.new_provisioner()

    def new_provisioner(self, **others: Any) -> Provisioner:
        ports = {
            "tasks": self.queue,
            "monitor": self.monitor,
            "records": self.records,
            "fleet": self.fleet,
            "clock": self.clock,
        }
        return Provisioner(ProvisionerPorts(**(ports | others)), self.conf)

    def submit(self, messages: int, seconds_each: float = 4.0, kind: str = "sleep") -> None:
        known = KindDemand(messages, messages, messages * seconds_each)
        self.records.add_demand(Demand(1, messages, {kind: known}))
        self.queue.send([OutgoingMessage("x")] * messages)

    def why(self) -> str | None:
        return FleetViews(self.queue, self.records, self.clock, self.conf).view().why

    def live(self) -> int:
        return len(self.fleet.instances())

    def run(self, seconds: float, provisioner: Provisioner | None = None) -> None:
        """Make a round every 15 s; workers work in between."""
        until = self.clock.now() + seconds
        while self.clock.now() < until:
            with contextlib.suppress(TransientError):
                (provisioner or self.provisioner).round()
            self.peak = max(self.peak, self.live())
            self.clock.sleep(15.0)
            self._work()

    def _work(self) -> None:
        now = self.clock.now()
        for machine in self.fleet.instances():
            name = machine.instance_id
            if name not in self.idle_at:
                self.idle_at[name] = now
                if self.rng.random() < self.break_rate:
                    self.broken.add(name)
            if name in self.broken or now - machine.launched_at < self.boot_s:
                continue
            taken = 0
            while taken < 60 and (got := self.queue.receive(10, wait_s=0, visibility_s=600)):
                self.queue.delete(got)
                taken += len(got)
            known = [w for w in self.records.workers() if w.instance_id == name]
            worker = WorkerRecord(
                f"w-{name}", name, 16, ["sleep"], machine.launched_at + self.boot_s, now
            )
            worker = replace(
                worker,
                bundles=(known[0].bundles if known else 0) + taken,
                running={"sleep": min(taken, 16)} if taken else {},
                finds_queue_empty=not taken,
            )
            leave = self.records.report(worker)
            if taken:
                self.idle_at[name] = now
            elif leave or now - self.idle_at[name] >= max(45.0, self.boot_s):
                self.records.sign_off(replace(worker, leaving=True, signed_off=True))
                self.fleet.terminate([name])


def test_the_fleet_grows_with_the_backlog_and_shrinks_to_nothing() -> None:
    world = World()
    world.provisioner.round()
    assert world.live() == 0
    world.submit(2_000)
    world.run(600)
    assert 2 <= world.peak <= 5
    assert world.live() == 0
    assert world.queue.depth() == QueueDepth(0, 0)
    view = FleetViews(world.queue, world.records, world.clock, world.conf).view()
    assert view.why is None
    assert view.cost_usd > 0
    assert view.usd_per_hour == 0
    assert any(decision.launched for decision in view.decisions)
    assert "nothing waits" in view.decisions[0].reason


def test_a_worker_that_ends_between_two_rounds_leaves_no_work_and_no_machine_behind() -> None:
    world = World()
    world.provisioner.round()
    world.submit(20)
    world.provisioner.round()
    (machine,) = world.fleet.instances()
    world.clock.sleep(1.0)
    while got := world.queue.receive(10, wait_s=0, visibility_s=600):
        world.queue.delete(got)
    now = world.clock.now()
    worker = WorkerRecord("w-1", machine.instance_id, 16, ["sleep"], now, now)
    world.records.sign_off(replace(worker, bundles=20, leaving=True, signed_off=True))
    world.fleet.terminate([machine.instance_id])
    world.clock.sleep(1.0)
    state = world.provisioner.round()
    assert state is not None
    assert (state.machines, state.wanted) == (1, 0), "EC2 may list it late"
    assert "nothing waits and nothing runs" in state.decisions[-1].reason
    assert world.fleet.launches == 1
    world.clock.sleep(60.0)
    state = world.provisioner.round()
    assert state is not None
    assert (state.machines, state.boot_failures.count) == (0, 0)
    assert world.records.workers() == [], "there is no more to learn from its report"
    assert world.provisioner.round() == state, "the stage is idle"


def test_a_worker_that_signed_off_is_remembered_while_its_machine_is_there() -> None:
    world = World()
    world.submit(20)
    world.provisioner.round()
    (machine,) = world.fleet.instances()
    now = world.clock.now()
    worker = WorkerRecord("w-1", machine.instance_id, 16, ["sleep"], now, now)
    world.records.sign_off(replace(worker, leaving=True, signed_off=True))
    for _ in range(2):
        world.provisioner.round()
        assert world.records.workers(), "else its machine would count as one that boots"
        world.clock.sleep(15.0)
    world.fleet.terminate([machine.instance_id])
    world.provisioner.round()
    assert world.records.workers() == []


def noted_slots(world: World) -> int:
    noted = world.records.noted()
    assert noted is not None
    return noted.slots


def test_the_slots_that_bundles_are_cut_for_follow_the_fleet() -> None:
    world = World()
    static = WorkerRecord("w-static", None, 8, ["sleep"], world.clock.now(), world.clock.now())
    world.provisioner.round()
    assert noted_slots(world) == 0
    world.records.report(static)
    world.provisioner.round()
    assert noted_slots(world) == 8
    world.submit(2_000)
    world.provisioner.round()
    booting = world.live()
    assert booting >= 2
    assert noted_slots(world) == 8 + 16 * booting, "booting machines count"
    world.run(30)
    name = world.fleet.instances()[0].instance_id
    (worker,) = (w for w in world.records.workers() if w.instance_id == name)
    before = noted_slots(world)
    world.records.report(replace(worker, leaving=True, running={}))
    world.provisioner.round()
    assert noted_slots(world) == before - 16
    world.run(900)
    assert noted_slots(world) == 0


def test_the_note_follows_the_work_and_is_seldom_written() -> None:
    world = World()
    notes: list[Noted] = []

    class Noting(MemoryFleetRecords):
        def note(self, noted: Noted) -> None:
            notes.append(noted)
            super().note(noted)

    world.records = Noting()
    world.provisioner = world.new_provisioner()
    world.submit(2_000)
    world.run(1_200)
    assert max(noted.ahead_s for noted in notes) > 1_000
    assert (notes[-1].machines, notes[-1].ready, notes[-1].ahead_s) == (0, 0, 0.0)
    rounds = 1_200 / world.conf.look_s
    assert len(notes) < rounds / 2


def test_a_batch_is_seen_through_the_demand_while_the_queues_count_is_stale() -> None:
    world = World()
    stale = Faulty(world.queue, lambda name: None)
    stale.depth = lambda: QueueDepth(0, 0)
    world.provisioner = world.new_provisioner(tasks=stale)
    world.provisioner.round()
    world.clock.sleep(30)
    world.submit(300)
    world.provisioner.round()
    assert world.live() == 1


def test_a_count_that_still_shows_what_is_gone_launches_nothing() -> None:
    world = World()
    world.submit(100)
    world.run(60)
    stale = Faulty(world.queue, lambda name: None)
    stale.depth = lambda: QueueDepth(5_000, 0)
    before = world.fleet.launches
    late = world.new_provisioner(tasks=stale)
    world.run(30, late)
    assert world.fleet.launches == before


def test_a_tick_that_fires_twice_launches_once() -> None:
    world = World()
    world.submit(900)
    world.provisioner.round()
    world.new_provisioner().round()
    world.provisioner.round()
    assert world.fleet.launches == 1


def test_of_two_rounds_at_once_one_does_nothing() -> None:
    world = World()
    world.submit(100_000)
    other = world.new_provisioner()
    overtaken = Faulty(world.fleet, lambda name: None)

    def instances() -> Any:
        overtaken.instances = world.fleet.instances
        assert other.round() is not None  # In the middle of the slower round.
        return []

    overtaken.instances = instances
    assert world.new_provisioner(fleet=overtaken).round() is None
    assert world.live() == 5
    assert world.fleet.launches == 1


def test_a_launch_whose_reply_is_lost_happens_once() -> None:
    world = World()
    world.submit(100_000)
    lost = {"launch": 2}

    def fault(name: str) -> str | None:
        if lost.get(name, 0):
            lost[name] -= 1
            return "after"
        return None

    # EC2 also lists new machines late.
    unlisted = Faulty(world.fleet, fault)
    unlisted.instances = list
    blind = world.new_provisioner(fleet=unlisted)
    blind.round()
    assert world.why() is not None
    assert "EC2 does not answer" in (world.why() or "")
    world.clock.sleep(5)
    blind.round()
    world.clock.sleep(5)
    blind.round()
    assert (world.live(), world.fleet.launches) == (5, 1)
    world.run(900)
    assert world.peak == 5


def test_machines_that_ec2_does_not_list_yet_are_counted() -> None:
    world = World()
    world.submit(100_000)
    unlisted = Faulty(world.fleet, lambda name: None)
    unlisted.instances = list
    blind = world.new_provisioner(fleet=unlisted)
    for _ in range(3):
        state = blind.round()
        assert state is not None
        assert (state.machines, state.boot_failures.count) == (5, 0)
        world.clock.sleep(15)
    assert world.live() == 5


@pytest.mark.parametrize(
    ("shortage", "words"),
    [(Shortage.NO_CAPACITY, "EC2 has no capacity"), (Shortage.QUOTA, "a quota of the account")],
)
def test_without_capacity_it_backs_off_says_so_and_recovers(shortage: Shortage, words: str) -> None:
    world = World()
    world.fleet.capacity, world.fleet.shortage = 0, shortage
    world.submit(2_000)
    world.run(600)
    assert world.live() == 0
    assert 3 <= world.fleet.launches < 25, "it backs off"
    assert words in (world.why() or "")
    world.fleet.capacity = 1
    world.run(320)
    assert world.peak == 1, "it launches the part that EC2 has"
    world.fleet.capacity = 100
    world.run(1_500)
    assert world.queue.depth().backlog == 0
    assert world.live() == 0


def test_a_launch_that_ec2_refuses_is_reported_and_tried_again() -> None:
    world = World()
    world.submit(10)
    refusing = Faulty(world.fleet, lambda name: None)

    def launch(count: int, *, token: str) -> Any:
        raise PermanentError("could not launch from template taskfleet-dev: there is none")

    refusing.launch = launch
    world.new_provisioner(fleet=refusing).round()
    assert "EC2 refuses to launch (could not launch from template" in (world.why() or "")
    world.clock.sleep(60)
    world.provisioner.round()
    assert world.live() == 1


def test_it_converges_within_the_limit_when_a_fifth_of_the_boots_fail() -> None:
    world = World(break_rate=0.2, rng=random.Random(5))
    for _ in range(4):
        world.submit(1_500)
        world.run(900)
        assert world.queue.depth().backlog == 0
    assert world.broken, "no machine was broken, so the test shows nothing"
    world.run(600)
    assert world.live() == 0
    assert world.peak <= 5


def test_a_machine_that_never_reports_is_shown_then_ended_and_replaced() -> None:
    world = World(conf=replace(CONF, max_capacity=1), break_rate=1.0)
    world.submit(5)
    world.run(180)
    assert "1 machines are booting, the first since" in (world.why() or "")
    (first,) = world.fleet.instances()
    world.run(30)
    assert "booted, but their workers never reported" in (world.why() or "")
    assert world.fleet.instances()[0].marked_at is not None, "one strike"
    world.break_rate = 0.0
    world.run(300)
    assert first.instance_id not in {m.instance_id for m in world.fleet.instances()}
    assert world.queue.depth().backlog == 0


def test_an_instance_that_somebody_ends_by_hand_is_replaced() -> None:
    world = World()
    world.submit(2_000)
    world.run(60)
    world.fleet.terminate([world.fleet.instances()[0].instance_id])
    world.run(900)
    assert world.queue.depth().backlog == 0
    assert world.live() == 0
    assert world.peak <= 5


def test_while_the_table_fails_nothing_is_launched_or_ended_and_the_fleet_view_says_why() -> None:
    world = World()
    world.submit(2_000)
    world.run(60)
    machines = world.fleet.instances()
    deaf = Faulty(world.records, lambda name: "before")
    blind = world.new_provisioner(records=deaf)
    world.run(400, blind)
    assert {m.instance_id for m in world.fleet.instances()} <= {m.instance_id for m in machines}
    with pytest.raises(TaskfleetError):
        blind.round()
    world.queue.send([OutgoingMessage("x")])
    view = FleetViews(world.queue, deaf, world.clock, world.conf).view()
    assert "the records cannot be read" in (view.why or "")
    world.run(600)
    assert world.queue.depth().backlog == 0


def test_the_budget_is_a_limit_like_any_other() -> None:
    conf = replace(CONF, max_capacity=100, instance_usd_per_hour=0.1, max_usd_per_hour=0.35)
    world = World(conf=conf)
    world.submit(100_000)
    world.run(600)
    assert world.peak == 3
    state = world.records.state()
    assert "the budget of $0.35 an hour pays for 3" in state.decisions[-1].reason
    assert state.usd_per_hour == pytest.approx(0.3)


def test_250_machines_are_all_counted() -> None:
    world = World(conf=replace(CONF, max_capacity=250), boot_s=1_000)
    world.submit(100_000)
    world.run(120)
    assert world.peak == 250


def test_random_faults_never_break_a_limit_and_never_stop_it_for_good() -> None:
    # In one of a thousand such runs every report of machines that work is lost to faults, so that
    # launches pause for longer than this lasts.
    for seed in range(8, 16):
        rng = random.Random(seed)
        world = World(break_rate=0.1, rng=random.Random(seed))

        def fault(name: str, rng: random.Random = rng) -> str | None:
            draw = rng.random()
            return "before" if draw < 0.1 else "after" if draw < 0.2 else None

        flaky = world.new_provisioner(
            records=Faulty(world.records, fault),
            fleet=Faulty(world.fleet, fault),
            tasks=Faulty(world.queue, fault),
        )
        for _ in range(3):
            world.submit(rng.randrange(1, 3_000))
            world.run(300, flaky)
        world.run(1_800, flaky)
        assert world.peak <= 5, seed
        assert world.queue.depth().backlog == 0, seed
        assert world.live() == 0, seed


def test_run_makes_rounds_while_there_is_work_or_a_machine_and_then_ends() -> None:
    world = World()
    started = world.clock.now()
    world.provisioner.run(lambda: started + 50 - world.clock.now())
    assert world.clock.now() == started, "one round, so that a nudge can start a run"
    world.submit(2_000)
    world.provisioner.run(lambda: started + 50 - world.clock.now())
    assert world.clock.now() == pytest.approx(started + 45, abs=1)


def test_a_batch_that_arrives_between_two_rounds_starts_the_next_early() -> None:
    world = World()
    world.submit(10)
    launched_at: list[float] = []
    started = world.clock.now()
    slept = world.clock.sleep

    def sleep(seconds: float) -> None:
        slept(seconds)
        if world.clock.now() - started == 3.0:
            world.submit(3_000)

    world.clock.sleep = sleep  # type: ignore[method-assign]
    launch = world.fleet.launch

    def noted(count: int, *, token: str) -> Any:
        launched_at.append(world.clock.now() - started)
        return launch(count, token=token)

    world.fleet.launch = noted  # type: ignore[method-assign]
    world.provisioner.run(lambda: started + 20 - world.clock.now())
    assert launched_at == [0.0, 3.0]


def test_an_idle_stage_writes_nothing_but_a_sign_of_life() -> None:
    world = World()
    writes: list[float] = []

    calls: list[str] = []

    class Counted:
        def __init__(self, port: Any) -> None:
            self._port = port

        def __getattr__(self, name: str) -> Any:
            calls.append(name)
            if name in ("save_state", "note"):
                writes.append(world.clock.now())
            return getattr(self._port, name)

    ports = {"records": world.records, "tasks": world.queue, "fleet": world.fleet}
    provisioner = world.new_provisioner(**{name: Counted(port) for name, port in ports.items()})
    began = world.clock.now()
    for minute in range(60):
        world.clock.set(began + 60 * minute)
        provisioner.run(lambda: 50.0)
    assert [(at - began) / 60 for at in writes] == [0, 0, 30]
    assert world.records.state().last_round_at == began + 1_800
    assert calls[-4:] == ["state", "depth", "demand", "workers"], (
        "what a round of an idle stage reads"
    )
    assert len(calls) <= 60 * 4 + 3 * 3


def test_work_ends_the_idle_time_at_once_and_a_dead_schedule_is_told_of() -> None:
    world = World()
    for _ in range(5):
        world.provisioner.run(lambda: 50.0)
        world.clock.sleep(60)
    world.submit(100)
    assert "within a minute" in (world.why() or "")
    world.clock.sleep(1_800)
    assert "has not run for 2100 s" in (world.why() or "")
    world.provisioner.round()
    assert world.live() > 0
    assert world.records.state().last_round_at == world.clock.now()
