"""The transitions of the model: what can happen next in a state. Owns the states, what tells one
from another, and the moves that no process makes: the end of a lease, a message that is there
again, a cancellation, a call that takes effect late."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from taskfleet.errors import TaskfleetError
from taskfleet.lease import BundleStatus
from tests.model.frozen import GONE, NOW, Scenario, Shared
from tests.model.memory import EMPTY, Memory
from tests.model.process import Collector, Process, Step
from tests.model.tape import Call, Reply
from tests.model.world import World

PRICES = {"overstay": "overstays", "drain": "drains"}
"""Steps that are faults, and what they are counted under."""
_HANDLE = re.compile(rb"~[0-9]+")
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
        handle = _free_handle(_encode((state.memories, state.begun, *state.shared)))
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

    def _after(self, state: State, place: int, step: Step, replies: tuple[Reply, ...]) -> State:
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
            with contextlib.suppress(TaskfleetError):
                getattr(world.monitor, name)(*args, **dict(kwargs))
            label = f"the late {name} takes effect"
            yield Move(label, False, state._replace(shared=world.freeze()))


def _put(state: State, shared: Shared, place: int, memory: Memory, begun: Begun | None) -> State:
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
    forms = [_renumbered(_encode(state))]
    if len(state.memories) == 3:
        shared, (one, two, three), (begun_one, begun_two, begun_three) = state
        swapped = _encode(State(shared, (two, one, three), (begun_two, begun_one, begun_three)))
        swapped = swapped.replace(b"w1", b"\0").replace(b"w2", b"w1").replace(b"\0", b"w2")
        forms.append(_renumbered(swapped))
    return hashlib.blake2b(min(forms), digest_size=16).digest()


def _renumbered(encoded: bytes) -> bytes:
    """The encoded state with its receipts numbered as they occur."""
    names = {old: b"~%d" % new for new, old in enumerate(dict.fromkeys(_HANDLE.findall(encoded)))}
    if all(old == new for old, new in names.items()):
        return encoded
    return _HANDLE.sub(lambda found: names[found[0]], encoded)
