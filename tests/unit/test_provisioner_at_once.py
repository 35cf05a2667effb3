"""Two rounds of the provisioner at once: nothing but conditional writes and the tokens of launches
keeps them apart, since Lambda may run two ticks at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from taskfleet.memory import (
    ManualClock,
    MemoryFleet,
    MemoryFleetRecords,
    MemoryMonitor,
    MemoryQueue,
)
from taskfleet.ports import OutgoingMessage
from taskfleet.provisioner.reconcile import Provisioner, ProvisionerPorts
from taskfleet.provisioner.records import Demand, KindDemand
from taskfleet.settings import Settings

CONF = Settings(max_capacity=3, bucket="b")
CALLS = 12
"""Calls of ports in a round that launches, at most."""


class Watched:
    """A port that tells each call before it is made."""

    def __init__(self, port: Any, told: Callable[[], None]) -> None:
        self._port = port
        self._told = told

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def call(*arguments: Any, **more: Any) -> Any:
            self._told()
            return method(*arguments, **more)

        return call


def provisioner(ports: ProvisionerPorts, told: Callable[[], None] = lambda: None) -> Provisioner:
    clock = ports.clock
    return Provisioner(
        ProvisionerPorts(
            Watched(ports.tasks, told),  # type: ignore[arg-type]
            Watched(ports.monitor, told),  # type: ignore[arg-type]
            Watched(ports.records, told),  # type: ignore[arg-type]
            Watched(ports.fleet, told),  # type: ignore[arg-type]
            clock,
        ),
        CONF,
    )


@pytest.fixture
def ports() -> ProvisionerPorts:
    """An empty fleet and work for far more machines than may be."""
    clock = ManualClock()
    queue, records = MemoryQueue(clock), MemoryFleetRecords()
    records.add_demand(Demand(1, 5_000, {"sleep": KindDemand(5_000, 5_000, 5_000 * 60.0)}))
    queue.send([OutgoingMessage("x")] * 100)
    return ProvisionerPorts(queue, MemoryMonitor(clock), records, MemoryFleet(clock), clock)


@pytest.mark.parametrize("at", range(CALLS))
def test_a_second_tick_at_any_call_of_the_first_launches_nothing_more(
    ports: ProvisionerPorts, at: int
) -> None:
    calls = 0

    def meanwhile() -> None:
        nonlocal calls
        calls += 1
        if calls == at + 1:
            provisioner(ports).round()

    provisioner(ports, meanwhile).round()
    assert len(ports.fleet.instances()) == CONF.max_capacity
    # Neither is in the way of the rounds after.
    provisioner(ports).round()
    assert len(ports.fleet.instances()) == CONF.max_capacity


def test_every_call_of_a_round_was_tried(ports: ProvisionerPorts) -> None:
    calls = 0

    def count() -> None:
        nonlocal calls
        calls += 1

    provisioner(ports, count).round()
    assert calls <= CALLS
