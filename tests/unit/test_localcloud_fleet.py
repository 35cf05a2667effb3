"""Instances and worker processes start and end together. Lambda's Invoke reaches the schedule."""

from __future__ import annotations

import threading
import time
from typing import Any

from localcloud.fleet import LocalFleet
from localcloud.schedule_source import ScheduleSource
from taskfleet.memory import ManualClock, MemoryFleet


class FakeProcess:
    """A worker process that runs until `code` is set. `told` counts the requests to end."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.code: int | None = None
        self.told = 0
        self.killed = False

    def poll(self) -> int | None:
        return self.code

    def terminate(self) -> None:
        self.told += 1


class World:
    """A local fleet over instances in memory and fake processes."""

    def __init__(self, boot_s: float = 0.0) -> None:
        self.ec2 = MemoryFleet(ManualClock())
        self.started: dict[str, FakeProcess] = {}
        self.local = LocalFleet(self.ec2, self.start, self.kill, boot_s=boot_s, patience_s=5.0)

    def start(self, instance_id: str) -> FakeProcess:
        assert instance_id not in self.started
        self.started[instance_id] = FakeProcess(len(self.started))
        return self.started[instance_id]

    def kill(self, process: Any) -> None:
        process.killed = True
        process.code = -9 if process.code is None else process.code


def test_each_instance_gets_one_worker_once_it_has_booted() -> None:
    world = World(boot_s=2.0)
    names = world.ec2.launch(2, token="a").instance_ids
    world.local.step(0.0)
    world.local.step(1.9)
    assert world.started == {}
    world.local.step(2.0)
    world.local.step(3.0)
    assert set(world.started) == set(names)


def test_an_instance_ends_with_its_worker_and_all_that_it_started() -> None:
    world = World()
    (name,) = world.ec2.launch(1, token="a").instance_ids
    world.local.step(0.0)
    world.started[name].code = 0
    world.local.step(1.0)
    assert world.ec2.instances() == []
    assert world.started[name].killed, "processes that the worker started end, too"
    world.local.step(2.0)
    assert len(world.started) == 1


def test_a_worker_drains_when_its_instance_ends_and_is_killed_when_late() -> None:
    world = World()
    first, second = world.ec2.launch(2, token="a").instance_ids
    world.local.step(0.0)
    world.ec2.terminate([first, second])
    world.local.step(1.0)
    world.started[second].code = 0
    world.local.step(3.0)
    assert (world.started[first].told, world.started[first].killed) == (1, False)
    world.local.step(6.0)
    assert world.started[first].killed
    assert world.started[second].told == 1


def test_an_instance_that_is_ended_while_it_boots_gets_no_worker() -> None:
    world = World(boot_s=5.0)
    names = world.ec2.launch(1, token="a").instance_ids
    world.local.step(0.0)
    world.ec2.terminate(names)
    world.local.step(1.0)
    world.local.step(9.0)
    assert world.started == {}


def test_closing_stops_every_worker() -> None:
    world = World()
    names = world.ec2.launch(2, token="a").instance_ids
    world.local.step(0.0)
    for name in names:
        world.started[name].code = 0
    world.local.close()
    assert all(process.killed for process in world.started.values())


def test_invocations_during_a_call_make_one_call_after_it() -> None:
    entered, go_on, calls = threading.Event(), threading.Event(), []

    def handler(_event: Any, _context: Any) -> None:
        calls.append(time.monotonic())
        entered.set()
        assert go_on.wait(5)

    source = ScheduleSource("tick", 60.0, handler, "us-east-1")
    first = threading.Thread(target=source.call, args=(0.0,))
    first.start()
    assert entered.wait(5)
    others = [threading.Thread(target=source.invoke, args=({},)) for _ in range(3)]
    for thread in others:
        thread.start()
    time.sleep(0.05)
    assert len(calls) == 1
    go_on.set()
    for thread in (first, *others):
        thread.join(5)
    assert len(calls) == 2
