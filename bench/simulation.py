"""A fleet in virtual time: tasks arrive, machines boot, run them, fail, are taken away and leave.
Owns the events and the bill; who decides how many machines there are is a `Controller`
(`bench.policies`), which runs the project's own policy code.

One heap entry a task: a million tasks on a thousand machines take seconds.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

SLOTS = 16
PRICE_USD_H = 0.0725
"""c7g.large, on demand, us-east-1."""
BILLED_MIN_S = 60.0
"""EC2 bills by the second, a minute at least."""
AFTERMATH_S = 600.0
"""For how long after the last task machines are still billed, so that policies which keep some for
good are not charged for the length of the simulation."""
BEAT_S = 15.0
"""How old a worker's record may be."""


@dataclass(frozen=True)
class Trace:
    """Tasks in order of arrival. `droughts`: (from, to) in which no launch succeeds."""

    name: str
    at: np.ndarray
    seconds: np.ndarray
    max_capacity: int = 100
    droughts: Sequence[tuple[float, float]] = ()

    @property
    def end(self) -> float:
        return float(self.at[-1]) if len(self.at) else 0.0


@dataclass(frozen=True)
class World:
    """What goes wrong. `stale_s`: how old a count of the queue may be. `spot_per_h`: interruptions
    of a machine in an hour (many: most types see less than that in a day), with a notice of
    `notice_s`."""

    boot_s: tuple[float, float] = (25.0, 55.0)
    boot_failure: float = 0.02
    stale_s: float = 30.0
    spot_per_h: float = 0.05
    notice_s: float = 120.0
    idle_s: float = 45.0
    seed: int = 1


class Node:
    """A machine. `epoch` makes outdated idle checks recognisable."""

    __slots__ = (
        "boot_failed",
        "ended_at",
        "epoch",
        "free",
        "idle_since",
        "launched_at",
        "leaving",
        "live_at",
        "marked_at",
        "number",
        "place",
        "running",
        "started",
    )

    def __init__(self, number: int, launched_at: float, boot_failed: bool) -> None:
        self.number = number
        self.launched_at = launched_at
        self.boot_failed = boot_failed
        self.live_at: float | None = None
        self.idle_since = 0.0
        self.ended_at: float | None = None
        self.marked_at: float | None = None
        self.leaving = False
        self.free = SLOTS
        self.started = 0
        self.running: set[int] = set()
        self.epoch = 0
        self.place = -1
        """In the list of those with free slots; -1 when not there."""


class Controller(Protocol):
    """Decides. `every_s`: how often `look` is called; None for never. `idle_s`: after how long an
    idle machine ends itself; None for never."""

    name: str
    every_s: float | None
    idle_s: float | None

    def look(self, sim: Simulation) -> None: ...

    def arrived(self, sim: Simulation, count: int) -> None: ...


@dataclass
class Outcome:
    policy: str
    trace: str
    cost_usd: float
    mean_wait_s: float
    p95_wait_s: float
    machines: int
    peak: int
    refused: int
    reruns: int
    seconds: float
    samples: list[tuple[float, int, int]] = field(default_factory=list)
    """(time, waiting, machines), for the plot."""

    @property
    def cost_x_wait(self) -> float:
        return self.cost_usd * self.mean_wait_s


