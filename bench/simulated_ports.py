"""The provisioner's ports on the simulated fleet, so that the simulation runs the project's own
`Provisioner`. Owns what a reading of the simulation shows; the events belong to
`bench.simulation`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from bench.simulation import BEAT_S, SLOTS, Node, Simulation
from taskfleet.memory import MemoryFleetRecords
from taskfleet.pace import Pace
from taskfleet.ports import Clock, QueueDepth, TaskMonitor, TaskQueue
from taskfleet.provisioner.ports import Fleet
from taskfleet.provisioner.reconcile import ProvisionerPorts
from taskfleet.provisioner.records import (
    Demand,
    Instance,
    InstanceState,
    KindDemand,
    Launch,
    Shortage,
    WorkerRecord,
)

KIND = "task"
"""Kind of every simulated task. It says nothing of durations, so they must be learned."""


class SimulatedWorld:
    """Queue, learned paces, clock and fleet of one simulation. A task is a message of its own.
    Worker records are `BEAT_S` old, as they may be."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim

    def now(self) -> float:
        return self._sim.now

    def depth(self) -> QueueDepth:
        return QueueDepth(self._sim.waiting_seen, self._sim.running)

    def paces(self, _kinds: Sequence[str]) -> dict[str, Pace]:
        sim = self._sim
        return {KIND: Pace(sim.done, sim.finished_s / sim.done)} if sim.done else {}

    def launch(self, count: int, *, token: str) -> Launch:  # noqa: ARG002 - the port has it
        came = self._sim.launch(count)
        ids = [str(number) for number in list(self._sim.nodes)[-came:]] if came else []
        return Launch(ids, Shortage.NO_CAPACITY if came < count else None)

    def instances(self) -> list[Instance]:
        return [
            Instance(
                str(node.number),
                InstanceState.PENDING if node.live_at is None else InstanceState.RUNNING,
                node.launched_at,
                "simulated",
                marked_at=node.marked_at,
            )
            for node in self._sim.nodes.values()
        ]

    def mark(self, instance_ids: Sequence[str], at: float) -> None:
        for name in instance_ids:
            self._sim.nodes[int(name)].marked_at = at

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for name in instance_ids:
            self._sim.end(self._sim.nodes[int(name)])


class SimulatedRecords(MemoryFleetRecords):
    """`FleetRecords` whose demand and workers are those of the simulation."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__()
        self._sim = sim

    def demand(self) -> Demand:
        sim = self._sim
        kinds = {KIND: KindDemand(sim.arrived)} if sim.arrived else {}
        return Demand(sim.batches, sim.arrived, kinds)

    def workers(self) -> list[WorkerRecord]:
        reported_at = self._sim.now - BEAT_S
        return [
            _record(node, node.live_at, reported_at)
            for node in self._sim.nodes.values()
            if node.live_at is not None
        ]

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        for name in worker_ids:
            self._sim.retire(self._sim.nodes[int(name)])


def _record(node: Node, live_at: float, reported_at: float) -> WorkerRecord:
    return WorkerRecord(
        str(node.number),
        str(node.number),
        SLOTS,
        [KIND],
        live_at,
        max(live_at, reported_at),
        running={KIND: len(node.running)} if node.running else {},
        bundles=node.started,
        finds_queue_empty=node.free > 0 and not node.leaving,
        leaving=node.leaving,
    )


def ports(sim: Simulation) -> ProvisionerPorts:
    """The ports of one simulation; only what the provisioner uses of each is there."""
    world: Any = SimulatedWorld(sim)
    return ProvisionerPorts(
        tasks=cast(TaskQueue, world),
        monitor=cast(TaskMonitor, world),
        records=SimulatedRecords(sim),
        fleet=cast(Fleet, world),
        clock=cast(Clock, world),
    )
