"""`Fleet` and `FleetRecords` in memory. Unlike emulators of EC2, the fleet honours launch tokens
and can run out of capacity."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from taskfleet.errors import PermanentError
from taskfleet.ports import Clock
from taskfleet.provisioner.points import Point
from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    Instance,
    InstanceState,
    KindDemand,
    Launch,
    Noted,
    Shortage,
    WorkerRecord,
)


class MemoryFleet:
    """Implements `taskfleet.provisioner.ports.Fleet`. Machines stay pending until `boot`.

    capacity: most machines at a time; a launch beyond it falls short for the reason `shortage`.
    launches: launches that happened, not counting repeated tokens.
    console: the last step that each machine told of its boot.
    """

    def __init__(self, clock: Clock, *, capacity: int = 1_000_000) -> None:
        self._clock = clock
        self.capacity = capacity
        self.shortage = Shortage.NO_CAPACITY
        self.launches = 0
        self.console = ""
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._machines: dict[str, Instance] = {}
        self._tokens: dict[str, tuple[int, Launch]] = {}

    def launch(self, count: int, *, token: str) -> Launch:
        with self._lock:
            if token in self._tokens:
                first_count, outcome = self._tokens[token]
                if first_count != count:
                    raise PermanentError(
                        f"launch token {token} was used for {first_count} machines, not {count}"
                    )
                return outcome
            granted = max(0, min(count, self.capacity - len(self._machines)))
            ids = [f"i-{next(self._numbers):017x}" for _ in range(granted)]
            for instance_id in ids:
                self._machines[instance_id] = Instance(
                    instance_id, InstanceState.PENDING, self._clock.now(), "memory"
                )
            missing = count - granted
            outcome = Launch(
                ids,
                self.shortage if missing > 0 else None,
                f"{missing} of {count} machines did not come" if missing > 0 else "",
            )
            self.launches += 1
            if ids:  # EC2 forgets the token of a failed launch
                self._tokens[token] = (count, outcome)
            return outcome

    def instances(self) -> list[Instance]:
        with self._lock:
            return list(self._machines.values())

    def mark(self, instance_ids: Sequence[str], at: float) -> None:
        with self._lock:
            for instance_id in instance_ids:
                if instance_id in self._machines:
                    machine = self._machines[instance_id]
                    self._machines[instance_id] = replace(machine, marked_at=at)

    def terminate(self, instance_ids: Sequence[str]) -> None:
        with self._lock:
            for instance_id in instance_ids:
                self._machines.pop(instance_id, None)

    def boot_step(self, instance_id: str) -> str:  # noqa: ARG002 - part of the port
        return self.console

    def boot(self, instance_id: str) -> None:
        """Set the machine's state to running."""
        with self._lock:
            machine = self._machines[instance_id]
            self._machines[instance_id] = replace(machine, state=InstanceState.RUNNING)


class MemoryFleetRecords:
    """Implements `taskfleet.provisioner.ports.FleetRecords`. Safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._demand = Demand()
        self._noted: Noted | None = None
        self._workers: dict[str, WorkerRecord] = {}
        self._asked_to_leave: set[str] = set()
        self._signed_off: set[str] = set()
        self._state = FleetState()
        self._points: set[Point] = set()
        self._watched: dict[str, dict[str, KindDemand]] = {}

    def add_demand(self, more: Demand) -> Noted | None:
        with self._lock:
            self._demand += more
            return self._noted

    def demand(self) -> Demand:
        return self._demand

    def watch(self, batch_id: str, kinds: Mapping[str, KindDemand]) -> None:
        with self._lock:
            had = Demand(kinds=self._watched.get(batch_id, {}))
            self._watched[batch_id] = (had + Demand(kinds=dict(kinds))).kinds
            self._demand += Demand(watched=1)

    def watched(self) -> dict[str, dict[str, KindDemand]]:
        with self._lock:
            return dict(self._watched)

    def unwatch(self, batch_id: str) -> None:
        with self._lock:
            self._watched.pop(batch_id, None)

    def note(self, noted: Noted) -> None:
        self._noted = noted

    def noted(self) -> Noted | None:
        return self._noted

    def report(self, worker: WorkerRecord) -> bool:
        with self._lock:
            if worker.worker_id in self._signed_off:
                return True
            self._workers[worker.worker_id] = worker
            return worker.worker_id in self._asked_to_leave

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        with self._lock:
            self._asked_to_leave |= set(worker_ids) & set(self._workers)

    def sign_off(self, worker: WorkerRecord) -> None:
        with self._lock:
            if worker.worker_id not in self._signed_off:
                self._signed_off.add(worker.worker_id)
                self._workers[worker.worker_id] = worker

    def forget(self, worker_ids: Sequence[str]) -> None:
        with self._lock:
            for worker_id in self._signed_off.intersection(worker_ids):
                self._workers.pop(worker_id, None)

    def workers(self) -> list[WorkerRecord]:
        with self._lock:
            return list(self._workers.values())

    def add_point(self, point: Point) -> None:
        with self._lock:
            self._points.add(point)

    def points(self, since: float) -> list[Point]:
        with self._lock:
            found = [point for point in self._points if point.at >= since]
        return sorted(found, key=lambda point: point.at)

    def state(self) -> FleetState:
        return self._state

    def save_state(self, state: FleetState) -> bool:
        with self._lock:
            if state.revision != self._state.revision:
                return False
            self._state = replace(state, revision=state.revision + 1)
            return True
