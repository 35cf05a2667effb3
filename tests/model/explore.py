"""The exploration: all states that the processes can come to, in order of their number of steps.
Owns the search, and the shortest way to what is wrong."""

from __future__ import annotations

import re
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.model.frozen import Scenario
from tests.model.judge import at_rest, fault_of_step
from tests.model.moves import Model, key
from tests.model.world import World

_WORKER = re.compile("^(w[0-9]+|collector),? ")
Witness = Callable[[World, str, Any, Any], None]
"""Is called before each call that changes a bundle: with the state, the call and its arguments."""
STUCK = "from here on nothing leads to rest, although no more faults happen"


@dataclass
class Found:
    """What an exploration found.

    states, moves, faults: numbers of states, of transitions, and of those that are faults.
    fault: what is wrong; empty if nothing is.
    steps: the shortest way there, from the first state.
    complete: whether every state was visited.
    happened: number of transitions by what happened, whichever worker did it.
    seconds: processor time that it took.
    """

    states: int = 0
    moves: int = 0
    faults: int = 0
    fault: str = ""
    steps: tuple[str, ...] = ()
    complete: bool = True
    happened: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def kind_of_fault(self) -> str:
        """Returns what the fault counts as (`tests.faults.figures`); empty if nothing is wrong."""
        if self.fault == STUCK:
            return "lost"
        return "doubled" if "times" in self.fault else "wrong" if self.fault else ""

    def __str__(self) -> str:
        lines = [f"{number:3}. {step}" for number, step in enumerate(self.steps, 1)]
        return "\n".join([*lines, f"  => {self.fault or 'nothing is wrong'}"])


def explore(scenario: Scenario, *, most_s: float = 1e9, witness: Witness | None = None) -> Found:
    """Visit every state of the scenario, until one is wrong. A state is wrong if a step to it broke
    a promise (`tests.model.judge`), or if no way without further faults leads from it to rest."""
    model, found, began = Model(scenario), Found(), time.process_time()
    model.world.witness = witness
    numbers = {key(model.first): 0}
    parents, labels = array("q", [-1]), [""]
    healthy: list[array[int]] = []
    resting: list[int] = []
    line = deque([model.first])
    while line:
        state, number = line.popleft(), len(healthy)
        healthy.append(array("q"))
        if number % 256 == 0 and time.process_time() - began > most_s:
            found.complete = False
            break
        if at_rest(model, state):
            resting.append(number)
        for label, is_fault, after in model.moves(state):
            if after == state:
                continue
            found.moves += 1
            found.happened[_WORKER.sub("", label)] += 1
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
            found.fault = STUCK
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
