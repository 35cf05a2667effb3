"""The policies that the simulation compares: Taskfleet's own provisioner, what users would have
instead with its documented defaults, and a clairvoyant. Owns their rules; `bench.simulation` owns
the fleet.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from bench.scenario import PRICE_USD_H, SLOTS, Outcome, Trace, World
from bench.simulated_ports import REPORT_S, ports
from bench.simulation import Policy, Simulation
from taskfleet.provisioner.ports import ProvisionerPorts
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.settings import Settings

NUDGE_TASKS = 64
"""Size of a batch, in tasks, that starts a round of the provisioner at once."""


class Taskfleet:
    """The project's own provisioner on the simulated fleet.

    It makes a round every `every_s` seconds. If `nudged`, it also makes one at once when a batch
    of `NUDGE_TASKS` arrives, and when any batch arrives while there is no machine. `settings` are
    fields of `taskfleet.settings.Settings`; `connect` gives the ports of a simulation. One object
    serves one simulation.
    """

    def __init__(
        self,
        name: str,
        *,
        every_s: float,
        nudged: bool,
        connect: Callable[[Simulation], ProvisionerPorts] = ports,
        **settings: Any,
    ) -> None:
        self.name = name
        self.every_s: float | None = every_s
        self.idle_s: float | None = settings["idle_s"]
        self._settings = settings
        self._nudged = nudged
        self._connect = connect
        self._provisioner: Provisioner | None = None

    def on_arrival(self, sim: Simulation, count: int) -> None:
        if self._nudged and (not sim.nodes or count >= NUDGE_TASKS):
            self.decide(sim)

    def decide(self, sim: Simulation) -> None:
        if self._provisioner is None:
            self._provisioner = Provisioner(self._connect(sim), self.conf(sim))
        self._provisioner.round()

    def conf(self, sim: Simulation) -> Settings:
        """The settings of the provisioner."""
        return Settings(
            max_capacity=sim.trace.max_capacity,
            slots=SLOTS,
            instance_usd_per_hour=PRICE_USD_H,
            beat_s=REPORT_S,
            **self._settings,
        )


class Keda:
    """KEDA's SQS scaler on a deployment of 16-slot pods, each on a node of its own.

    It polls every 30 s. Desired pods = ceil((visible + in flight) / target), where the target is
    one machine's slots rather than KEDA's default of 5. The autoscaler at most doubles, or adds 4
    pods, in 15 s. Before it shrinks it takes the highest number that was desired in the last
    300 s. It shrinks by removing any pod, busy or not.
    """

    name = "KEDA"
    every_s: float | None = 30.0
    idle_s: float | None = None

    def __init__(self) -> None:
        self._desired: deque[tuple[float, int]] = deque()

    def on_arrival(self, sim: Simulation, count: int) -> None:
        pass

    def decide(self, sim: Simulation) -> None:
        self._desired.append((sim.now, math.ceil((sim.read_backlog() + sim.running) / SLOTS)))
        while self._desired[0][0] < sim.now - 300:
            self._desired.popleft()
        present = len(sim.nodes)
        highest = max(desired for _, desired in self._desired)
        if highest > present:
            # Two steps of 15 s.
            _launch_up_to(sim, min(highest, max(present * 4, present + 8)))
        youngest_first = sorted(sim.nodes.values(), key=lambda node: -node.launched_at)
        for node in youngest_first[: max(0, present - highest)]:
            sim.end(node)


class GithubRunner:
    """terraform-aws-github-runner.

    Each queued job is an event that launches at once what it needs, whatever runs already. An
    event that finds no capacity is lost; the next tick of an hourly pool makes up for it. Every 5
    minutes, idle machines older than 5 minutes are ended.
    """

    name = "github-runner"
    every_s: float | None = 300.0
    idle_s: float | None = None

    def __init__(self) -> None:
        self._pooled_at = 0.0
        self._owed = 0.0

    def on_arrival(self, sim: Simulation, count: int) -> None:
        self._owed += count / SLOTS  # One machine for 16 jobs; the original takes one for each.
        if self._owed >= 1 or not sim.nodes:
            needed = max(1, math.floor(self._owed))
            self._owed = max(0.0, self._owed - needed)
            sim.launch(needed)

    def decide(self, sim: Simulation) -> None:
        for node in list(sim.nodes.values()):
            if sim.now - node.launched_at > 300 and not node.running:
                sim.end(node)
        if sim.now - self._pooled_at >= 3600:
            self._pooled_at = sim.now
            if sim.queue:
                sim.launch(math.ceil(len(sim.queue) / SLOTS) - len(sim.nodes))


class TargetTracking:
    """An Auto Scaling group that tracks the backlog per instance (AWS, "Scaling policy based on
    Amazon SQS").

    It reads the backlog once a minute. Three readings above the target: capacity grows in
    proportion, from a minimum of 1. Fifteen readings below nine tenths of the target: capacity
    shrinks, and the machines that are ended may be busy. The target is what one machine does in an
    acceptable delay of 60 s.
    """

    name = "target tracking"
    every_s: float | None = 60.0
    idle_s: float | None = None
    acceptable_s = 60.0

    def __init__(self) -> None:
        self._ratios: deque[float] = deque(maxlen=15)

    def on_arrival(self, sim: Simulation, count: int) -> None:
        pass

    def decide(self, sim: Simulation) -> None:
        mean_s = sim.done_work_s / sim.done if sim.done else 5.0
        target = max(1.0, SLOTS * self.acceptable_s / mean_s)
        present = len(sim.nodes)
        if not present:
            _launch_up_to(sim, 1)
            return
        ratio = sim.read_backlog() / present / target
        self._ratios.append(ratio)
        recent = list(self._ratios)
        if len(recent) >= 3 and min(recent[-3:]) > 1:
            _launch_up_to(sim, math.ceil(present * ratio))
            self._ratios.clear()
        elif len(recent) == 15 and max(recent) < 0.9 and present > 1:
            in_proportion = math.ceil(present * max(recent) / 0.9)
            kept = max(1, in_proportion, present - max(1, present // 10))
            oldest_first = sorted(sim.nodes.values(), key=lambda node: node.launched_at)
            for node in oldest_first[: present - kept]:
                sim.end(node)


def _launch_up_to(sim: Simulation, desired: int) -> None:
    """Launch the machines that are missing to `desired`, within the trace's limit."""
    sim.launch(min(desired, sim.trace.max_capacity) - len(sim.nodes))


def contenders(world: World, threshold: int = 0) -> Iterator[Policy]:
    """A new object of each policy that can exist, Taskfleet's own first. `threshold` is that of
    2014's rule, in tasks."""
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


# --- the clairvoyant --------------------------------------------------------------------------

TARGETS_S = (15.0, 30.0, 45.0, 60.0, 80.0, 110.0)
MILLION_TARGETS_S = (60.0, 140.0, 200.0, 280.0)
IDLES_S = (0.0, 45.0)
MARGINS = (0.0, 1.0, 2.0, 3.0)


class Clairvoyant:
    """Knows every duration, counts exactly, decides at once, and loses no machine.

    Even so, it may not launch a machine before the work for it has arrived, and its machines take
    as long to boot as any. `bound` chooses its parameters in hindsight: it drains the queue in
    `target_s` seconds, keeps `margin` slots for each busy one, and its machines end when idle for
    `idle_s` seconds.
    """

    name = "clairvoyant bound"

    def __init__(self, target_s: float, idle_s: float, margin: float) -> None:
        self.every_s: float | None = 5.0
        self.idle_s: float | None = idle_s
        self._target_s = target_s
        self._margin = margin

    def on_arrival(self, sim: Simulation, count: int) -> None:  # noqa: ARG002 - part of the protocol
        self.decide(sim)

    def decide(self, sim: Simulation) -> None:
        if sim.done == len(sim.trace.at):  # It knows that no more tasks will arrive.
            for node in list(sim.nodes.values()):
                sim.end(node)
        draining = min(sim.queued_work_s / self._target_s, len(sim.queue))
        slots = draining + self._margin * sim.running
        _launch_up_to(sim, max(math.ceil(slots / SLOTS), 1 if sim.queue else 0))


def plans(trace: Trace) -> Iterator[Clairvoyant]:
    """The parameters that `bound` tries. With a million tasks, more than all machines can drain in
    time, only the number of machines matters."""
    if len(trace.at) >= 1_000_000:
        for target_s in MILLION_TARGETS_S:
            yield Clairvoyant(target_s, 0.0, 0.0)
        return
    for target_s in TARGETS_S:
        for idle_s in IDLES_S:
            for margin in MARGINS:
                yield Clairvoyant(target_s, idle_s, margin)


def bound(trace: Trace, world: World) -> Outcome:
    """The outcome of the clairvoyant's plan with the least cost times wait, without faults."""
    faultless = replace(world, boot_failure=0.0, spot_per_h=0.0, stale_s=0.0)
    outcomes = (Simulation(trace, faultless, plan).run() for plan in plans(trace))
    return min(outcomes, key=lambda outcome: outcome.cost_x_wait)
