"""The exploration: all states that the processes can come to, in order of their number of steps.
Owns the search and the shortest way to what is wrong."""

from __future__ import annotations

import hashlib
import re
import time
from array import array
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from tests.model.judge import at_rest, fault_of_step
from tests.model.process import EMPTY, Collector, Memory, Process, Step
from tests.model.tape import Call, Reply
from tests.model.world import GONE, NOW, Scenario, Shared, World
from taskfleet.errors import TaskfleetError
from taskfleet.lease import BundleStatus

PRICES = {"overstay": "overstays", "drain": "drains"}
"""Steps that are faults, and what they are counted under."""
_HANDLE = re.compile(rb"~[0-9]+")
_NAME = re.compile(rb"~[0-9]+|\bw[0-9]\b")
_SAME: dict[bytes, bytes] = {b"w%d" % n: b"w%d" % n for n in range(1, 10)}
_SWAPPED = {**_SAME, b"w1": b"w2", b"w2": b"w1"}
_encode = msgspec.json.Encoder(enc_hook=repr).encode


class Begun(NamedTuple):
    """A step that waits at a call, and what its calls were answered before."""

    step: Step
    replies: tuple[Reply, ...]


class State(NamedTuple):
    """All of the system: what is shared, and of each process its memory and the step in which it
    is, None between two steps."""

    shared: Shared
    memories: tuple[Memory, ...]
    begun: tuple[Begun | None, ...]


class Move(NamedTuple):
    """One transition. `fault` is whether it is something that may never happen."""

    label: str
    fault: bool
    after: State


@dataclass
class Found:
    """What an exploration found.

    states, moves, faults: numbers of states, of transitions, and of those that are faults.
    fault: what is wrong; empty if nothing is.
    steps: the shortest way there, from the first state.
    complete: whether every state was visited.
    """

    states: int = 0
    moves: int = 0
    faults: int = 0
    fault: str = ""
    steps: tuple[str, ...] = ()
    complete: bool = True
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{number:3}. {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, f"  => {self.fault or 'nothing is wrong'}"])


