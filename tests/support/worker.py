"""Test doubles for the worker: ports and kinds that fail on purpose, a cloud in memory, and a
worker whose steps the test takes one by one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor as PoolExecutor
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.parts import Abilities, Hooks, Identity, WorkerPorts, assemble
from ec2_worker.telemetry import Telemetry
from taskfleet.bill import Spend
from taskfleet.errors import LeaseLost, TaskfleetError, TransientError
from taskfleet.lanes import Lanes
from taskfleet.memory import (
    ManualClock,
    MemoryFleet,
    MemoryFleetRecords,
    MemoryMonitor,
    MemoryQueue,
    MemoryScheduleRecords,
    MemoryStore,
)
from taskfleet.registry import Registry, TaskKind
from taskfleet.scheduler.audits import Audits
from taskfleet.scheduler.collect import collect
from taskfleet.scheduler.results import Results
from taskfleet.settings import Settings
from taskfleet.wire.http.batches import AuditView
from tests.support.scheduler import submission

LEASE_S = 30.0
HEARTBEAT_S = LEASE_S / 3


class Faulty:
    """A port whose calls can fail. `fault` gets the method's name and returns "before" to fail
    before the call takes effect, "after" to fail afterwards, as when a reply is lost, or None."""

    def __init__(self, port: Any, fault: Callable[[str], str | None]) -> None:
        self._port = port
        self._fault = fault

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            fault = self._fault(name)
            if fault == "before":
                raise TransientError(f"{name}: throttled")
            value = method(*args, **kwargs)
            if fault == "after":
                raise TransientError(f"{name}: timed out")
            return value

        return call


def no_fault(_name: str) -> str | None:
    return None


class Inline(PoolExecutor):
    """A pool that runs each call at once, in the caller's thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:  # noqa: BLE001 - as every executor does
            future.set_exception(error)
        return future


class Nudges:
    """A `Nudge` that counts its calls."""

    count = 0

    def nudge(self) -> None:
        self.count += 1


@dataclass
class Cloud:
    """What processes share: queues, table and store, in memory and on one clock."""

    clock: ManualClock = field(default_factory=ManualClock)

    def __post_init__(self) -> None:
        self.dead = MemoryQueue(self.clock, name="dead tasks")
        self.tasks = MemoryQueue(self.clock, name="tasks", dead=self.dead)
        self.high = MemoryQueue(self.clock, name="tasks of high priority", dead=self.dead)
        dead_responses = MemoryQueue(self.clock, name="dead responses")
        self.responses = MemoryQueue(self.clock, name="responses", dead=dead_responses)
        dead_uploads = MemoryQueue(self.clock, name="dead uploads")
        self.uploads = MemoryQueue(self.clock, name="uploads", dead=dead_uploads)
        self.monitor = MemoryMonitor(self.clock)
        self.store = MemoryStore(self.clock)
        self.records = MemoryFleetRecords()
        self.schedules = MemoryScheduleRecords()
        self.fleet = MemoryFleet(self.clock)
        self.nudges = Nudges()

    def submit(self, registry: Registry, tasks: list[Any], **options: Any) -> str:
        made = submission(registry, Lanes(self.tasks, self.high), self.monitor, self.clock)
        return made.submit(tasks, **{"client_id": "alice", **options}).batch_id

    def collect(self, wait_s: float = 0.0) -> int:
        """Collect all responses, and wait for more as long as told. Returns the number of
        messages."""
        count = 0
        while messages := self.responses.receive(10, wait_s=wait_s, visibility_s=30):
            collect({m.message_id: m.body for m in messages}, self.monitor, self.clock)
            self.responses.delete(messages)
            count += len(messages)
        return count

    def results(self, registry: Registry) -> Results:
        return Results(registry, self.monitor, self.store, self.clock)

    def audit(self, registry: Registry, batch_id: str, *, client_id: str = "alice") -> AuditView:
        audits = Audits(self.results(registry), self.monitor, self.clock)
        return audits.audit(batch_id, client_id=client_id)

    def rows(self, registry: Registry, batch_id: str) -> list[Any]:
        rows, cursor = [], None
        while True:
            page = self.results(registry).results(batch_id, client_id="alice", cursor=cursor)
            rows += page.results
            cursor = page.cursor
            if cursor is None:
                return rows


