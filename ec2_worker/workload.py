"""What the worker has in hand: claimed bundles, and which of their tasks run. Owns who gets the
next task; not its execution (`ec2_worker.execute`) nor the protocol (`ec2_worker.protocol`).

A bundle is not bound to a thread: every free slot takes the next tasks of whatever bundle is in
hand, a *chunk* at a time, so that a thousand no-ops cost one round of the lock and a bundle of
long tasks spreads over all slots.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ec2_worker.claimed import Holding
from taskfleet.bundle import BUNDLE_MAX_S, QUICKEST_TASK_S
from taskfleet.pace import Pace, Sample
from taskfleet.ports import Message
from taskfleet.task import Task

CHUNK_S = 0.02
"""Expected work that a slot takes at a time: long against a lock, short against a human."""
PREFETCH_S = 0.25
"""How far ahead the intake looks, so that no slot waits for a round trip: a slot that will be free
within this time counts as free, in part, and a waiting task that is shorter fills a slot in part.
"""
ROUND_TRIP_S = 0.08
"""For a message to come and be claimed: a slot that will be free within this time counts as free.
"""
MAX_HOLDINGS = 32
"""Bundles in hand at most, whatever their size: the rest is for other workers."""
OVERSTAY_S = 2 * BUNDLE_MAX_S
"""A bundle whose tasks have not all been started by then took longer than anybody thought: what is
left of it is given back, for workers that have a free slot."""


@dataclass(eq=False)
class Chunk:
    """Tasks of one kind that a slot runs one after the other, expected to be done at `ends_at`."""

    holding: Holding
    kind: str
    tasks: list[Task]
    ends_at: float | None = None


@dataclass
class Workload:
    """`threads` slots; `limits` caps how many tasks of a kind run at a time; `expected_s` gives
    the seconds that a kind itself expects of a task, or None; `now` is the clock's."""

    threads: int
    limits: Mapping[str, int]
    expected_s: Callable[[Task], float | None]
    now: Callable[[], float] = time.time
    _holdings: dict[str, Holding] = field(default_factory=dict)
    _running: Counter[str] = field(default_factory=Counter)
    _chunks: set[Chunk] = field(default_factory=set)
    _paces: dict[str, Pace] = field(default_factory=dict)
    _incoming: int = 0
    _starting: bool = True
    _message_slots: float = 1.0
    _claimed: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._emptied_at = self.now()

    # --- the slots' side ---------------------------------------------------------------------

    def take(self, *, wait: bool = True) -> Chunk | None:
        """The next chunk for a slot; waits for one if told to. None when there is none, or no
        more tasks are to be started."""
        with self._work:
            while self._starting:
                for holding in self._holdings.values():
                    if not holding.pending or holding.leaving:
                        continue
                    if not self._at_limit(holding.pending[0].kind):
                        return self._cut(holding)
                if not wait:
                    break
                self._work.wait()
            return None

    def _at_limit(self, kind: str) -> bool:
        return self._running[kind] >= self.limits.get(kind, self.threads)

    def _cut(self, holding: Holding) -> Chunk:
        pending = holding.pending
        kind = pending[0].kind
        work_s = 0.0
        tasks: list[Task] = []
        while pending and pending[0].kind == kind:
            seconds = self._seconds(pending[0])
            each_s = CHUNK_S if seconds is None else max(seconds, QUICKEST_TASK_S)
            if tasks and work_s + each_s > CHUNK_S:
                break
            work_s += each_s
            tasks.append(pending.popleft())
        ends_at = None if seconds is None else self.now() + work_s
        chunk = Chunk(holding, kind, tasks, ends_at)
        holding.taken += len(tasks)
        self._running[kind] += 1
        self._chunks.add(chunk)
        return chunk

    def _seconds(self, task: Task) -> float | None:
        seconds = self.expected_s(task)
        if seconds is None and (pace := self._paces.get(task.kind)):
            return pace.mean_s
        return seconds

    def done(self, chunk: Chunk, rest: list[Task], elapsed_s: float) -> bool:
        """The slot is free again; `rest` was not started. True when nothing of the bundle is left
        to run here, so that the caller must settle it."""
        with self._lock:
            holding = chunk.holding
            self._running[chunk.kind] -= 1
            self._chunks.remove(chunk)
            self._learn(chunk.kind, len(chunk.tasks) - len(rest), elapsed_s)
            holding.taken -= len(chunk.tasks)
            holding.pending.extendleft(reversed(rest))
            if rest or chunk.kind in self.limits:
                self._work.notify_all()
            self._room.notify_all()
            return self._ready(holding)

    def _learn(self, kind: str, tasks: int, elapsed_s: float) -> None:
        if tasks:
            sample = Sample(tasks, elapsed_s, elapsed_s * elapsed_s / tasks)
            self._paces[kind] = self._paces.get(kind, Pace()).learn(sample)

    def _ready(self, holding: Holding) -> bool:
        """True, once, when nothing of the holding runs and nothing of it is to be started."""
        ends = holding.leaving or holding.stopped.is_set() or not self._starting
        if holding.taken or (holding.pending and not ends) or holding.settling or holding.lost:
            return False
        holding.settling = True
        return True

    # --- the intake's side -------------------------------------------------------------------

    def wait_for_room(self, timeout_s: float) -> int:
        """How many messages the free slots can take, 1 to 10; reserves their place, which each
        `add` or `give_up_room` fills. 0 when there was no room for so long."""
        with self._room:
            wanted = self._messages_wanted()
            if not wanted and self._starting:
                self._room.wait(min(timeout_s, self._next_free_s()))
                wanted = self._messages_wanted()
            self._incoming += wanted
            return wanted

    def has_room(self) -> bool:
        with self._lock:
            return self._messages_wanted() > 0

    def _messages_wanted(self) -> int:
        if not self._starting:
            return 0
        free = self.threads - self._running_slots() - self._pending_slots()
        free -= self._incoming * self._message_slots
        room = MAX_HOLDINGS - len(self._holdings) - self._incoming
        if free < min(1.0, self._message_slots) or room <= 0:
            return 0
        return max(1, min(10, room, int(free / self._message_slots)))

    def _running_slots(self) -> float:
        now = self.now()
        return sum(
            _share_left(None if c.ends_at is None else c.ends_at - now) for c in self._chunks
        )

    def _next_free_s(self) -> float:
        """Until the first running chunk comes within the intake's sight, if it is not yet there."""
        now = self.now()
        ahead = [c.ends_at - now - PREFETCH_S / 2 for c in self._chunks if c.ends_at is not None]
        return min((s for s in ahead if s > 0), default=PREFETCH_S) + 0.001

    def _pending_slots(self) -> float:
        return sum(holding.slots_each * len(holding.pending) for holding in self._holdings.values())

    def _slots_of(self, tasks: Iterable[Task]) -> float:
        """How many slots the tasks keep from other work; no-ops hardly any, long tasks one each."""
        return sum(_share(self._seconds(task)) for task in tasks)

    def give_up_room(self, messages: int) -> None:
        """So many of the reserved places stay empty."""
        with self._lock:
            self._incoming -= messages
            self._room.notify_all()

    def add(self, holding: Holding) -> bool:
        """Put a claimed bundle before the slots, in one reserved place. True when nothing of it is
        left to run, so that the caller must settle it."""
        with self._lock:
            self._incoming -= 1
            self._claimed += 1
            self._holdings[holding.bundle.job_id] = holding
            slots = self._slots_of(holding.pending)
            holding.slots_each = slots / max(1, len(holding.pending))
            self._message_slots += 0.2 * (max(slots, 0.01) - self._message_slots)
            self._work.notify_all()
            self._room.notify_all()  # it may hold less than a message was thought to
            return self._ready(holding)

    def adopt(self, job_id: str, message: Message) -> bool:
        """Whether the bundle is in hand already; the newer delivery's receipt is then the one that
        counts."""
        with self._lock:
            holding = self._holdings.get(job_id)
            if holding is None:
                return False
            holding.message = message
            return True

    def refuses(self, kinds: set[str]) -> bool:
        """Whether one of the kinds has its limit's worth in hand, so that another worker should
        have the bundle."""
        limited = kinds & set(self.limits)
        if not limited:
            return False
        with self._lock:
            pending = Counter(
                task.kind for holding in self._holdings.values() for task in holding.pending
            )
            return any(self._running[kind] + pending[kind] >= self.limits[kind] for kind in limited)

    # --- the keepers' side -------------------------------------------------------------------

    def holdings(self) -> list[Holding]:
        with self._lock:
            return list(self._holdings.values())

    def remove(self, holding: Holding) -> None:
        with self._lock:
            if self._holdings.get(holding.bundle.job_id) is holding:
                del self._holdings[holding.bundle.job_id]
                self._emptied_at = self.now()
            self._room.notify_all()

    def lose(self, holding: Holding) -> None:
        """The lease is gone: its running tasks must end, and nothing of it counts any more."""
        with self._lock:
            holding.lost = True
            holding.pending.clear()
        self.remove(holding)
        holding.stop()

    def cancel(self, batch_ids: set[str]) -> list[Holding]:
        """Tasks of these batches that were not started become CANCELLED. Returns the holdings that
        the caller must settle."""
        ready = []
        with self._lock:
            for holding in self._holdings.values():
                if holding.bundle.batch_id in batch_ids and holding.pending:
                    holding.cancel_pending()
                    if self._ready(holding):
                        ready.append(holding)
        return ready

    def give_back_overdue(self) -> list[Holding]:
        """Start nothing more of the bundles that overstay. Returns those of which none runs: the
        caller must settle them; the others become ready as their running tasks end."""
        overdue_at = self.now() - OVERSTAY_S
        with self._lock:
            ready = []
            for holding in self._holdings.values():
                if holding.pending and not holding.leaving and holding.taken_at <= overdue_at:
                    holding.leaving = True
                    if self._ready(holding):
                        ready.append(holding)
            return ready

    def stop_starting(self) -> list[Holding]:
        """Start no further task. Returns the holdings of which none runs: the caller must settle
        them; the others become ready as their running tasks end."""
        with self._lock:
            self._starting = False
            self._work.notify_all()
            self._room.notify_all()
            return [holding for holding in self._holdings.values() if self._ready(holding)]

    def abandon(self) -> list[Holding]:
        """Give up on tasks that do not end: returns their holdings, for the caller to settle."""
        with self._lock:
            left = [h for h in self._holdings.values() if not h.settling]
            for holding in left:
                holding.settling = True
            return left

    def idle_since(self) -> float | None:
        """When the last bundle left the hand; None while there is one."""
        with self._lock:
            return None if self._holdings else self._emptied_at

    def wait_empty(self, timeout_s: float) -> bool:
        """Whether nothing is in hand any more within the time."""
        with self._room:
            return self._room.wait_for(lambda: not self._holdings, timeout_s)

    def census(self) -> tuple[dict[str, int], dict[str, int], int]:
        """For the worker's record: slots at work and tasks in hand before them, both by kind, and
        the bundles claimed since the start."""
        with self._lock:
            pending: Counter[str] = Counter()
            for holding in self._holdings.values():
                pending.update(task.kind for task in holding.pending)
            running = {kind: count for kind, count in self._running.items() if count}
            return running, dict(pending), self._claimed

    def snapshot(self) -> dict[str, Any]:
        """For the log: bundles in hand, tasks running, tasks waiting."""
        with self._lock:
            return {
                "holdings": len(self._holdings),
                "running": sum(self._running.values()),
                "pending": sum(len(h.pending) for h in self._holdings.values()),
            }


def _share(seconds: float | None) -> float:
    """Of a slot: what work of so many seconds keeps of it from work that arrives within the
    intake's sight. Work of which nobody knows keeps all of it."""
    if seconds is None or seconds >= PREFETCH_S:
        return 1.0
    return max(seconds, QUICKEST_TASK_S) / PREFETCH_S


def _share_left(seconds: float | None) -> float:
    """The same for work that runs and has so many seconds left; overdue work keeps all of its
    slot, since nobody knows any more."""
    if seconds is None or seconds < 0:
        return 1.0
    return min(1.0, max(0.0, seconds - ROUND_TRIP_S) / (PREFETCH_S - ROUND_TRIP_S))
