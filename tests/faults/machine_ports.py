"""Faults at the calls that processes make to their ports, on memory adapters. Owns what each fault
does and which process it hits; not which steps are taken (`tests.faults.machine_world`).

The luck of a step, a number, decides which of its calls meet which fault; with 0 none does. So a
history is the same whenever its steps are taken with the same luck.
"""

from __future__ import annotations

import contextlib
import copy
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from taskfleet.errors import TransientError
from taskfleet.lease import BundleStatus, Lease
from taskfleet.memory import ManualClock, MemoryMonitor, MemoryQueue
from taskfleet.ports import Claim, Message, OutgoingMessage
from tests.support.worker import Cloud

FAULTS = (
    "throttle",
    "lost reply",
    "sent twice",
    "part",
    "late",
    "crash before",
    "crash after",
    "meanwhile",
)
"""throttle: the call has no effect, as with a throttle, a 5xx or a transaction conflict.
lost reply: it takes effect, and its reply is lost.
sent twice: its first reply is lost, and the client library repeats it by itself.
part: of several messages, the first half takes effect.
late: the caller gives up, and the call takes effect some steps later.
crash before, crash after: the process ends before the call takes effect, or afterwards.
meanwhile: the process pauses before the call, and another one takes a turn."""

READ_RATE, EFFECT_RATE = 0.08, 0.3
"""How likely a call meets a fault that reads, and one that has an effect."""
STEP_MAX_FAULTS = 2
"""Most faults in one step."""
_LISTS = frozenset({"send", "delete", "change_visibility"})
_READS = frozenset(
    {
        *("batch", "batches", "bundles", "counted", "is_counted", "paces", "kept_results"),
        *("receive", "depth", "get", "get_range", "lines", "etag", "stored", "noted", "schedules"),
        *("due", "upload_form", "content_form", "url"),
    }
)
_NEVER_LATE = frozenset({"schedules.add", "schedules.remove"})
"""A schedule that is removed while its adding is still on its way exists afterwards: nothing tells
it from one that was added again."""


class Died(BaseException):
    """The process ended: none of its code has any effect from here on."""


class Skewed:
    """A process's clock: the true one, wrong by some seconds."""

    def __init__(self, clock: ManualClock, offset_s: float) -> None:
        self._clock = clock
        self._offset_s = offset_s

    def now(self) -> float:
        return self._clock.now() + self._offset_s

    def sleep(self, seconds: float) -> None:
        self._clock.sleep(seconds)