class Model:
    """The transitions of one scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.world = World(scenario)
        names = [f"w{number}" for number in range(1, scenario.workers + 1)]
        self.actors = [Process(self.world, name) for name in names] + [Collector(self.world)]
        self.names = [*names, "collector"]
        count = len(self.actors)
        self._gone: dict[Any, Call | Memory] = {}
        self.first = State(self.world.first, (EMPTY,) * count, (None,) * count)

    def moves(self, state: State) -> Iterator[Move]:
        """Yields what can happen next."""
        yield from self._moves_of_time(state)
        handle = _free_handle(_encode(state[1:]) + _encode(state.shared.items))
        for place, actor in enumerate(self.actors):
            begun = state.begun[place]
            if begun is not None:
                yield from self._outcomes(state, place, begun.step, begun.replies)
            else:
                self.world.thaw(state.shared)
                for step in list(actor.steps(state.memories[place], handle)):
                    yield from self._outcomes(state, place, step, ())
            is_idle = begun is None and state.memories[place] == EMPTY
            if state.shared.budget.crashes > 0 and not is_idle:
                shared = state.shared._replace(budget=state.shared.budget.less("crashes"))
                label = f"{self.names[place]} vanishes"
                yield Move(label, True, _put(state, shared, place, EMPTY, None))

    def _outcomes(
        self, state: State, place: int, step: Step, replies: tuple[Reply, ...]
    ) -> Iterator[Move]:
        """Yields what can come of the step, up to its next call."""
        memory, world = state.memories[place], self.world
        name = f"{self.names[place]}, {step[0]}"
        shared = state.shared
        price = PRICES.get(step[0])
        if price is not None and not replies:
            shared = shared._replace(budget=shared.budget.less(price))
        world.thaw(shared)
        call, replies = self._up_to_cut(place, memory, step, replies)
        if isinstance(call, Memory):
            yield Move(name, price is not None, _put(state, world.freeze(), place, call, None))
            return
        shared = world.freeze()
        for outcome in call.outcomes():
            world.thaw(shared)
            after = self._after(state, place, step, (*replies, call.effect(outcome)))
            fault = after.shared.budget != state.shared.budget
            yield Move(f"{name}: {call.name} {outcome}", fault, after)

    def _after(
        self, state: State, place: int, step: Step, replies: tuple[Reply, ...]
    ) -> State:
        """Returns the state in which the step waits for its next call, or has ended."""
        world, memory = self.world, state.memories[place]
        if world.killed:
            return _put(state, world.freeze(), place, EMPTY, None)
        call, replies = self._up_to_cut(place, memory, step, replies)
        if isinstance(call, Memory):
            return _put(state, world.freeze(), place, call, None)
        return _put(state, world.freeze(), place, memory, Begun(step, replies))

    def _up_to_cut(
        self, place: int, memory: Memory, step: Step, replies: tuple[Reply, ...]
    ) -> tuple[Call | Memory, tuple[Reply, ...]]:
        """Make the calls of the step before which no other process acts. Returns what follows
        them, as `Process.go` does, and all answers so far."""
        while True:
            call = self._go(place, memory, step, replies)
            if isinstance(call, Memory) or call.cuts:
                return call, replies
            replies = (*replies, call.effect(call.outcomes()[0]))

    def _go(
        self, place: int, memory: Memory, step: Step, replies: tuple[Reply, ...]
    ) -> Call | Memory:
        """`Process.go`, which is asked once for the same arguments."""
        name = (place, _encode((memory, step, replies)))
        known = self._gone.get(name)
        if known is None:
            known = self._gone[name] = self.actors[place].go(memory, step, replies)
        return known

    def _moves_of_time(self, state: State) -> Iterator[Move]:
        """Yields what needs no process."""
        shared, world = state.shared, self.world
        for number, item in enumerate(shared.items):
            if item is None or item[0] is not BundleStatus.RUNNING or item[3] < NOW:
                continue
            fault = item[1].encode() in _encode((state.memories, state.begun))
            if fault and not shared.budget.expiries:
                continue
            world.thaw(shared)
            if fault:
                world.spend("expiries")
            world.count("losses", number)
            world.monitor._items[world.jobs[number]].expires_at = GONE
            label = f"the lease of {item[1]} on bundle {number} ends"
            yield Move(label, fault, state._replace(shared=world.freeze()))
        for number in range(len(world.jobs)):
            if shared.budget.doubles and number not in shared.queue:
                world.thaw(shared)
                world.spend("doubles")
                world.queue.add(number)
                label = f"the deleted message of bundle {number} is there again"
                yield Move(label, True, state._replace(shared=world.freeze()))
        if shared.budget.cancels:
            world.thaw(shared)
            world.spend("cancels")
            world.ghost = world.ghost._replace(cancelled=True)
            world.monitor.cancel_batch(shared.batch.batch_id, NOW)
            yield Move("the client cancels the batch", True, state._replace(shared=world.freeze()))
        for place, (name, args, kwargs) in enumerate(shared.late):
            world.thaw(shared)
            del world.late[place]
            try:
                getattr(world.monitor, name)(*args, **dict(kwargs))
            except TaskfleetError:
                pass
            label = f"the late {name} takes effect"
            yield Move(label, False, state._replace(shared=world.freeze()))


def _put(
    state: State, shared: Shared, place: int, memory: Memory, begun: Begun | None
) -> State:
    memories, begins = list(state.memories), list(state.begun)
    memories[place], begins[place] = memory, begun
    return State(shared, tuple(memories), tuple(begins))


def _free_handle(encoded: bytes) -> str:
    used = set(_HANDLE.findall(encoded))
    number = 0
    while f"~{number}".encode() in used:
        number += 1
    return f"~{number}"


def key(state: State) -> bytes:
    """Returns what tells the state from others. Two states are one if they differ in the names of
    the receipts only, or in which of two workers is which."""
    forms = [_renamed(_encode(state), _SAME)]
    if len(state.memories) == 3:
        shared, (one, two, three), (begun_one, begun_two, begun_three) = state
        swapped = State(shared, (two, one, three), (begun_two, begun_one, begun_three))
        forms.append(_renamed(_encode(swapped), _SWAPPED))
    return hashlib.blake2b(min(forms), digest_size=16).digest()


def _renamed(encoded: bytes, workers: dict[bytes, bytes]) -> bytes:
    """The encoded state with the receipts numbered as they occur, and with these names of
    workers."""
    names = dict(workers)

    def name(found: re.Match[bytes]) -> bytes:
        return names.setdefault(found[0], b"~%d" % len(names))

    return _NAME.sub(name, encoded)


def explore(scenario: Scenario, *, most_states: int = 10_000_000, most_s: float = 1e9) -> Found:
    """Visit every state of the scenario, until one is wrong. A state is wrong if a step to it broke
    a promise (`tests.model.judge`), or if no way without further faults leads from it to rest."""
    model, found, began = Model(scenario), Found(), time.process_time()
    numbers = {key(model.first): 0}
    parents, labels = array("q", [-1]), [""]
    healthy: list[array[int]] = []
    resting: list[int] = []
    line = deque([model.first])
    while line:
        state, number = line.popleft(), len(healthy)
        healthy.append(array("q"))
        if len(numbers) > most_states or time.process_time() - began > most_s:
            found.complete = False
            break
        if at_rest(model, state):
            resting.append(number)
        for label, is_fault, after in model.moves(state):
            if after == state:
                continue
            found.moves += 1
            found.faults += is_fault
            name = key(after)
            known = numbers.get(name)
            if known is None:
                known = numbers[name] = len(numbers)
                parents.append(number)
                labels.append(label)
                line.append(after)
            if not is_fault:
                healthy[number].append(known)
            found.fault = fault_of_step(model, state, after)
            if found.fault:
                found.steps = (*_way(parents, labels, number), label)
                break
        if found.fault:
            break
    found.states, found.seconds = len(numbers), time.process_time() - began
    if found.complete and not found.fault:
        stuck = _first_stuck(healthy, resting)
        if stuck is not None:
            found.fault = "from here on nothing leads to rest, although no more faults happen"
            found.steps = _way(parents, labels, stuck)
    return found


def _way(parents: array[int], labels: list[str], number: int) -> tuple[str, ...]:
    steps: list[str] = []
    while number > 0:
        steps.append(labels[number])
        number = parents[number]
    return tuple(reversed(steps))


def _first_stuck(healthy: list[array[int]], resting: list[int]) -> int | None:
    """Returns the first state from which no healthy way leads to a state at rest."""
    before: list[array[int]] = [array("q") for _ in healthy]
    for number, afters in enumerate(healthy):
        for after in afters:
            before[after].append(number)
    good = bytearray(len(healthy))
    line = deque(resting)
    for number in resting:
        good[number] = 1
    while line:
        for number in before[line.popleft()]:
            if not good[number]:
                good[number] = 1
                line.append(number)
    stuck = good.find(0)
    return None if stuck < 0 else stuck
