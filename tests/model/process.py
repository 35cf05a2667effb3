"""The processes of the model: the parts of the real worker, wired as the daemon wires them, and the
real collector. Owns which steps they can take, and how each is taken.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from taskfleet.errors import TaskfleetError
from taskfleet.scheduler.collect import collect
from tests.model.frozen import LEASE_S, NOW
from tests.model.memory import EMPTY, Memory, message, recall, remembered
from tests.model.ports import Answers, Bound, ModelQueue
from tests.model.tape import Call, Pause, Reply, Tape
from tests.model.world import World
from tests.support.worker import HandWorker

Step = tuple[Any, ...]


class _Late:
    """Durations by which every task is late at once."""

    def note(self, _name: str, _seconds: float) -> None:
        pass

    def late_after_s(self, _name: str) -> float:
        return 0.0


class _Least(random.Random):
    """Chooses the least of every range. The model does not depend on how long anything waits."""

    def uniform(self, a: float, b: float) -> float:
        return a


class Deadline:
    """Time-outs that come when the model says so."""

    def __init__(self, world: World) -> None:
        self._world = world

    def after(self, _seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        self._world.time_out = action
        return lambda: None


class Process:
    """One worker: the real parts, whose state is set before each step."""

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        cloud: Any = SimpleNamespace(
            clock=world.clock,
            tasks=ModelQueue(world),
            responses=Answers(world),
            monitor=Bound(world),
            store=world.store,
        )
        self.hand = hand = HandWorker(
            cloud,
            world.registry,
            threads=world.scenario.slots,
            worker_id=name,
            rng=_Least(0),
        )
        hand.protocol.owner = lambda message: f"{name}/{message.receipt_handle}"  # type: ignore[method-assign]
        hand.workload._durations = _Late()  # type: ignore[assignment]
        hand.executor._deadlines = Deadline(world)  # type: ignore[assignment]
        self.queue = ModelQueue(world)
        if world.scenario.broken is not None:
            world.scenario.broken(self)

    # --- steps ---------------------------------------------------------------------------------

    def go(self, memory: Memory, step: Step, replies: Sequence[Reply]) -> Call | Memory:
        """Take a step as far as its calls are answered. Returns the next call, or what the worker
        has in memory at the end of the step. It depends on nothing else."""
        world = self.world
        world.clock.time, world.is_copy, world.is_noted = NOW, False, False
        tape = world.tape = Tape(replies)
        recall(self.hand, world, memory)
        self._stopped = memory.stopped
        try:
            getattr(self, "_" + step[0].replace(" ", "_"))(*step[1:])
        except Pause:
            pass
        except TaskfleetError:
            assert tape.call is None, f"an error took the place of a pause: {step}"
        return tape.call or remembered(self.hand, stopped=self._stopped)

    def steps(self, memory: Memory, handle: str) -> Iterator[Step]:
        """Yields the steps that the worker can begin. `handle` is a receipt that nobody has."""
        world = self.world
        if not memory.leaving:
            for number in sorted(world.queue) if not memory.letters else ():
                yield ("receive", number, handle)
            if len(memory.chunks) < world.scenario.slots and memory.in_hand:
                yield ("take",)
        for place in range(len(memory.chunks)):
            yield ("run", place)
        if memory.ready:
            yield ("settle",)
        if memory.letters:
            yield ("publish",)
        if memory.in_hand:
            yield ("beat",)
            if world.budget.overstays > 0:
                yield ("overstay",)
        if world.budget.drains > 0 and not memory.leaving:
            yield ("drain",)
        if memory.leaving and not memory.stopped and memory.chunks:
            yield ("stop tasks",)
        if memory.leaving and memory == Memory(leaving=True, stopped=memory.stopped):
            yield ("end",)

    def _receive(self, number: int, handle: str) -> None:
        self.hand.workload._incoming[False] += 1
        self.hand.intake.take_in(message(self.world, number, handle))

    def _take(self) -> None:
        self.hand.workload.take(wait=False)

    def _run(self, place: int) -> None:
        chunk = list(self.hand.workload._chunks)[place]
        self.world.is_copy, self.world.is_noted = chunk.is_copy, chunk.claimed.careful
        self.hand.finish(chunk)

    def _settle(self) -> None:
        ready = self.hand.ready
        others = ready[1:]
        del ready[1:]
        self.hand.settle()
        ready += others

    def _publish(self) -> None:
        self.hand.outbox.flush()

    def _beat(self) -> None:
        self.world.clock.time = NOW + LEASE_S / 3
        for claimed in self.hand.workload.in_hand():
            claimed.claimed_at = self.world.clock.time  # overstaying is a step of its own
        self.hand.heartbeat.beat()

    def _overstay(self) -> None:
        self.world.clock.time = NOW + LEASE_S / 3
        self.hand.ready += self.hand.workload.give_back_overdue()

    def _drain(self) -> None:
        self.hand.ready += self.hand.workload.stop_starting()

    def _stop_tasks(self) -> None:
        self._stopped = True
        for claimed in self.hand.workload.in_hand():
            claimed.stop()

    def _end(self) -> None:
        recall(self.hand, self.world, EMPTY)
        self._stopped = False


class Collector:
    """The function that counts answers. It keeps nothing between its runs."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._monitor = Bound(world)

    def steps(self, memory: Memory, handle: str) -> Iterator[Step]:
        for place in range(len(self.world.responses)):
            yield ("collect", sorted(self.world.responses)[place])

    def go(self, memory: Memory, step: Step, replies: Sequence[Reply]) -> Call | Memory:
        """As `Process.go` does."""
        self.world.clock.time, body = NOW, step[1]
        tape = self.world.tape = Tape(replies)
        try:
            collect({"m": body}, self._monitor, self.world.clock)  # type: ignore[arg-type]
            self.world.call("delete answer", lambda: self.world.responses.discard(body))
        except (Pause, TaskfleetError):
            pass  # after an error its message comes again
        return tape.call or memory