class HandWorker:
    """The parts of `ec2_worker.worker.Worker` without its threads: the test takes each step."""

    def __init__(
        self,
        cloud: Cloud,
        registry: Registry,
        *,
        threads: int = 4,
        worker_id: str = "w-1",
        rng: random.Random | None = None,
        fault: Callable[[str], str | None] = no_fault,
        unavailable: dict[str, str] | None = None,
        limits: dict[str, int] | None = None,
        spent: Callable[[], Spend] = Spend,
        telemetry: Telemetry | None = None,
    ) -> None:
        self.telemetry = telemetry or Telemetry()
        self.lost: list[str] = []
        self.ready: list[ClaimedBundle] = []
        self.ended = threading.Event()
        ports: Any = WorkerPorts(
            tasks=Faulty(cloud.tasks, fault),  # type: ignore[arg-type]
            responses=Faulty(cloud.responses, fault),  # type: ignore[arg-type]
            monitor=Faulty(cloud.monitor, fault),  # type: ignore[arg-type]
            store=cloud.store,
            clock=cloud.clock,
            spent=spent,
            telemetry=self.telemetry,
            high=Faulty(cloud.high, fault) if hasattr(cloud, "high") else None,  # type: ignore[arg-type]
        )
        parts = assemble(
            ports,
            registry,
            Settings(lease_s=LEASE_S, receive_wait_s=0.0),
            Identity(worker_id, threads),
            Abilities(limits or {}, unavailable or {}),
            Hooks(settle=self.ready.append, leave=lambda: None),
            pool=Inline(),
            rng=rng or random.Random(0),
        )
        self._clock = cloud.clock
        self.workload, self.executor, self.outbox = parts.workload, parts.executor, parts.outbox
        self.watch, self.protocol = parts.watch, parts.protocol
        self.settlement, self.asides = parts.settlement, parts.asides
        self.intake, self.heartbeat = parts.intake, parts.heartbeat

    def poll(self) -> bool | None:
        """Receive and claim as many bundles as there is room for. Returns whether any was claimed,
        or None if none was received."""
        for high in (True, False):
            if self.workload.has_room(high=high):
                claims = self.intake.poll(self.ended, high=high)
                if claims:
                    return any(claim.result() for claim in claims)
        return None

    def take(self) -> Chunk | None:
        """Take a chunk for a slot. Returns None if there is none."""
        return self.workload.take(wait=False)

    def finish(self, chunk: Chunk) -> None:
        """Run a chunk that `take` returned."""
        started = self._clock.now()
        rest = self.executor.run(chunk)
        elapsed_s = self._clock.now() - started
        if self.workload.done(chunk, rest, elapsed_s):
            self.ready.append(chunk.claimed)

    def settle(self) -> None:
        """Commit or release all bundles that are ready."""
        while self.ready:
            claimed = self.ready.pop(0)
            try:
                self.settlement.settle(claimed)
            except LeaseLost:
                self.lost.append(claimed.bundle.job_id)
                self.telemetry.lost(claimed, self._clock.now())
            except Exception as error:
                if isinstance(error, TaskfleetError):
                    raise
                self.asides.put(claimed.message, error, claimed.lease.owner)
            finally:
                self.workload.remove(claimed)

    def work(self, rounds: int = 100) -> None:
        """Take all steps, until there is nothing to run now."""
        for _ in range(rounds):
            self.poll()
            busy = False
            while (chunk := self.take()) is not None:
                busy = True
                self.finish(chunk)
            self.settle()
            while self.outbox.pending():
                self.outbox.flush()
            if not busy:
                return


# --- kinds that misbehave ---------------------------------------------------------------------


def run_nothing(_params: Any, _context: Any) -> None:
    """The `run` of a kind whose tasks do nothing."""


def thread_kind(name: str, run: Callable[[Any, Any], Any], **options: Any) -> TaskKind:
    """A kind that runs in a thread of the test's own process."""
    return TaskKind(name, run, runs_in="thread", **options)


def failing_kind(name: str, error: Callable[[], Exception], **options: Any) -> TaskKind:
    """A kind whose tasks raise at every attempt."""

    def run(_params: Any, _context: Any) -> Any:
        raise error()

    return thread_kind(name, run, **options)


@dataclass
class Recorder:
    """A kind that records its executions. With params `{"fail": n}` the first n attempts raise."""

    name: str = "record"
    runs: list[tuple[str, int, int]] = field(default_factory=list)
    """(batch id, index, attempt) of each execution."""

    def run(self, params: Any, context: Any) -> Any:
        self.runs.append((context.batch_id, context.index, context.attempt))
        if params and context.attempt <= params.get("fail", 0):
            raise TransientError("not yet")
        return {"ran": context.index}

    def kind(self, **options: Any) -> TaskKind:
        return thread_kind(self.name, self.run, **options)