class Process:
    """One process, whose calls meet the luck of the step it takes.

    fired: counts the calls by name and fault; an empty one is none.
    meanwhile: called with the process when another one is to take a turn in the middle of its step.
    late: where calls go that take effect later.
    """

    def __init__(
        self,
        name: str,
        cloud: Cloud,
        offset_s: float,
        fired: Counter[tuple[str, str]],
        late: list[Callable[[], Any]],
        meanwhile: Callable[[Process], None],
    ) -> None:
        self.name = name
        self.cloud = cloud
        self.clock = Skewed(cloud.clock, offset_s)
        self.busy = False
        self.dead = False
        self.told: list[str] = []
        """The faults that were met in the last step."""
        self._luck: random.Random | None = None
        self._fired = fired
        self._late = late
        self._meanwhile = meanwhile

    def turn(self, luck: int, step: Callable[[], Any]) -> Any:
        """Take a step. Returns what the step returns. Raises Died."""
        if self.dead:
            raise Died
        self._luck, self.busy, self.told = random.Random(luck) if luck else None, True, []
        try:
            return step()
        finally:
            self._luck, self.busy = None, False

    def _fate(self, operation: str) -> str:
        """Returns the fault that a call meets; an empty text is none."""
        if self._luck is None or len(self.told) >= STEP_MAX_FAULTS:
            return ""
        rate = READ_RATE if operation in _READS else EFFECT_RATE
        return self._luck.choice(FAULTS) if self._luck.random() < rate else ""

    def call(self, name: str, method: Callable[..., Any], args: Any, options: Any) -> Any:
        """Make a call to a port, which meets its fate."""
        if self.dead:
            raise Died
        operation = name.partition(".")[2]
        fate = self._fate(operation)
        if operation in _READS and fate in ("sent twice", "part", "late"):
            fate = "throttle"
        whole = operation not in _LISTS or len(args[0]) < 2
        if (fate == "late" and name in _NEVER_LATE) or (fate == "part" and whole):
            fate = "lost reply"
        self._fired[name, fate] += 1
        if not fate:
            return method(*args, **options)
        self.told.append(f"{self.name} {name}: {fate}")
        if fate == "meanwhile":
            self._meanwhile(self)
            return method(*args, **options)
        if fate.startswith("crash"):
            if fate == "crash after":
                method(*args, **options)
            self.dead = True
            raise Died
        if fate == "lost reply":
            method(*args, **options)
        elif fate == "sent twice":
            method(*args, **options)
            return method(*args, **options)
        elif fate == "part":
            method(args[0][: len(args[0]) // 2], *args[1:], **options)
        elif fate == "late":
            self._late.append(lambda: method(*args, **options))
        raise TransientError(f"{name}: {fate}")

    def port(self, name: str, port: Any) -> Any:
        """Returns the port as this process sees it."""
        return _Port(self, name, port)

    def monitor(self) -> Any:
        """Returns the table as this process sees it. The conditions of a write are made with the
        time of the process that makes it."""
        seen = copy.copy(self.cloud.monitor)
        seen._clock = self.clock
        return self.port("monitor", seen)


class _Port:
    def __init__(self, process: Process, name: str, port: Any) -> None:
        self._process = process
        self._name = name
        self._port = port

    def __getattr__(self, operation: str) -> Any:
        method = getattr(self._port, operation)
        name = f"{self._name}.{operation}"
        if operation == "dead_letters":
            return lambda: _Port(self._process, f"{self._name}.dead", method())

        def call(*args: Any, **options: Any) -> Any:
            return self._process.call(name, method, args, options)

        self.__dict__[operation] = call
        return call


class RoughQueue(MemoryQueue):
    """A queue that delivers in any order, and anything again that was ever sent, also after it was
    deleted.

    on_send: called with the messages before they are sent.
    """

    def __init__(
        self,
        clock: ManualClock,
        rng: random.Random,
        on_send: Callable[[Sequence[OutgoingMessage]], None] = lambda _messages: None,
        **options: Any,
    ) -> None:
        super().__init__(clock, **options)
        self._rng = rng
        self._on_send = on_send
        self.sent: dict[str, OutgoingMessage] = {}

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        self._on_send(messages)
        self.sent |= {message.body: message for message in messages}
        super().send(messages)

    def receive(self, max_messages: int, *, wait_s: float, visibility_s: float) -> list[Message]:
        for entries in self._ready.values():
            self._rng.shuffle(entries)
        return super().receive(max_messages, wait_s=wait_s, visibility_s=visibility_s)

    def deliver_again(self, choice: int) -> None:
        """Make one of all messages that were ever sent visible once more."""
        bodies = list(self.sent)
        if bodies:
            super().send([self.sent[bodies[choice % len(bodies)]]])

    def is_empty(self) -> bool:
        depth = self.depth()
        return not depth.backlog + depth.in_flight


class WatchedMonitor(MemoryMonitor):
    """A table that notes what no worker may do: change a bundle that another worker holds, or one
    that is DONE.

    faults: where it notes that, as (doubled; words).
    """

    faults: list[tuple[str, str]]

    def renew(self, job_id: str, lease: Lease, **options: Any) -> Lease:
        with self._watching("renewed", job_id, lease.owner):
            return super().renew(job_id, lease, **options)

    def commit(self, job_id: str, lease: Lease, **options: Any) -> int:
        with self._watching("committed", job_id, lease.owner):
            return super().commit(job_id, lease, **options)

    def release(self, job_id: str, lease: Lease, **options: Any) -> None:
        with self._watching("released", job_id, lease.owner):
            super().release(job_id, lease, **options)

    def unclaim(self, job_id: str, *, owner: str) -> None:
        with self._watching("unclaimed", job_id, owner):
            super().unclaim(job_id, owner=owner)

    def claim(self, job_id: str, *, owner: str, lease_s: float) -> Claim:
        leases = [each.lease for each in self.bundles([job_id]) if each.lease is not None]
        expired = [each.owner for each in leases if each.expires_at < self._clock.now()]
        with self._watching("claimed", job_id, (expired or [owner])[0]):
            return super().claim(job_id, owner=owner, lease_s=lease_s)

    @contextlib.contextmanager
    def _watching(self, what: str, job_id: str, owner: str) -> Iterator[None]:
        before = self.bundles([job_id])
        yield
        for each in before:
            held = each.lease is not None and each.lease.owner != owner
            if (held or each.status is BundleStatus.DONE) and self.bundles([job_id]) != before:
                self.faults.append(("doubled", f"{owner} {what} {job_id}, which was {each}"))


class RoughCloud(Cloud):
    """A cloud whose queues are rough and whose table is watched.

    on_send: called with messages that go on a queue of tasks.
    faults: where the table notes what no worker may do.
    """

    tasks: RoughQueue
    high: RoughQueue
    responses: RoughQueue
    uploads: RoughQueue

    def __init__(
        self,
        rng: random.Random,
        on_send: Callable[[Sequence[OutgoingMessage]], None],
        faults: list[tuple[str, str]],
    ) -> None:
        super().__init__()
        self.monitor = WatchedMonitor(self.clock)
        self.monitor.faults = faults
        clock, dead = self.clock, self.dead
        self.tasks = RoughQueue(clock, rng, on_send, name="tasks", dead=dead)
        self.high = RoughQueue(clock, rng, on_send, name="high", dead=dead)
        self.responses = RoughQueue(clock, rng, name="responses", dead=dead)
        self.uploads = RoughQueue(clock, rng, name="uploads", dead=dead)

    def queues(self) -> tuple[RoughQueue, ...]:
        return self.tasks, self.high, self.responses, self.uploads
