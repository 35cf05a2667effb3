"""A fleet in virtual time: tasks arrive; machines boot, run tasks, fail, are interrupted and end.
Owns the events and the bill. A `Policy` decides how many machines there are.

Each running task has one entry in the heap of events, so a million tasks on a thousand machines
take seconds.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from bench.nodes import FreeNodes, Node
from bench.scenario import BILLED_MIN_S, PRICE_USD_H, Outcome, Trace, World

AFTERMATH_S = 600.0
"""Machines are billed at most this many seconds after the last task ends, so that a policy which
keeps machines for good is not charged for the length of the simulation."""


class Policy(Protocol):
    """Decides how many machines there are.

    `decide` is called every `every_s` seconds, never if that is None; `on_arrival` is called when
    a batch of `count` tasks arrives. A machine that is idle for `idle_s` seconds ends itself, or
    never if that is None.
    """

    name: str
    every_s: float | None
    idle_s: float | None

    def decide(self, sim: Simulation) -> None: ...

    def on_arrival(self, sim: Simulation, count: int) -> None: ...


class Simulation:
    """One run of one policy on one trace.

    Policies read `now`, `nodes`, `queue`, `running` and `read_backlog`, and call `launch`, `end`
    and `retire`.
    """

    def __init__(self, trace: Trace, world: World, policy: Policy) -> None:
        self.trace, self.world, self.policy = trace, world, policy
        self.now = 0.0
        self.nodes: dict[int, Node] = {}
        """Machines that have not ended, by number, in order of launch."""
        self.queue: deque[int] = deque()
        """Indices of the tasks that wait."""
        self.queued_work_s = 0.0
        """Work in the queue, in slot-seconds. Only a clairvoyant policy can know it."""
        self.running = 0
        self.done = 0
        self.done_work_s = 0.0
        """Work of the tasks that are done, in slot-seconds; from it workers learn the pace."""
        self.arrived = 0
        self.batches = 0
        self.started_at = np.full(len(trace.at), np.nan)
        """Time of the last start of each task; NaN before it starts."""
        self._rng = random.Random(world.seed)
        self._boot_rng = random.Random(world.seed + 1)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._event_number = 0
        self._free = FreeNodes()
        self._ended: list[Node] = []
        self._refused = 0
        self._reruns = 0
        self._peak = 0
        self._counts: deque[tuple[float, int]] = deque([(0.0, 0)])
        self._seconds = trace.seconds.tolist()
        self._version = [0] * len(trace.at)
        """Reruns of each task, so that the end of an interrupted run can be recognised."""
        self._samples: list[tuple[float, int, int]] = []

    # --- for policies ---------------------------------------------------------------------------

    def read_backlog(self) -> int:
        """Return the number of waiting tasks as the queue reports it. Each call draws anew how old
        the number is, up to `World.stale_s`."""
        moment = self.now - self._rng.uniform(0, self.world.stale_s)
        for at, count in reversed(self._counts):
            if at <= moment:
                return count
        return self._counts[0][1]

    def launch(self, count: int) -> int:
        """Ask for machines. Returns how many were launched."""
        if any(start <= self.now < end for start, end in self.trace.droughts):
            self._refused += count
            return 0
        granted = max(0, min(count, self.trace.max_capacity - len(self.nodes)))
        for _ in range(granted):
            number = len(self.nodes) + len(self._ended)
            boot_failed = self._boot_rng.random() < self.world.boot_failure
            boot_s = self._boot_rng.uniform(*self.world.boot_s)
            node = self.nodes[number] = Node(number, self.now, boot_failed)
            if not boot_failed:
                self.schedule(self.now + boot_s, self._on_boot, node)
                if self.world.spot_per_h:
                    life_s = self._rng.expovariate(self.world.spot_per_h / 3600)
                    self.schedule(self.now + life_s, self._on_notice, node)
        self._peak = max(self._peak, len(self.nodes))
        return granted

    def end(self, node: Node) -> None:
        """End a machine at once. Its running tasks return to the head of the queue."""
        if node.ended_at is not None:
            return
        node.ended_at = self.now
        self._free.remove(node)
        for task in sorted(node.running, reverse=True):
            self._version[task] += 1
            self.queue.appendleft(task)
            self.queued_work_s += self._seconds[task]
            self._reruns += 1
        self.running -= len(node.running)
        node.running.clear()
        del self.nodes[node.number]
        self._ended.append(node)
        self._assign()

    def retire(self, node: Node) -> None:
        """Ask a machine to leave. It takes no more tasks and ends when it runs none."""
        node.leaving = True
        self._free.remove(node)
        if node.live_at is not None and not node.running:
            self.end(node)

    # --- the run --------------------------------------------------------------------------------

    def run(self, horizon_s: float = 4 * 3600.0) -> Outcome:
        """Run until all tasks are done and all machines have ended, but at most `AFTERMATH_S` after
        the last task ends and `horizon_s` after the last arrival."""
        self._schedule_arrivals()
        if self.policy.every_s is not None:
            self.schedule(self._rng.uniform(0, self.policy.every_s), self._on_decision)
        total, stop_at = len(self.trace.at), self.trace.end + horizon_s
        while self._events:
            now, _, handle, arguments = heapq.heappop(self._events)
            if now > stop_at or (self.done == total and not self.nodes):
                break
            self.now = now
            handle(*arguments)
            if self.done == total:
                stop_at = min(stop_at, now + AFTERMATH_S)
        self.now = max(self.now, self.trace.end)
        for node in list(self.nodes.values()):
            node.ended_at = self.now
            self._ended.append(node)
        return self._outcome()

    def _outcome(self) -> Outcome:
        lives = [max((n.ended_at or self.now) - n.launched_at, BILLED_MIN_S) for n in self._ended]
        waits = np.where(np.isnan(self.started_at), self.now, self.started_at) - self.trace.at
        return Outcome(
            policy=self.policy.name,
            trace=self.trace.name,
            cost_usd=sum(lives) / 3600 * PRICE_USD_H,
            mean_wait_s=float(waits.mean()),
            p95_wait_s=float(np.percentile(waits, 95)),
            machines=len(self._ended),
            peak=self._peak,
            refused=self._refused,
            reruns=self._reruns,
            seconds=self.now,
            samples=self._samples,
        )

    def schedule(self, at: float, handle: Callable[..., None], *arguments: Any) -> None:
        """Call `handle(*arguments)` at the time `at`, after what was scheduled for it earlier."""
        self._event_number += 1
        heapq.heappush(self._events, (at, self._event_number, handle, arguments))

    def _schedule_arrivals(self) -> None:
        """Schedule one event for all tasks that arrive at the same time."""
        moments, starts = np.unique(self.trace.at, return_index=True)
        ends = [*starts[1:].tolist(), len(self.trace.at)]
        for moment, start, end in zip(moments.tolist(), starts.tolist(), ends, strict=True):
            self.schedule(moment, self._on_arrival, range(start, end))

    # --- events ---------------------------------------------------------------------------------

    def _on_arrival(self, tasks: range) -> None:
        self.queue.extend(tasks)
        self.queued_work_s += sum(self._seconds[tasks.start : tasks.stop])
        self.arrived += len(tasks)
        self.batches += 1
        self._assign()
        self._record_count()
        self.policy.on_arrival(self, len(tasks))

    def _on_decision(self) -> None:
        self._record_count()
        self.policy.decide(self)
        self._samples.append((self.now, len(self.queue), len(self.nodes)))
        if self.policy.every_s is not None:
            self.schedule(self.now + self.policy.every_s, self._on_decision)

    def _on_boot(self, node: Node) -> None:
        if node.ended_at is not None:
            return
        node.live_at = self.now
        if node.leaving:
            self.end(node)
            return
        self._free.add(node)
        self._schedule_idle_check(node)
        self._assign()

    def _on_notice(self, node: Node) -> None:
        """The worker drains; a task that outlasts the notice returns to the queue."""
        if node.ended_at is None:
            self.schedule(self.now + self.world.notice_s, self.end, node)
            self.retire(node)

    def _on_idle_check(self, node: Node, epoch: int) -> None:
        if node.ended_at is None and node.epoch == epoch and not node.running:
            self.end(node)

    def _on_finish(self, node: Node, task: int, version: int) -> None:
        if self._version[task] != version or node.ended_at is not None:
            return
        node.running.discard(task)
        self.running -= 1
        self.done += 1
        self.done_work_s += self._seconds[task]
        if node.leaving:
            if not node.running:
                self.end(node)
            return
        node.free += 1
        if self.queue:
            self._start(node, self.queue.popleft())
            return
        self._free.add(node)
        if not node.running:
            self._schedule_idle_check(node)

    # --- steps of events ------------------------------------------------------------------------

    def _assign(self) -> None:
        """Start waiting tasks while there are free slots."""
        while self.queue and self._free:
            self._start(self._free.draw(self._rng), self.queue.popleft())

    def _start(self, node: Node, task: int) -> None:
        node.running.add(task)
        node.started += 1
        node.free -= 1
        node.epoch += 1
        self.running += 1
        self.queued_work_s -= self._seconds[task]
        self.started_at[task] = self.now
        if node.free == 0:
            self._free.remove(node)
        ends_at = self.now + self._seconds[task]
        self.schedule(ends_at, self._on_finish, node, task, self._version[task])

    def _schedule_idle_check(self, node: Node) -> None:
        if self.policy.idle_s is not None:
            self.schedule(self.now + self.policy.idle_s, self._on_idle_check, node, node.epoch)

    def _record_count(self) -> None:
        """Keep the queue's length for `read_backlog`, and forget those that are too old for it."""
        self._counts.append((self.now, len(self.queue)))
        while len(self._counts) > 2 and self._counts[1][0] <= self.now - self.world.stale_s:
            self._counts.popleft()
