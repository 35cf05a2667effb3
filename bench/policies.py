"""Who decides in the simulation: Taskfleet's own provisioner, what users would have instead, by its
documented defaults, and a clairvoyant. Owns the comparison's rules; the fleet belongs to
`bench.simulation`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from bench.simulated_ports import ports
from bench.simulation import (
    BEAT_S,
    PRICE_USD_H,
    SLOTS,
    Controller,
    Outcome,
    Simulation,
    Trace,
    World,
)
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.settings import Settings

NUDGE_TASKS = 64
"""A batch of so many tasks is looked at at once, whatever runs."""


class Taskfleet:
    """The project's own provisioner on the simulated fleet. It makes a round every `every_s`
    seconds and, if `nudged`, at once when a large batch arrives or no machine is there. The
    settings are those of a stage."""

    def __init__(self, name: str, *, every_s: float, nudged: bool, **settings: Any) -> None:
        self.name = name
        self.every_s: float | None = every_s
        self.idle_s: float | None = settings["idle_s"]
        self._settings = settings
        self._nudged = nudged
        self._provisioner: Provisioner | None = None

    def arrived(self, sim: Simulation, count: int) -> None:
        if self._nudged and (not sim.nodes or count >= NUDGE_TASKS):
            self.look(sim)

    def look(self, sim: Simulation) -> None:
        if self._provisioner is None:
            conf = Settings(
                max_capacity=sim.trace.max_capacity,
                slots=SLOTS,
                instance_usd_per_hour=PRICE_USD_H,
                beat_s=BEAT_S,
                **self._settings,
            )
            self._provisioner = Provisioner(ports(sim), conf)
        self._provisioner.round()


def _start_missing(sim: Simulation, desired: int) -> None:
    sim.launch(min(desired, sim.trace.max_capacity) - len(sim.nodes))


class Keda:
    """KEDA's SQS scaler on a deployment of 16-slot pods, each on a node of its own. Polls every
    30 s; desired = ceil((visible + in flight) / target), a target of one machine's slots rather
    than its default of 5. The autoscaler doubles or adds 4 in 15 s at most, takes the highest
    wish of the last 300 s before it shrinks, and shrinks by removing any pod, at work or not."""

    name = "KEDA"
    every_s: float | None = 30.0
    idle_s: float | None = None

    def __init__(self) -> None:
        self._wishes: deque[tuple[float, int]] = deque()

    def arrived(self, sim: Simulation, count: int) -> None:
        pass

    def look(self, sim: Simulation) -> None:
        wish = math.ceil((sim.waiting_seen + sim.running) / SLOTS)
        self._wishes.append((sim.now, wish))
        while self._wishes[0][0] < sim.now - 300:
            self._wishes.popleft()
        there = len(sim.nodes)
        highest = max(wish for _, wish in self._wishes)
        if highest > there:
            _start_missing(sim, min(highest, max(there * 4, there + 8)))  # two steps of 15 s
        for node in sorted(sim.nodes.values(), key=lambda n: -n.launched_at)[
            : max(0, there - highest)
        ]:
            sim.end(node)


class GithubRunner:
    """terraform-aws-github-runner: each queued job is an event that launches at once what it
    needs, whatever runs already; an event that finds no capacity is gone, and the next tick of an
    hourly pool mends it. Every 5 minutes machines that are idle and older than 5 minutes end."""

    name = "github-runner"
    every_s: float | None = 300.0
    idle_s: float | None = None

    def __init__(self) -> None:
        self._pooled_at = 0.0
        self._owed = 0.0

    def arrived(self, sim: Simulation, count: int) -> None:
        self._owed += count / SLOTS  # a machine for each 16 jobs: the original takes one each
        if self._owed >= 1 or not sim.nodes:
            needed = max(1, math.floor(self._owed))
            self._owed = max(0.0, self._owed - needed)
            sim.launch(needed)

    def look(self, sim: Simulation) -> None:
        for node in list(sim.nodes.values()):
            if sim.now - node.launched_at > 300 and not node.running:
                sim.end(node)
        if sim.now - self._pooled_at >= 3600:
            self._pooled_at = sim.now
            if sim.queue:
                sim.launch(math.ceil(len(sim.queue) / SLOTS) - len(sim.nodes))


class TargetTracking:
    """An Auto Scaling group that tracks backlog per instance (AWS: "Scaling policy based on
    Amazon SQS"). One reading a minute; above the target in 3 readings: capacity in proportion,
    from a minimum of 1; below nine tenths of it in 15: fewer, ending machines that may be at
    work. The target is what one machine does in an acceptable delay of 60 s."""

    name = "target tracking"
    every_s: float | None = 60.0
    idle_s: float | None = None
    acceptable_s = 60.0

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=15)

    def arrived(self, sim: Simulation, count: int) -> None:
        pass

    def look(self, sim: Simulation) -> None:
        mean_s = sim.finished_s / sim.done if sim.done else 5.0
        target = max(1.0, SLOTS * self.acceptable_s / mean_s)
        there = len(sim.nodes)
        if not there:
            _start_missing(sim, 1)
            return
        ratio = sim.waiting_seen / there / target
        self._ratios.append(ratio)
        recent = list(self._ratios)
        if len(recent) >= 3 and min(recent[-3:]) > 1:
            _start_missing(sim, math.ceil(there * ratio))
            self._ratios.clear()
        elif len(recent) == 15 and max(recent) < 0.9 and there > 1:
            keep = max(1, math.ceil(there * max(recent) / 0.9), there - max(1, there // 10))
            for node in sorted(sim.nodes.values(), key=lambda n: n.launched_at)[: there - keep]:
                sim.end(node)


class Clairvoyant:
    """Knows every duration, counts exactly, decides at once, and has no machine fail or be taken
    away; still no machine may be ordered before the work for it is there, and it boots as long as
    any other. Its parameters are chosen in hindsight, for each trace the best (`bound`): in how
    many seconds to drain, how many slots to keep for each that is busy, when to leave."""

    name = "clairvoyant bound"

    def __init__(self, target_s: float, idle_s: float, margin: float) -> None:
        self.every_s: float | None = 5.0
        self.idle_s: float | None = idle_s
        self._target_s = target_s
        self._margin = margin

    def arrived(self, sim: Simulation, count: int) -> None:  # noqa: ARG002
        self.look(sim)

    def look(self, sim: Simulation) -> None:
        if sim.done == len(sim.trace.at):  # it knows that no more will come
            for node in list(sim.nodes.values()):
                sim.end(node)
        slots = min(sim.waiting_s / self._target_s, len(sim.queue)) + self._margin * sim.running
        _start_missing(sim, max(math.ceil(slots / SLOTS), 1 if sim.queue else 0))


def contenders(world: World, threshold: int = 0) -> Iterator[Controller]:
    """A fresh one of each, ours first."""
    yield Taskfleet("taskfleet", every_s=15.0, nudged=True, idle_s=world.idle_s)
    yield Taskfleet(
        "threshold (2014)",
        every_s=60.0,
        nudged=False,
        idle_s=world.idle_s,
        policy="threshold",
        threshold=threshold,
    )
    yield Keda()
    yield GithubRunner()
    yield TargetTracking()


TARGETS_S = (15.0, 30.0, 45.0, 60.0, 80.0, 110.0)
IDLES_S = (0.0, 45.0)
MARGINS = (0.0, 1.0, 2.0, 3.0)


def plans(trace: Trace) -> Iterator[Clairvoyant]:
    """What the clairvoyant may choose from. With more work than all machines can drain in time,
    as a million tasks are, only the number of machines matters."""
    if len(trace.at) >= 1_000_000:
        for target_s in (60.0, 140.0, 200.0, 280.0):
            yield Clairvoyant(target_s, 0.0, 0.0)
        return
    for target_s in TARGETS_S:
        for idle_s in IDLES_S:
            for margin in MARGINS:
                yield Clairvoyant(target_s, idle_s, margin)


def bound(trace: Trace, world: World) -> Outcome:
    """The least cost x wait of all plans of the clairvoyant."""
    kind = replace(world, boot_failure=0.0, spot_per_h=0.0, stale_s=0.0)
    outcomes = (Simulation(trace, kind, plan).run() for plan in plans(trace))
    return min(outcomes, key=lambda outcome: outcome.cost_x_wait)
