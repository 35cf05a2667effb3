"""The worker's bundles in hand, and which of their tasks runs next. Executing belongs to
`ec2_worker.execute`, the protocol to `ec2_worker.protocol`, the arithmetic to `ec2_worker.room`.

A bundle is not bound to a thread. Every free slot takes the next tasks of whatever bundle is in
hand, a *chunk* at a time: a thousand no-ops cost one lock, and long tasks spread over all slots.
Careful bundles (`taskfleet.lease`) are the exception: of all of them together, one task runs at a
time, beside those of other bundles; alone in the worker, if the loss of it would fail the task.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ec2_worker import room
from ec2_worker.careful import Turn, turn
from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.stragglers import Durations, Race
from ec2_worker.turns import EVERY, Turns
from taskfleet.bundle import BUNDLE_MAX_S, QUICKEST_TASK_S
from taskfleet.pace import Pace, Sample
from taskfleet.ports import Message
from taskfleet.task import Task

CHUNK_S = 0.02
"""Least expected seconds of work in a chunk of several tasks: long against a lock."""
CHUNK_MAX_S = 0.1
"""Most expected seconds of work in such a chunk: short against a human."""
OVERSTAY_S = 2 * BUNDLE_MAX_S
"""Seconds after which the unstarted tasks of a bundle are given back: they took longer than
expected, and other workers may have a free slot."""


@dataclass(frozen=True)
class Census:
    """Counts of bundles in hand, of busy slots and waiting tasks by kind, of bundles ever claimed,
    and of tasks ever ended."""

    in_hand: int
    running: dict[str, int]
    pending: dict[str, int]
    claimed: int
    ended: int = 0


PACES_MAX = 1_000
"""Most paces that a worker remembers."""


@dataclass
class Workload:
    """The work in hand of a worker with `threads` slots. Its methods may be called from any thread.

    limits: most tasks of a kind that run at a time, for kinds that may not use all slots.
    expected_s: returns the seconds that its kind itself expects of each task, None where it says
        nothing.
    now: returns the time.
    pace_name: returns the name under which the durations of such tasks are learned.
    hedges: returns whether tasks of a kind may get a second copy (`ec2_worker.stragglers`).
    copied: called with the kind of a task that got one.
    """

    threads: int
    limits: Mapping[str, int]
    expected_s: Callable[[Sequence[Task]], list[float | None]]
    now: Callable[[], float] = time.time
    pace_name: Callable[[Task], str] = lambda task: task.kind
    hedges: Callable[[str], bool] = lambda _kind: False
    copied: Callable[[str], None] = lambda _kind: None
    _in_hand: dict[str, ClaimedBundle] = field(default_factory=dict)
    _running: Counter[str] = field(default_factory=Counter)
    _chunks: set[Chunk] = field(default_factory=set)
    _paces: dict[str, Pace] = field(default_factory=dict)
    _durations: Durations = field(default_factory=Durations)
    _incoming: Counter[bool] = field(default_factory=Counter)
    _waiting: Counter[bool] = field(default_factory=Counter)  # for room, by priority
    _looks: Turns = field(default_factory=Turns)
    _starts: Turns = field(default_factory=Turns)
    _starting: bool = True
    _slots_a_message: float = 1.0
    _claimed: int = 0
    _ended: int = 0

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._emptied_at = self.now()

    # --- called by the slots -----------------------------------------------------------------

    def take(self, *, wait: bool = True) -> Chunk | None:
        """Take the next chunk for a slot, waiting for one if told to. Returns None when there is
        none, or when no more tasks are to be started."""
        with self._work:
            while self._starting:
                careful = self._turn()
                for claimed in self._starts.order(self._in_hand.values()):
                    if not claimed.pending or claimed.leaving:
                        continue
                    if not careful.may_start(claimed, self._chunks):
                        continue
                    if not self._at_limit(claimed.pending[0].kind):
                        return self._cut(claimed)
                copy, look_again_s = self._copy_of_straggler()
                if copy is not None:
                    return self._begin(copy)
                if not wait:
                    break
                self._work.wait(look_again_s)
            return None

    def done(self, chunk: Chunk, rest: list[Task], elapsed_s: float) -> bool:
        """Give a slot back after its chunk, of which `rest` was not started. Returns whether the
        bundle is ready, so that the caller must settle it."""
        with self._lock:
            claimed = chunk.claimed
            self._running[chunk.kind] -= 1
            self._chunks.remove(chunk)
            if chunk.is_copy or chunk.lost:
                rest = []  # the task is the other slot's
            else:
                self._learn(chunk, len(chunk.tasks) - len(rest), elapsed_s)
                if chunk.race is not None and not rest:
                    self._durations.note(self.pace_name(chunk.tasks[0]), elapsed_s)
            if chunk.race is not None and all(c.race is not chunk.race for c in self._chunks):
                chunk.race.close()
            claimed.taken -= len(chunk.tasks)
            claimed.pending.extendleft(reversed(rest))
            if rest or chunk.race or chunk.kind in self.limits or self._turn().bundle:
                self._work.notify_all()
            # Threads that wake up for nothing take the processor from the tasks.
            if any(n and self._messages_wanted(high=high) for high, n in self._waiting.items()):
                self._room.notify_all()
            return self._becomes_ready(claimed)

    def _turn(self) -> Turn:
        return turn(self._in_hand.values(), self._chunks)

    def _at_limit(self, kind: str) -> bool:
        return self._running[kind] >= self.limits.get(kind, self.threads)

    def _cut(self, claimed: ClaimedBundle) -> Chunk:
        pending = claimed.pending
        kind, options = pending[0].kind, pending[0].options
        work_s = most_s = 0.0
        known = True
        tasks: list[Task] = []
        for task in pending:
            if task.kind != kind or task.options != options:
                break
            seconds = claimed.expected_s.get(task.index)
            if seconds is None:
                seconds = self._learned_s(claimed.paces.get(task.index))
            each_s = CHUNK_S if seconds is None else max(seconds, QUICKEST_TASK_S)
            most_s = most_s or self._most_s(each_s)
            full = work_s + each_s / 2 > most_s  # without it, the chunk is nearer to that
            if tasks and (claimed.careful or seconds is None or full):
                break
            known = seconds is not None
            work_s += each_s
            tasks.append(task)
        for _ in tasks:
            pending.popleft()
        began_at = self.now()
        ends_at = began_at + work_s if known else None
        race = None
        if len(tasks) == 1 and not claimed.careful and self.hedges(kind):
            race = Race(claimed.stopping)
            self._work.notify_all()  # idle slots look when it is late
        self._starts.took(high=claimed.is_high)
        return self._begin(Chunk(claimed, kind, tasks, ends_at, began_at, race))

    def _most_s(self, each_s: float) -> float:
        """Returns the expected seconds of a chunk whose first task takes `each_s`: half of a slot's
        share of what is in hand, if that takes as long. Each chunk costs its slot half a
        millisecond, and small ones let all slots end together."""
        in_hand_s = each_s * sum(len(claimed.pending) for claimed in self._in_hand.values())
        return min(max(CHUNK_S, in_hand_s / (2 * self.threads)), CHUNK_MAX_S)

    def _begin(self, chunk: Chunk) -> Chunk:
        chunk.claimed.taken += len(chunk.tasks)
        self._running[chunk.kind] += 1
        self._chunks.add(chunk)
        return chunk

    def _copy_of_straggler(self) -> tuple[Chunk | None, float | None]:
        """Returns the second copy of a task that is late, or None and the seconds until one will
        be, None for never."""
        now, soonest_s = self.now(), None
        for chunk in self._chunks:
            claimed = chunk.claimed
            if chunk.race is None or chunk.race.copied or chunk.is_copy:
                continue
            if claimed.lost or claimed.leaving or claimed.stopped.is_set():
                continue
            late_after_s = self._durations.late_after_s(self.pace_name(chunk.tasks[0]))
            if late_after_s is None or self._at_limit(chunk.kind):
                continue
            left_s = chunk.began_at + late_after_s - now
            if left_s <= 0:
                chunk.race.copied = True
                self.copied(chunk.kind)
                return replace(chunk, ends_at=None, began_at=now, is_copy=True), None
            soonest_s = left_s if soonest_s is None else min(left_s, soonest_s)
        return None, soonest_s

    def _learned_s(self, name: str | None) -> float | None:
        """Mean seconds of tasks of this pace, as far as this worker has learned it."""
        pace = None if name is None else self._paces.get(name)
        return None if pace is None else pace.mean_s

    def _learn(self, chunk: Chunk, ran: int, elapsed_s: float) -> None:
        """Learn from a chunk of which so many tasks ran, if all have one pace, and their kind does
        not say itself how long they take."""
        names = {chunk.claimed.paces.get(task.index) for task in chunk.tasks}
        name = names.pop()
        if ran and name is not None and not names:
            sample = Sample(ran, elapsed_s, elapsed_s * elapsed_s / ran)
            pace = self._paces.pop(name, Pace())
            if len(self._paces) >= PACES_MAX:
                self._paces.pop(next(iter(self._paces)))  # the one that was learned longest ago
            self._paces[name] = pace.learn(sample)

    def _becomes_ready(self, claimed: ClaimedBundle) -> bool:
        """Return True, once for each bundle, when none of its tasks runs and none is to start."""
        ends = claimed.leaving or claimed.stopped.is_set() or not self._starting
        if claimed.taken or (claimed.pending and not ends) or claimed.settling or claimed.lost:
            return False
        claimed.settling = True
        return True

    # --- called by the intake ----------------------------------------------------------------

    def wait_for_room(self, timeout_s: float, *, high: bool = False) -> int:
        """Reserve room for as many messages as the free slots can take, and return their number.
        Every reserved place is filled by `add` or given up by `give_up_room`. Returns 0 when there
        was no room for `timeout_s`.

        high: whether the messages are of high priority. These find room where normal work waits.
        """
        with self._room:
            wanted = self._messages_wanted(high=high)
            if not wanted and self._starting:
                self._waiting[high] += 1
                self._room.wait(min(timeout_s, room.next_free_s(self._lefts_s())))
                self._waiting[high] -= 1
                wanted = self._messages_wanted(high=high)
            self._incoming[high] += wanted
            if wanted and not high:
                self._looks.took(high=False)
            return wanted

    def found_high(self) -> None:
        """Count a look at the queue of high priority that brought something."""
        with self._lock:
            self._looks.took(high=True)
            if self._looks.normal_is_due:
                self._room.notify_all()

    def has_room(self, *, high: bool = False) -> bool:
        """Returns whether another message of this priority would find a free slot."""
        with self._lock:
            return self._messages_wanted(high=high) > 0

    def _messages_wanted(self, *, high: bool = False) -> int:
        if not self._starting or (careful := self._turn()).alone:
            return 0
        if not high and self._looks.normal_is_due:
            slots = max(1.0, self.threads / EVERY)  # of what high priority has taken up
        else:
            slots = self.threads - sum(map(room.share_left, self._lefts_s()))
        before = [c for c in self._in_hand.values() if self._goes_before(c, high=high)]
        return room.messages_wanted(
            free_slots=slots - sum(c.slots_each * self._startable(c, careful) for c in before),
            incoming=self._incoming[high],
            in_hand=len(before),
            slots_a_message=self._slots_a_message,
        )

    def _goes_before(self, claimed: ClaimedBundle, *, high: bool) -> bool:
        """Returns whether the bundle's tasks start before those of a message of this priority."""
        if high or self._looks.normal_is_due:
            return claimed.is_high == high
        return True

    def _startable(self, claimed: ClaimedBundle, careful: Turn) -> int:
        """Number of the bundle's pending tasks that free slots could take now."""
        if not claimed.careful:
            return len(claimed.pending)
        return int(bool(claimed.pending) and careful.may_start(claimed, self._chunks))

    def _lefts_s(self) -> list[float | None]:
        """Seconds that each running chunk has left, None where unknown."""
        now = self.now()
        return [None if chunk.ends_at is None else chunk.ends_at - now for chunk in self._chunks]

    def give_up_room(self, messages: int, *, high: bool = False) -> None:
        """Give up so many of the reserved places for messages of this priority."""
        with self._lock:
            self._incoming[high] -= messages
            self._room.notify_all()

    def add(self, claimed: ClaimedBundle) -> bool:
        """Put a claimed bundle before the slots, in one reserved place. Returns whether the bundle
        is ready, so that the caller must settle it."""
        tasks = list(claimed.pending)
        # Before the lock, for which the slots wait.
        foretold = list(zip(tasks, self.expected_s(tasks), strict=True))
        claimed.expected_s = {task.index: s for task, s in foretold if s is not None}
        claimed.paces = {task.index: self.pace_name(task) for task, s in foretold if s is None}
        known = sum(map(room.share_of_slot, claimed.expected_s.values()))
        with self._lock:
            self._incoming[claimed.is_high] -= 1
            self._claimed += 1
            self._in_hand[claimed.bundle.job_id] = claimed
            slots = known + sum(
                count * room.share_of_slot(self._learned_s(name))
                for name, count in Counter(claimed.paces.values()).items()
            )
            claimed.slots_each = slots / max(1, len(claimed.pending))
            self._slots_a_message = room.learned_slots_a_message(self._slots_a_message, slots)
            self._work.notify_all()
            self._room.notify_all()  # it may hold less work than a message was expected to
            return self._becomes_ready(claimed)

    def adopt(self, job_id: str, message: Message) -> bool:
        """Take over a newer delivery of a bundle that is in hand already: from now on the newer
        receipt counts. Returns False when the bundle is not in hand, or is given back already."""
        with self._lock:
            claimed = self._in_hand.get(job_id)
            if claimed is None or claimed.released:
                return False
            claimed.message = message
            return True

    def refuses(self, kinds: set[str]) -> bool:
        """Returns whether one of the kinds has as many tasks in hand as its limit allows, so that
        another worker should have the bundle."""
        limited = kinds & set(self.limits)
        if not limited:
            return False
        with self._lock:
            pending = self._pending_by_kind()
            return any(self._running[kind] + pending[kind] >= self.limits[kind] for kind in limited)

    # --- called by the heartbeat and the daemon ---

    def in_hand(self) -> list[ClaimedBundle]:
        """The bundles in hand."""
        with self._lock:
            return list(self._in_hand.values())

    def remove(self, claimed: ClaimedBundle, *, settled: bool = False) -> None:
        """Take a bundle out of hand. If it is `settled` with a result for every task, these have
        ended."""
        ended = len(claimed.bundle.tasks) if settled and claimed.finished else 0
        with self._lock:
            if self._in_hand.get(claimed.bundle.job_id) is claimed:
                del self._in_hand[claimed.bundle.job_id]
                self._ended += ended
                self._emptied_at = self.now()
                if claimed.careful:
                    self._work.notify_all()
            self._room.notify_all()

    def lose(self, claimed: ClaimedBundle) -> None:
        """Drop a bundle whose lease is gone: its running tasks must end, and their results do not
        count."""
        with self._lock:
            claimed.lost = True
            claimed.pending.clear()
        self.remove(claimed)
        claimed.stop()

    def cancel(self, batch_ids: set[str]) -> list[ClaimedBundle]:
        """Cancel the unstarted tasks of these batches. Returns the bundles that became ready, for
        the caller to settle."""
        ready = []
        with self._lock:
            for claimed in self._in_hand.values():
                if claimed.bundle.batch_id in batch_ids and claimed.pending:
                    claimed.cancel_pending()
                    self._work.notify_all()
                    if self._becomes_ready(claimed):
                        ready.append(claimed)
        return ready

    def give_back_overdue(self) -> list[ClaimedBundle]:
        """Start no more tasks of bundles that overstay (`OVERSTAY_S`). Careful bundles may stay,
        since another worker would be no faster. Returns those that became ready, for the caller to
        settle."""
        overdue_at = self.now() - OVERSTAY_S
        with self._lock:
            overdue = [c for c in self._in_hand.values() if c.claimed_at <= overdue_at]
            leaving = [c for c in overdue if c.pending and not c.leaving and not c.careful]
            for claimed in leaving:
                claimed.leaving = True
            return [c for c in leaving if self._becomes_ready(c)]

    def give_back(self, claimed: ClaimedBundle) -> bool:
        """Start no more tasks of the bundle. Returns whether it became ready, so that the caller
        must settle it."""
        with self._lock:
            claimed.leaving = True
            self._work.notify_all()
            return self._becomes_ready(claimed)

    def stop_starting(self) -> list[ClaimedBundle]:
        """Start no more tasks at all. Returns the bundles that became ready, for the caller to
        settle."""
        with self._lock:
            self._starting = False
            self._work.notify_all()
            self._room.notify_all()
            return [c for c in self._in_hand.values() if self._becomes_ready(c)]

    def abandon(self) -> list[ClaimedBundle]:
        """Give up on tasks that do not end. Returns their bundles, for the caller to settle."""
        with self._lock:
            left = [c for c in self._in_hand.values() if not c.settling]
            for claimed in left:
                claimed.settling = True
            return left

    def idle_since(self) -> float | None:
        """When the last bundle left the hand; None while one is in hand."""
        with self._lock:
            return None if self._in_hand else self._emptied_at

    def wait_empty(self, timeout_s: float) -> bool:
        """Wait until nothing is in hand. Returns False when the time ran out."""
        with self._room:
            return self._room.wait_for(lambda: not self._in_hand, timeout_s)

    def census(self) -> Census:
        """Count the work in hand."""
        with self._lock:
            running = {kind: count for kind, count in self._running.items() if count}
            pending = dict(self._pending_by_kind())
            return Census(len(self._in_hand), running, pending, self._claimed, self._ended)

    def _pending_by_kind(self) -> Counter[str]:
        return Counter(task.kind for c in self._in_hand.values() for task in c.pending)
