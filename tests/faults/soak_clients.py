"""The clients of the soak: each hands in its batches in time, follows them, and compares every
result with what it must be. Owns the ways of handing in, and what a client remembers.

A client uses the project's own `Client`, and goes on through an outage of its API for as long as
it takes, with the same idempotency keys. So whatever was accepted is known by its key.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from taskfleet.client import Client
from taskfleet.client.body import line
from taskfleet.executor.patience import patiently
from taskfleet.scheduler.audit import digest_line
from taskfleet.wire import calls
from taskfleet.wire.http import AuditView, ResultView
from tests.faults.soak_work import Needs, Verdict, judged, kind_of, mixed, tasks_of

T = TypeVar("T")

OUTAGE_S = 300.0
"""Seconds for which an API may be away. It is killed, and started again at once."""
PENDING_MAX = 6
"""Batches of a client at a time."""
ATTEMPTS = 50
"""Most attempts of a task: it is no fault of a task that its processes are killed."""
LOOK_S = 1.0
"""Longest wait for one batch before the client looks at its others, in seconds."""
PARTS = 4
"""Parts of a batch that is handed in open."""


class Stopped(Exception):
    """The soak ends before its time."""


@dataclass
class StopClock:
    """The system's time, whose pauses end with Stopped when the soak does. A
    `taskfleet.ports.Clock`."""

    stop: threading.Event

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        if self.stop.wait(seconds):
            raise Stopped


@dataclass
class Handed:
    """A batch that was accepted."""

    batch_id: str
    number: int
    tasks: list[Any]


@dataclass
class SoakClient:
    """One client. `run` works until all its batches have ended and are judged.

    name: its client id, and the seed of its tasks together with `seed`.
    batches, tasks: how many batches it hands in, and how many tasks each has.
    period_s: seconds between two of them.
    verdict, kinds: what it found so far, and how many tasks of each kind.
    accepted: tasks that were accepted so far.
    ids: the batches that were accepted.
    """

    name: str
    client: Client
    seed: str
    batches: int
    tasks: int
    period_s: float
    picture: bytes
    clock: StopClock
    verdict: Verdict = field(default_factory=Verdict)
    kinds: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    ids: set[str] = field(default_factory=set)
    error: BaseException | None = None
    _pending: deque[Handed] = field(default_factory=deque)

    def run(self) -> None:
        """Works in a thread of its own. What fails it is its `error`."""
        try:
            self._work()
            self._find_strangers()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - told by the main thread
            self.error = error

    def _work(self) -> None:
        needs = self._needs()
        began = time.monotonic()
        number = 0
        while number < self.batches or self._pending:
            self.clock.sleep(0)
            late_s = time.monotonic() - began - number * self.period_s
            if number < self.batches and late_s >= 0 and len(self._pending) < PENDING_MAX:
                self._hand_in(number, needs)
                number += 1
            elif self._pending:
                self._look()
            else:
                self.clock.sleep(min(LOOK_S, -late_s))

    def _needs(self) -> Needs:
        function = calls.encode_function(mixed)
        return Needs(
            self._call(lambda: self.client.put(function)),
            self._call(lambda: self.client.upload(io.BytesIO(self.picture))),
        )

    def _call(self, call: Callable[[], T]) -> T:
        return patiently(call, self.clock, OUTAGE_S)

    # --- handing in ------------------------------------------------------------------------

    def _hand_in(self, number: int, needs: Needs) -> None:
        """Hand in a batch: most as one request, every fifth as a file, every fifth in parts."""
        tasks = tasks_of(f"{self.seed}/{self.name}", number, self.tasks, needs)
        options: dict[str, Any] = {
            "name": f"soak {number}",
            "idempotency_key": f"{self.seed}/{self.name}/{number}",
            "max_attempts": ATTEMPTS,
            "priority": "high" if number % 7 == 6 else None,
        }
        if number % 5 == 3:
            batch_id = self._open(tasks, options)
        elif number % 5 == 4:
            file = b"".join(line(task, index) + b"\n" for index, task in enumerate(tasks))
            batch_id = self._call(
                lambda: self.client.submit_file(io.BytesIO(file), **options)
            ).batch_id
        else:
            batch_id = self._call(lambda: self.client.submit(tasks, **options)).batch_id
        self.accepted += len(tasks)
        self.kinds.update(map(kind_of, tasks))
        self.ids.add(batch_id)
        self._pending.append(Handed(batch_id, number, tasks))

    def _open(self, tasks: list[Any], options: dict[str, Any]) -> str:
        batch_id = self._call(lambda: self.client.open(**options)).batch_id
        size = -(-len(tasks) // PARTS)
        for first in range(0, len(tasks), size):
            part = tasks[first : first + size]
            self._call(partial(self.client.add, batch_id, first, part))
        self._call(lambda: self.client.close_batch(batch_id))
        return batch_id

    # --- the end of a batch ----------------------------------------------------------------

    def _look(self) -> None:
        """Wait a while for the oldest batch. Judge it if it has ended, else look at the next."""
        handed = self._pending[0]
        batch = self._call(lambda: self.client.status(handed.batch_id, LOOK_S))
        if batch.finished_at is None:
            self._pending.rotate(-1)
            return
        rows = self._call(lambda: list(self.client.results(handed.batch_id)))
        verdict = judged(handed.batch_id, handed.tasks, rows)
        receipt = self._call(lambda: self.client.audit(handed.batch_id))
        for fault in _audit_faults(receipt, handed.tasks, rows):
            verdict.wrong += not verdict.broken  # what the rows show already counts once
            verdict.note(f"{handed.batch_id}: {fault}")
        counted = batch.succeeded + batch.failed + batch.cancelled
        if (batch.total, counted) != (len(handed.tasks), batch.total):
            verdict.doubled += max(0, counted - len(handed.tasks))
            verdict.wrong += 1
            verdict.note(f"{handed.batch_id} of {len(handed.tasks)} tasks counts {batch}")
        self.verdict += verdict
        self._pending.popleft()

    def _find_strangers(self) -> None:
        """Every batch of this client in the list is one that it was told of, and the other way
        round."""
        self.clock.sleep(2.0)  # the list may lag by about a second
        listed = self._call(lambda: {each.batch_id: each for each in self.client.batches()})
        for batch_id in listed.keys() - self.ids:
            self.verdict.doubled += listed[batch_id].total
            self.verdict.note(f"nobody was told of the batch {batch_id}: {listed[batch_id]}")
        for batch_id in self.ids - listed.keys():
            self.verdict.lost += self.tasks
            self.verdict.note(f"the batch {batch_id} was accepted and is not in the list")

    def give_up(self) -> None:
        """Count the tasks of what has not ended as lost."""
        for handed in self._pending:
            self.verdict.lost += len(handed.tasks)
            self.verdict.note(f"{handed.batch_id} (batch {handed.number}) never ended")


def _audit_faults(receipt: AuditView, tasks: list[Any], rows: list[ResultView]) -> list[str]:
    """Returns what the audit says against a batch, and whether its digest is not that of the rows.
    The rows of movies have URLs that are not recorded, so those batches have no digest here."""
    faults = [] if receipt.balanced else receipt.faults or [f"the audit fails: {receipt}"]
    if all(kind_of(task) != "animoto" for task in tasks):
        lines = (digest_line(r.index, r.status, r.result, r.error) for r in rows)
        if hashlib.sha256(b"".join(lines)).hexdigest() != receipt.sha256:
            faults = [*faults, "the digest of the rows is not that of the audit"]
    return faults
