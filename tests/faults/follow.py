"""Follows batches that were accepted, and judges each at its end: its rows by what its tasks must
return, its counts, its audit and the audit's digest. Owns what a client of the fault suite
remembers of its batches."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from taskfleet.client import Client
from taskfleet.executor.patience import patiently
from taskfleet.scheduler.audit import digest_line
from taskfleet.wire.http.batches import AuditView
from taskfleet.wire.http.results import ResultView
from tests.faults.soak_work import Verdict, judged, kind_of

T = TypeVar("T")

OUTAGE_S = 300.0
"""Seconds for which an API may be away. It is killed, and started again at once."""
LOOK_S = 1.0
"""Longest wait for one batch before the others are looked at, in seconds."""
LIST_LAG_S = 2.0
"""Seconds for which the list of batches may lag."""


class Stopped(Exception):
    """The run ends before its time."""


@dataclass
class StopClock:
    """The system's time, whose pauses end with Stopped once `stop` is set. A
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
    tasks: list[Any]


@dataclass
class Follower:
    """Follows the batches of one client.

    verdict: what was found so far.
    sizes: the number of tasks of each batch that was accepted, by its id.
    pending: those that are not judged yet.
    """

    client: Client
    clock: StopClock
    verdict: Verdict = field(default_factory=Verdict)
    sizes: dict[str, int] = field(default_factory=dict)
    pending: deque[Handed] = field(default_factory=deque)

    def call(self, call: Callable[[], T]) -> T:
        """Returns what a call of the client returns, however long that takes."""
        return patiently(call, self.clock, OUTAGE_S)

    def follow(self, batch_id: str, tasks: list[Any]) -> None:
        """Take in a batch that was accepted."""
        self.sizes[batch_id] = len(tasks)
        self.pending.append(Handed(batch_id, tasks))

    def look(self) -> bool:
        """Wait a while for the oldest batch. Judge it if it has ended, else make it the last one.
        Returns whether it has ended."""
        handed = self.pending[0]
        batch = self.call(lambda: self.client.status(handed.batch_id, LOOK_S))
        if batch.finished_at is None:
            self.pending.rotate(-1)
            return False
        rows = self.call(lambda: list(self.client.results(handed.batch_id)))
        verdict = judged(handed.batch_id, handed.tasks, rows)
        receipt = self.call(lambda: self.client.audit(handed.batch_id))
        for fault in audit_faults(receipt, handed.tasks, rows):
            verdict.wrong += not verdict.broken  # what the rows show counts once
            verdict.note(f"{handed.batch_id}: {fault}")
        counted = batch.succeeded + batch.failed + batch.cancelled
        if not batch.total == counted == len(handed.tasks):
            verdict.doubled += max(0, counted - len(handed.tasks))
            verdict.wrong += 1
            verdict.note(f"{handed.batch_id} of {len(handed.tasks)} tasks counts {batch!r}")
        self.verdict += verdict
        self.pending.popleft()
        return True

    def find_strangers(self) -> None:
        """Compare the list of batches with those that were accepted."""
        self.clock.sleep(LIST_LAG_S)
        listed = self.call(lambda: {each.batch_id: each for each in self.client.batches()})
        for batch_id in listed.keys() - self.sizes.keys():
            self.verdict.doubled += max(1, listed[batch_id].total)
            self.verdict.note(f"nobody was told of the batch {listed[batch_id]!r}")
        for batch_id in self.sizes.keys() - listed.keys():
            self.verdict.lost += self.sizes[batch_id]
            self.verdict.note(f"the batch {batch_id} was accepted and is not in the list")

    def give_up(self) -> None:
        """Count the tasks of what has not ended as lost."""
        for handed in self.pending:
            self.verdict.lost += len(handed.tasks)
            self.verdict.note(f"{handed.batch_id} never ended")


def audit_faults(receipt: AuditView, tasks: list[Any], rows: list[ResultView]) -> list[str]:
    """Returns what the audit says against a batch, and whether its digest is not that of the rows.
    The rows of movies have URLs that are not recorded, so their batches have no digest here."""
    faults = [] if receipt.balanced else receipt.faults or [f"the audit fails: {receipt!r}"]
    if all(kind_of(task) != "animoto" for task in tasks):
        lines = (digest_line(r.index, r.status, r.result, r.error) for r in rows)
        if hashlib.sha256(b"".join(lines)).hexdigest() != receipt.sha256:
            faults = [*faults, "the digest of the rows is not that of the audit"]
    return faults
