"""One worker of a simulation at scale. Its decisions and its protocol are the worker's own code:
what to receive and what to run next (`ec2_worker.workload`, `ec2_worker.room`), claiming and
settling (`ec2_worker.settlement`), answering (`ec2_worker.outbox`), on ports in memory.
Owns what takes the place of the worker's threads: events of virtual time.

A simulated task lasts as long as it says and a little more. Heartbeats are left out, since the
bundles of these workloads end before the first one.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from bench.scale_cloud import Capacity, Timeline
from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.parts import Abilities, Hooks, Identity, Parts, WorkerPorts, assemble
from ec2_worker.room import PREFETCH_S
from taskfleet.ports import CALL_MAX_MESSAGES, Message
from taskfleet.registry import Registry
from taskfleet.settings import Settings
from taskfleet.task import TaskResult, TaskStatus

TASK_OVERHEAD_S = 50e-6
"""Time that the worker adds to a task, in seconds."""
LINGER_S = 0.2
"""Longest time for which an answer waits for others while the worker is busy: that of
`ec2_worker.outbox`, in seconds."""
EMPTY_PAUSE_S = 0.05
"""Time between two receives of an empty queue, in seconds. The worker itself uses a long poll,
which ends when a message comes."""


@dataclass(frozen=True)
class Shared:
    """What all workers of a simulation share.

    table: capacity of the table, in write units.
    answered: called after answers were sent.
    """

    timeline: Timeline
    ports: WorkerPorts
    registry: Registry
    settings: Settings
    table: Capacity
    answered: Callable[[], None]


class _NoPool:
    """A pool for parts that need one and do not use it here."""

    def submit(self, *_arguments: object, **_named: object) -> None:
        raise RuntimeError("a simulated worker has no threads")


class SimulatedWorker:
    """A worker with `slots` slots. `start` begins its polling."""

    def __init__(self, shared: Shared, number: int, slots: int) -> None:
        self._shared = shared
        self._timeline = shared.timeline
        self._slots_free = slots
        self._receiving = False
        self._flushing = False
        self._parts: Parts = assemble(
            shared.ports,
            shared.registry,
            shared.settings,
            Identity(f"worker-{number}", slots),
            Abilities({}, {}),
            Hooks(settle=self._settle_soon, leave=lambda: None),
            pool=_NoPool(),  # type: ignore[arg-type]
            rng=random.Random(number),
        )

    def start(self) -> None:
        """Poll for messages from now on."""
        self._timeline.after(0.0, self._poll)

    # --- receiving and claiming ---

    def _poll(self) -> None:
        """Receive messages if there is room for some and no receive is under way."""
        if self._receiving:
            return
        wanted = self._parts.workload.wait_for_room(0.0)
        if wanted:
            self._receiving = True
            self._timeline.after(self._timeline.call_s(), self._receive, wanted)

    def _receive(self, wanted: int) -> None:
        self._receiving = False
        messages = self._shared.ports.tasks.receive(
            min(wanted, CALL_MAX_MESSAGES),
            wait_s=0.0,
            visibility_s=self._shared.settings.lease_s,
        )
        self._parts.workload.give_up_room(wanted - len(messages))
        for message in messages:
            self._timeline.after(self._shared.table.call_s(), self._claim, message)
        self._timeline.after(0.0 if messages else EMPTY_PAUSE_S, self._poll)

    def _claim(self, message: Message) -> None:
        protocol, workload = self._parts.protocol, self._parts.workload
        bundle = protocol.decode(message)
        claimed = None if bundle is None else protocol.claim(bundle, message)
        if claimed is None:
            workload.give_up_room(1)
        elif workload.add(claimed):
            self._settle_soon(claimed)
        self._fill()

    # --- running ---

    def _fill(self) -> None:
        """Give each free slot the next chunk of work."""
        while self._slots_free:
            chunk = self._parts.workload.take(wait=False)
            if chunk is None:
                break
            self._slots_free -= 1
            seconds = sum(task.params / 1000 + TASK_OVERHEAD_S for task in chunk.tasks)
            self._timeline.after(seconds, self._finish, chunk, seconds)
            if seconds > PREFETCH_S / 2:  # the intake waits for this moment (`room.next_free_s`)
                self._timeline.after(seconds - PREFETCH_S / 2 + 0.001, self._poll)
        self._poll()

    def _finish(self, chunk: Chunk, seconds: float) -> None:
        claimed = chunk.claimed
        ended_at = self._timeline.now()
        for task in chunk.tasks:
            claimed.results[task.index] = TaskResult(
                task.index,
                TaskStatus.SUCCEEDED,
                attempts=claimed.attempt(task.index),
                started_at=ended_at - seconds,
                duration_s=seconds / len(chunk.tasks),
                worker_id="simulated",
            )
        self._slots_free += 1
        if self._parts.workload.done(chunk, [], seconds):
            self._settle_soon(claimed)
        self._fill()

    # --- settling and answering ---

    def _settle_soon(self, claimed: ClaimedBundle) -> None:
        self._timeline.after(self._shared.table.call_s(), self._settle, claimed)

    def _settle(self, claimed: ClaimedBundle) -> None:
        self._parts.settlement.settle(claimed)
        self._parts.workload.remove(claimed)
        pending = self._parts.outbox.pending()
        if pending == 1 or pending == CALL_MAX_MESSAGES:
            self._timeline.after(LINGER_S if pending == 1 else 0.0, self._flush)
        self._poll()

    def _flush(self) -> None:
        """Send answers and delete their messages."""
        if self._parts.outbox.pending():
            self._parts.outbox.flush()
            seconds = self._timeline.call_s() + self._timeline.call_s()
            self._timeline.after(seconds, self._shared.answered)
            if self._parts.outbox.pending():
                self._timeline.after(seconds, self._flush)
