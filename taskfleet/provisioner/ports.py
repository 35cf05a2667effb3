"""What the provisioner needs of the world, as Protocols: `Fleet`, `FleetRecords`, `Nudge`; with the
other ports it works on, `ProvisionerPorts`. Owns the promises, by the rules of `taskfleet.ports`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from taskfleet.ports import Clock, TaskMonitor, TaskQueue
from taskfleet.provisioner.points import Point
from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    Instance,
    KindDemand,
    Launch,
    Noted,
    WorkerRecord,
)


class Fleet(Protocol):
    """The machines of this stage, and no others."""

    def launch(self, count: int, *, token: str) -> Launch:
        """Ask for `count` machines. Fewer may come; the outcome says why. The same token with the
        same count is the same launch, however often it is asked for."""
        ...

    def instances(self) -> list[Instance]:
        """All machines that are not gone. One launched within the last seconds may be missing."""
        ...

    def mark(self, instance_ids: Sequence[str], at: float) -> None:
        """Note the first strike on the machines themselves."""
        ...

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End the machines. IDs already gone are ignored."""
        ...

    def boot_step(self, instance_id: str) -> str:
        """The last step of its boot that the machine told; empty when it told none."""
        ...


class FleetRecords(Protocol):
    """What the API, the workers and the provisioner tell each other, in the table
    `Task_Monitor`."""

    def add_demand(self, more: Demand) -> Noted | None:
        """Add to the totals. Returns what `noted` does."""
        ...

    def demand(self) -> Demand:
        """The totals."""
        ...

    def watch(self, batch_id: str, kinds: Mapping[str, KindDemand]) -> None:
        """Ask the provisioner to watch a batch, which has a deadline or a budget: `kinds` of its
        tasks join the queue, by the name of their pace. They are added to those of earlier calls,
        and again if the call is repeated."""
        ...

    def watched(self) -> dict[str, dict[str, KindDemand]]:
        """The batches to watch, by id, with their tasks."""
        ...

    def unwatch(self, batch_id: str) -> None:
        """Take a batch off the list. An unknown one is ignored."""
        ...

    def note(self, noted: Noted) -> None:
        """Record what `add_demand` and `noted` return from now on."""
        ...

    def noted(self) -> Noted | None:
        """The fleet as the provisioner last noted it; None when it has never run."""
        ...

    def report(self, worker: WorkerRecord) -> bool:
        """Record a worker. Returns whether it was asked to leave."""
        ...

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        """Ask the workers to drain. Unknown IDs are ignored."""
        ...

    def sign_off(self, worker: WorkerRecord) -> None:
        """Record the last report of a worker that ends. Later reports of it are ignored."""
        ...

    def workers(self) -> list[WorkerRecord]:
        """The last report of each worker that is not forgotten. Those that died within the last day
        are among them."""
        ...

    def forget(self, worker_ids: Sequence[str]) -> None:
        """Take workers that have signed off off the list. Other ids are ignored."""
        ...

    def add_point(self, point: Point) -> None:
        """Add a point to the history. Adding it again changes nothing. Points are kept for a
        day."""
        ...

    def points(self, since: float) -> list[Point]:
        """The points of the history since a time at most a day ago, oldest first."""
        ...

    def state(self) -> FleetState:
        """What the provisioner last recorded; a blank state of revision 0 when it has never
        run."""
        ...

    def save_state(self, state: FleetState) -> bool:
        """Record `state` with the next revision, if the recorded state still has its revision.
        Returns False, with nothing changed, when another writer was first."""
        ...


class Nudge(Protocol):
    """Calls the provisioner without waiting for it."""

    def nudge(self) -> None:
        """Ask for a round now."""
        ...


@dataclass(frozen=True)
class ProvisionerPorts:
    """The ports that the provisioner works on. `high` is the queue of high priority; None where
    there is none."""

    tasks: TaskQueue
    monitor: TaskMonitor
    records: FleetRecords
    fleet: Fleet
    clock: Clock
    high: TaskQueue | None = None