class Simulation:
    """One run. Controllers read `now`, `waiting_seen`, `nodes` and call `launch`, `end`,
    `retire`."""

    def __init__(self, trace: Trace, world: World, controller: Controller) -> None:
        self.trace, self.world, self.controller = trace, world, controller
        self.now = 0.0
        self.rng = random.Random(world.seed)
        self._boot_rng = random.Random(world.seed + 1)
        self._events: list[tuple[float, int, str, object, int]] = []
        self._number = 0
        self.queue: deque[int] = deque()
        self.waiting_s = 0.0
        """Seconds of work in the queue: nobody but a clairvoyant can know."""
        self.nodes: dict[int, Node] = {}
        self.ended: list[Node] = []
        self._ready: list[Node] = []
        self.running = 0
        self.done = 0
        self.arrived = 0
        self.batches = 0
        self.refused = 0
        self.reruns = 0
        self.peak = 0
        self.finished_s = 0.0
        """Seconds of work that finished, and `done` how many tasks: what workers learn."""
        self.started_at = np.full(len(trace.at), np.nan)
        self._counts: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._seconds = trace.seconds.tolist()
        self._version = [0] * len(trace.at)
        self._samples: list[tuple[float, int, int]] = []

    # --- what a controller sees and does --------------------------------------------------------

    @property
    def waiting_seen(self) -> int:
        """The count as the queue tells it: of some moment within the last `stale_s`."""
        moment = self.now - self.rng.uniform(0, self.world.stale_s)
        for at, count in reversed(self._counts):
            if at <= moment:
                return count
        return self._counts[0][1]

    def launch(self, count: int) -> int:
        """Ask for machines; returns how many came."""
        if any(start <= self.now < end for start, end in self.trace.droughts):
            self.refused += count
            return 0
        granted = max(0, min(count, self.trace.max_capacity - len(self.nodes)))
        for _ in range(granted):
            node = Node(
                len(self.nodes) + len(self.ended),
                self.now,
                self._boot_rng.random() < self.world.boot_failure,
            )
            boot_s = self._boot_rng.uniform(*self.world.boot_s)
            self.nodes[node.number] = node
            if not node.boot_failed:
                self._push(self.now + boot_s, "boot", node)
                if self.world.spot_per_h:
                    life_s = self.rng.expovariate(self.world.spot_per_h / 3600)
                    self._push(self.now + life_s, "notice", node)
        self.peak = max(self.peak, len(self.nodes))
        return granted

    def end(self, node: Node) -> None:
        """End a machine at once; what it runs goes back to the queue, to be run anew."""
        if node.ended_at is not None:
            return
        node.ended_at = self.now
        self._unready(node)
        for task in sorted(node.running, reverse=True):
            self._version[task] += 1
            self.queue.appendleft(task)
            self.waiting_s += self._seconds[task]
            self.reruns += 1
        self.running -= len(node.running)
        node.running.clear()
        del self.nodes[node.number]
        self.ended.append(node)
        self._assign()

    def retire(self, node: Node) -> None:
        """Ask a machine to leave: it takes no more tasks and ends when it has none."""
        node.leaving = True
        self._unready(node)
        if node.live_at is not None and not node.running:
            self.end(node)

    # --- the run --------------------------------------------------------------------------------

    def run(self, horizon_s: float = 4 * 3600.0) -> Outcome:
        """To the last machine's end, at most `AFTERMATH_S` after that of the last task and
        `horizon_s` after the last arrival."""
        self._plan_arrivals()
        if self.controller.every_s is not None:
            self._push(self.rng.uniform(0, self.controller.every_s), "look", None)
        total, stop_at = len(self.trace.at), self.trace.end + horizon_s
        while self._events:
            now, _, what, subject, extra = heapq.heappop(self._events)
            if now > stop_at or (self.done == total and not self.nodes):
                break
            self.now = now
            getattr(self, "_on_" + what)(subject, extra)
            if self.done == total:
                stop_at = min(stop_at, now + AFTERMATH_S)
        self.now = max(self.now, self.trace.end)
        for node in list(self.nodes.values()):
            node.ended_at = self.now
            self.ended.append(node)
        return self._outcome()

    def _outcome(self) -> Outcome:
        lives = [max((n.ended_at or self.now) - n.launched_at, BILLED_MIN_S) for n in self.ended]
        waits = np.where(np.isnan(self.started_at), self.now, self.started_at) - self.trace.at
        return Outcome(
            policy=self.controller.name,
            trace=self.trace.name,
            cost_usd=sum(lives) / 3600 * PRICE_USD_H,
            mean_wait_s=float(waits.mean()),
            p95_wait_s=float(np.percentile(waits, 95)),
            machines=len(self.ended),
            peak=self.peak,
            refused=self.refused,
            reruns=self.reruns,
            seconds=self.now,
            samples=self._samples,
        )

    def _push(self, at: float, what: str, subject: object, extra: int = 0) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, what, subject, extra))

    def _plan_arrivals(self) -> None:
        """Tasks of one moment arrive as one event."""
        moments, starts = np.unique(self.trace.at, return_index=True)
        ends = [*starts[1:].tolist(), len(self.trace.at)]
        for moment, start, end in zip(moments.tolist(), starts.tolist(), ends, strict=True):
            self._push(moment, "arrive", range(start, end))

    # --- events ---------------------------------------------------------------------------------

    def _on_arrive(self, tasks: object, _extra: int) -> None:
        assert isinstance(tasks, range)
        self.queue.extend(tasks)
        self.waiting_s += sum(self._seconds[tasks.start : tasks.stop])
        self.arrived += len(tasks)
        self.batches += 1
        self._assign()
        self._note_count()
        self.controller.arrived(self, len(tasks))

    def _on_look(self, _subject: object, _extra: int) -> None:
        self._note_count()
        self.controller.look(self)
        self._samples.append((self.now, len(self.queue), len(self.nodes)))
        if self.controller.every_s is not None:
            self._push(self.now + self.controller.every_s, "look", None)

    def _on_boot(self, node: object, _extra: int) -> None:
        assert isinstance(node, Node)
        if node.ended_at is not None:
            return
        node.live_at = self.now
        if node.leaving:
            self.end(node)
            return
        self._make_ready(node)
        self._become_idle(node)
        self._assign()

    def _on_notice(self, node: object, _extra: int) -> None:
        """The worker drains; what has not ended within the notice is handed back."""
        assert isinstance(node, Node)
        if node.ended_at is None:
            self._push(self.now + self.world.notice_s, "interrupt", node)
            self.retire(node)

    def _on_interrupt(self, node: object, _extra: int) -> None:
        assert isinstance(node, Node)
        self.end(node)

    def _on_idle(self, node: object, epoch: int) -> None:
        assert isinstance(node, Node)
        if node.ended_at is None and node.epoch == epoch and not node.running:
            self.end(node)

    def _on_finish(self, subject: object, version: int) -> None:
        assert isinstance(subject, tuple)
        node, task = subject
        if self._version[task] != version or node.ended_at is not None:
            return
        node.running.discard(task)
        self.running -= 1
        self.done += 1
        self.finished_s += self._seconds[task]
        if node.leaving:
            if not node.running:
                self.end(node)
            return
        node.free += 1
        if self.queue:
            self._start(node, self.queue.popleft())
            return
        self._make_ready(node)
        if not node.running:
            self._become_idle(node)

    # --- slots ----------------------------------------------------------------------------------

    def _assign(self) -> None:
        """Whoever polls first gets it: no machine is preferred."""
        while self.queue and self._ready:
            node = self._ready[int(self.rng.random() * len(self._ready))]
            self._start(node, self.queue.popleft())

    def _start(self, node: Node, task: int) -> None:
        node.running.add(task)
        node.started += 1
        node.free -= 1
        node.epoch += 1
        self.running += 1
        self.waiting_s -= self._seconds[task]
        self.started_at[task] = self.now
        if node.free == 0:
            self._unready(node)
        self._push(self.now + self._seconds[task], "finish", (node, task), self._version[task])

    def _make_ready(self, node: Node) -> None:
        if node.place < 0 and node.free > 0 and not node.leaving:
            node.place = len(self._ready)
            self._ready.append(node)

    def _unready(self, node: Node) -> None:
        if node.place >= 0:
            last = self._ready.pop()
            if last is not node:
                self._ready[node.place] = last
                last.place = node.place
            node.place = -1

    def _become_idle(self, node: Node) -> None:
        node.idle_since = self.now
        if self.controller.idle_s is not None:
            self._push(self.now + self.controller.idle_s, "idle", node, node.epoch)

    def _note_count(self) -> None:
        self._counts.append((self.now, len(self.queue)))
        while len(self._counts) > 2 and self._counts[1][0] <= self.now - self.world.stale_s:
            self._counts.popleft()
