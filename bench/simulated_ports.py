"""The ports of the provisioner on a simulated fleet, so that a simulation runs the project's own
`taskfleet.provisioner.reconcile.Provisioner`. Owns what the provisioner reads of a simulation;
`bench.simulation` owns the events.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from bench.nodes import Node
from bench.scenario import SLOTS
from bench.simulation import Simulation
from taskfleet.memory import MemoryFleetRecords
from taskfleet.pace import Pace
from taskfleet.ports import Clock, QueueDepth, TaskMonitor, TaskQueue
from taskfleet.provisioner.ports import Fleet, ProvisionerPorts
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
"""Kind of every simulated task. It gives no hint of durations, so they must be learned."""
REPORT_S = 15.0
"""Age of every worker's record when the provisioner reads it, in seconds: the longest time between
two reports."""


class SimulatedCloud:
    """Queue, learned durations, clock and machines of one simulation. Each task is a message."""

    def __init__(self, sim: Simulation) -> None:
        self._sim = sim

    def now(self) -> float:
        return self._sim.now

    def depth(self) -> QueueDepth:
        return QueueDepth(self._sim.read_backlog(), self._sim.running)

    def paces(self, _kinds: Sequence[str]) -> dict[str, Pace]:
        sim = self._sim
        return {KIND: Pace(sim.done, sim.done_work_s / sim.done)} if sim.done else {}

    def launch(self, count: int, *, token: str) -> Launch:  # noqa: ARG002 - part of the port
        launched = self._sim.launch(count)
        ids = [str(number) for number in list(self._sim.nodes)[-launched:]] if launched else []
        return Launch(ids, Shortage.NO_CAPACITY if launched < count else None)

    def boot_step(self, _instance_id: str) -> str:
        return ""

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
        for instance_id in instance_ids:
            self._sim.nodes[int(instance_id)].marked_at = at

    def terminate(self, instance_ids: Sequence[str]) -> None:
        for instance_id in instance_ids:
            self._sim.end(self._sim.nodes[int(instance_id)])


class SimulatedRecords(MemoryFleetRecords):
    """`FleetRecords` whose demand and workers are those of the simulation. A worker has its
    machine's id."""

    def __init__(self, sim: Simulation) -> None:
        super().__init__()
        self._sim = sim

    def demand(self) -> Demand:
        sim = self._sim
        kinds = {KIND: KindDemand(sim.arrived)} if sim.arrived else {}
        return Demand(sim.batches, sim.arrived, kinds)

    def workers(self) -> list[WorkerRecord]:
        reported_at = self._sim.now - REPORT_S
        return [
            _record(node, node.live_at, max(node.live_at, reported_at))
            for node in self._sim.nodes.values()
            if node.live_at is not None
        ]

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        for worker_id in worker_ids:
            self._sim.retire(self._sim.nodes[int(worker_id)])


def _record(node: Node, started_at: float, reported_at: float) -> WorkerRecord:
    return WorkerRecord(
        str(node.number),
        str(node.number),
        SLOTS,
        [KIND],
        started_at,
        reported_at,
        running={KIND: len(node.running)} if node.running else {},
        bundles=node.started,
        finds_queue_empty=node.free > 0 and not node.leaving,
        leaving=node.leaving,
    )


def ports(sim: Simulation) -> ProvisionerPorts:
    """The ports of one simulation. They have only the methods that the provisioner calls."""
    cloud: Any = SimulatedCloud(sim)
    return ProvisionerPorts(
        tasks=cast(TaskQueue, cloud),
        monitor=cast(TaskMonitor, cloud),
        records=SimulatedRecords(sim),
        fleet=cast(Fleet, cloud),
        clock=cast(Clock, cloud),
    )
