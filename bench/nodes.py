"""The machines of the simulated fleet and which of them have free slots. Owns the state of a
machine; `bench.simulation` owns the events that change it.
"""

from __future__ import annotations

import random

from bench.scenario import SLOTS


class Node:
    """One machine. Times are in simulated seconds; None means that it has not happened."""

    __slots__ = (
        "boot_failed",
        "ended_at",
        "epoch",
        "free",
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
        self.ended_at: float | None = None
        self.marked_at: float | None = None
        self.leaving = False
        self.free = SLOTS
        """Slots without a task."""
        self.started = 0
        """Tasks that were started here."""
        self.running: set[int] = set()
        self.epoch = 0
        """Changes with each start, so that an outdated idle check can be recognised."""
        self.place = -1
        """Index in the list of `FreeNodes`; -1 if it is not there."""


class FreeNodes:
    """The machines that have a free slot. Adding, removing and drawing take constant time."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []

    def __bool__(self) -> bool:
        return bool(self._nodes)

    def draw(self, rng: random.Random) -> Node:
        """Return a random machine: whichever polls first takes the task."""
        return self._nodes[int(rng.random() * len(self._nodes))]

    def add(self, node: Node) -> None:
        """Add a machine, unless it is there, is full or is leaving."""
        if node.place < 0 and node.free > 0 and not node.leaving:
            node.place = len(self._nodes)
            self._nodes.append(node)

    def remove(self, node: Node) -> None:
        """Remove a machine, if it is there. The last of the list takes its place."""
        if node.place >= 0:
            last = self._nodes.pop()
            if last is not node:
                self._nodes[node.place] = last
                last.place = node.place
            node.place = -1
