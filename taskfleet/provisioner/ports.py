"""What the provisioner needs of the world, as Protocols: `Fleet`, `FleetRecords`, `Nudge`. Owns the
promises, by the rules of `taskfleet.ports`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from taskfleet.provisioner.records import Demand, FleetState, Instance, Launch, WorkerRecord


class Fleet(Protocol):
    """The machines of this stage, and no others."""

    def launch(self, count: int, *, token: str) -> Launch:
        """Ask for `count` machines; fewer may come, and the outcome says why. The same token with
        the same count is the same launch, however often it is asked for."""
        ...

    def instances(self) -> list[Instance]:
        """All that are not gone. A machine launched within the last seconds may be missing."""
        ...

    def mark(self, instance_ids: Sequence[str], at: float) -> None:
        """Note the first strike on the machines themselves."""
        ...

    def terminate(self, instance_ids: Sequence[str]) -> None:
        """End machines; one that is gone already is none of its business."""
        ...


class FleetRecords(Protocol):
    """What the API, the workers and the provisioner tell each other, in the table
    `Task_Monitor`."""

    def add_demand(self, more: Demand) -> int | None:
        """Add to the totals. Returns the machines that the provisioner last saw, None when it
        never looked."""
        ...

    def demand(self) -> Demand: ...

    def note_machines(self, count: int, slots: int) -> None:
        """What `add_demand` and `slots` return from now on."""
        ...

    def slots(self) -> int | None:
        """Those that the provisioner last saw, on machines and static workers that are there to
        stay or on their way; None when it never looked."""
        ...

    def beat(self, worker: WorkerRecord) -> bool:
        """Record the worker; whether it was asked to leave."""
        ...

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        """An id that is not known is passed over."""
        ...

    def sign_off(self, worker_id: str) -> None:
        """The worker ends: it is listed no more."""
        ...

    def workers(self) -> list[WorkerRecord]:
        """All that have not signed off, dead ones of the last day among them."""
        ...

    def state(self) -> FleetState:
        """What the provisioner last recorded; a blank state of revision 0 when it never did."""
        ...

    def save_state(self, state: FleetState) -> bool:
        """Record `state` if what stands there has its revision; it then has the next one. False,
        with nothing changed, when somebody else was first."""
        ...


class Nudge(Protocol):
    """Calls the provisioner without waiting for it."""

    def nudge(self) -> None: ...
