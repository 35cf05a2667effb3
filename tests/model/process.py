"""The processes of the model: the parts of the real worker, wired as the daemon wires them, and the
real collector. Owns which steps they can take, and how what a worker has in memory is frozen.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

from msgspec.structs import replace

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.outbox import Letter
from ec2_worker.stragglers import Race
from taskfleet.errors import TaskfleetError
from taskfleet.ports import Message
from taskfleet.scheduler.collect import collect
from taskfleet.task import TaskResult
from tests.model.tape import Call, Pause, Reply, Tape
from tests.model.world import LEASE_S, NOW, Answers, Bound, ModelQueue, World, still
from tests.support.worker import HandWorker

Step = tuple[Any, ...]


class Memory(NamedTuple):
    """What a worker has in memory, frozen. Bundles, chunks and races refer to each other by their
    places."""

    bundles: tuple[Any, ...] = ()
    in_hand: tuple[int, ...] = ()
    ready: tuple[int, ...] = ()
    races: tuple[Any, ...] = ()
    chunks: tuple[Any, ...] = ()
    letters: tuple[Any, ...] = ()
    leaving: bool = False
    stopped: bool = False


EMPTY = Memory()
"""The memory of a worker that has just started."""


class _Chunks(dict[Chunk, None]):
    """A set that keeps its order."""

    add = dict.setdefault

    def remove(self, chunk: Chunk) -> None:
        del self[chunk]


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

    # --- freezing ------------------------------------------------------------------------------

    def thaw(self, memory: Memory) -> None:
        """Make `memory` the worker's own."""
        hand, workload = self.hand, self.hand.workload
        bundles = [self._bundle(each) for each in memory.bundles]
        workload._in_hand = {bundles[i].bundle.job_id: bundles[i] for i in memory.in_hand}
        hand.ready[:] = [bundles[i] for i in memory.ready]
        races = []
        for of, copied, winner, stops in memory.races:
            race = Race(bundles[of].stopping)
            race.copied, race._winner = copied, winner
            for is_copy, stopped in zip((False, True), stops, strict=True):
                if stopped:
                    race.stop_of(is_copy=is_copy).stop()
            races.append(race)
        workload._chunks = _Chunks()  # type: ignore[assignment]
        workload._running.clear()
        for of, indexes, race_of, is_copy in memory.chunks:
            claimed = bundles[of]
            tasks = [task for task in claimed.bundle.tasks if task.index in indexes]
            race = None if race_of is None else races[race_of]
            chunk = Chunk(claimed, tasks[0].kind, tasks, None, NOW, race, is_copy)
            workload._chunks.add(chunk)
            workload._running[chunk.kind] += 1
        hand.outbox._letters = deque(
            Letter(response, self._message(*of), poison, failures)
            for response, of, poison, failures in memory.letters
        )
        workload._starting = not memory.leaving
        workload._paces, workload._incoming[False] = {}, 0
        hand.watch._seen = {}
        hand.heartbeat._watched_at, hand.heartbeat._storing = NOW, None
        hand.lost.clear()
        self.stopped = memory.stopped

    def _message(self, number: int, handle: str) -> Message:
        return Message(str(number), handle, self.world.bodies[number], 1, sent_at=NOW)

    def _bundle(self, frozen: tuple[Any, ...]) -> ClaimedBundle:
        number, handle, lease, prior, results, running, pending, taken, last, flags, poison = frozen
        bundle = self.world.bundles[number]
        claimed = ClaimedBundle(bundle, self._message(number, handle), lease, (), NOW)
        claimed.prior = {row.index: row for row in prior}
        claimed.results = {row.index: row for row in results}
        claimed.running = {row.index: row for row in running}
        by_index = {task.index: task for task in bundle.tasks}
        claimed.pending = deque(by_index[index] for index in pending)
        claimed.taken, claimed.last_chances, claimed.poison = taken, set(last), poison
        (claimed.has_news, claimed.leaving, claimed.settling, claimed.released, claimed.lost) = flags[:5]
        if flags[5]:
            claimed.stopping.stop()
        return claimed

    def freeze(self) -> Memory:
        """Returns what the worker has in memory."""
        hand, workload = self.hand, self.hand.workload
        chunks = sorted(workload._chunks, key=lambda c: (c.tasks[0].index, c.is_copy, c.claimed.lost))
        bundles: list[ClaimedBundle] = []
        races: list[Race] = []
        for claimed in (*workload._in_hand.values(), *hand.ready, *(c.claimed for c in chunks)):
            if claimed not in bundles:
                bundles.append(claimed)
        owners = []
        for chunk in chunks:
            if chunk.race is not None and chunk.race not in races:
                races.append(chunk.race)
                owners.append(bundles.index(chunk.claimed))
        return Memory(
            tuple(self._frozen(each) for each in bundles),
            tuple(bundles.index(each) for each in workload._in_hand.values()),
            tuple(bundles.index(each) for each in hand.ready),
            tuple(
                (
                    *(of, race.copied, race._winner),
                    tuple(race.stop_of(is_copy=c).event.is_set() for c in (False, True)),
                )
                for of, race in zip(owners, races, strict=True)
            ),
            tuple(
                (
                    bundles.index(chunk.claimed),
                    tuple(task.index for task in chunk.tasks),
                    None if chunk.race is None else races.index(chunk.race),
                    chunk.is_copy,
                )
                for chunk in chunks
            ),
            tuple(
                (
                    letter.response,
                    (int(letter.message.message_id), letter.message.receipt_handle),
                    *(letter.poison, letter.failures),
                )
                for letter in hand.outbox._letters
            ),
            not workload._starting,
            self.stopped,
        )

    def _frozen(self, claimed: ClaimedBundle) -> tuple[Any, ...]:
        lease = replace(claimed.lease, expires_at=still(claimed.lease.expires_at))
        return (
            int(claimed.message.message_id),
            claimed.message.receipt_handle,
            lease,
            _rows(claimed.prior.values()),
            _rows(claimed.results.values()),
            _rows(claimed.running.values()),
            tuple(task.index for task in claimed.pending),
            claimed.taken,
            tuple(sorted(claimed.last_chances)),
            (
                *(claimed.has_news, claimed.leaving, claimed.settling, claimed.released),
                *(claimed.lost, claimed.stopped.is_set()),
            ),
            claimed.poison,
        )

    # --- steps ---------------------------------------------------------------------------------

    def go(self, memory: Memory, step: Step, replies: Sequence[Reply]) -> Call | Memory:
        """Take a step as far as its calls are answered. Returns the next call, or what the worker
        has in memory at the end of the step. It depends on nothing else."""
        world = self.world
        world.clock.time, world.is_copy, world.is_noted = NOW, False, False
        tape = world.tape = Tape(replies)
        self.thaw(memory)
        try:
            getattr(self, "_" + step[0].replace(" ", "_"))(*step[1:])
        except Pause:
            pass
        except TaskfleetError:
            assert tape.call is None, f"an error took the place of a pause: {step}"
        return tape.call or self.freeze()

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
        self.hand.intake.take_in(self._message(number, handle))

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
        self.stopped = True
        for claimed in self.hand.workload.in_hand():
            claimed.stop()

    def _end(self) -> None:
        self.thaw(EMPTY)


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


def _rows(rows: Iterable[TaskResult]) -> tuple[TaskResult, ...]:
    """The rows by index. How long a task took by the real clock is left out."""
    fixed = (row if row.duration_s is None else replace(row, duration_s=0.0) for row in rows)
    return tuple(sorted(fixed, key=lambda row: row.index))
