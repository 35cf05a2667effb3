"""What a client that waits for a batch asks of the API, in virtual time: the project's own client
asks the project's own reader of batches. Owns the batches that are waited for and the counting of
calls; not prices (`bench.cloud_rules`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.cloud_rules import (
    API_CALL_USD,
    HOUR_S,
    LAMBDA_CALL_USD,
    LAMBDA_GB_S_USD,
    LOG_GB_USD,
    table_usd,
)
from taskfleet.batch import BatchRecord, Tally, random_batch_id
from taskfleet.client import Client, NotFinished
from taskfleet.memory import ManualClock, MemoryStore
from taskfleet.registry import Registry
from taskfleet.scheduler.results import Results
from taskfleet.wire.http.batches import BatchView

CALL_S = 0.010
"""Time of one read of the table, in seconds."""
WAY_S = 0.040
"""Time of an answer on its way between the function and the client, both ways, in seconds."""
CPU_S = 0.006
"""Time that the function computes for one answer, in seconds."""
LOG_BYTES = 500
"""Bytes that Lambda logs of one call of the API's function: its start, end and report."""
API_MEMORY_MB = 1_769
"""Memory of the API's function (`.chalice/config.json`)."""


@dataclass(frozen=True)
class Course:
    """How a batch goes: it ends after `seconds`, all its tasks as evenly as they can. With `hangs`
    its last task never does. `items` are the items of the table that one read of it takes."""

    tasks: int
    seconds: float
    hangs: bool = False
    items: int = 1

    def record(self, began: float, now: float) -> BatchRecord:
        """Returns the batch as it is at `now`."""
        most = self.tasks - 1 if self.hangs else self.tasks
        every_s = self.seconds / self.tasks
        ended = min(most, int((now - began) / every_s + 1e-9))
        return BatchRecord(
            batch_id=BATCH_ID,
            client_id="alice",
            name=None,
            created_at=began,
            total=self.tasks,
            bundles=self.tasks,
            payload_hash="p",
            closed=True,
            enqueued=self.tasks,
            started_at=began,
            tally=Tally(ended),
            progressed_at=began + ended * every_s if ended else None,
        )


BATCH_ID = random_batch_id(bytes(32))


@dataclass
class Asked:
    """What was asked in `seconds`. `function_s` are the seconds in which functions ran; `late_s` is
    how long after the end of the batch the client knew of it, None when it does not end."""

    seconds: float = 0.0
    calls: int = 0
    reads: int = 0
    function_s: float = 0.0
    late_s: float | None = None

    def usd(self, items: int = 1) -> float:
        """Returns the price of all of it, of a batch of which one read takes so many items."""
        call_usd = API_CALL_USD + LAMBDA_CALL_USD + LOG_BYTES / 1e9 * LOG_GB_USD
        held_usd = self.function_s * API_MEMORY_MB / 1024 * LAMBDA_GB_S_USD
        return self.calls * call_usd + held_usd + table_usd(0, self.reads * items)

    def usd_an_hour(self, items: int = 1) -> float:
        return self.usd(items) / self.seconds * HOUR_S


class _Api:
    """The API in the place of the client's transport. It is also the table that is read."""

    def __init__(self, course: Course) -> None:
        self.clock = ManualClock()
        self.began = self.clock.now()
        self.asked = Asked()
        self._course = course
        table: Any = self
        self._results = Results(Registry.load([]), table, MemoryStore(), self.clock)

    def batch(self, _batch_id: str) -> BatchRecord:
        """Read the batch from the table."""
        self.clock.sleep(CALL_S)
        self.asked.reads += 1
        return self._course.record(self.began, self.clock.now())

    def call(self, _method: str, _path: str, _shape: type[BatchView], **given: Any) -> BatchView:
        """Answer the client, as API Gateway and the function do."""
        self.asked.calls += 1
        self.clock.sleep(WAY_S / 2 + CPU_S)
        began = self.clock.now()
        wait_s = float((given.get("params") or {}).get("wait", 0))
        view = self._results.status(BATCH_ID, client_id="alice", wait_s=wait_s)
        self.asked.function_s += self.clock.now() - began + CPU_S
        self.clock.sleep(WAY_S / 2)
        return view

    def done(self) -> Asked:
        """Returns what was asked until now."""
        self.asked.seconds = self.clock.now() - self.began
        if not self._course.hangs and self.asked.seconds >= self._course.seconds:
            self.asked.late_s = self.asked.seconds - self._course.seconds
        return self.asked


def by_library(course: Course, most_s: float) -> Asked:
    """Returns what `Client.wait` asks, for at most `most_s` seconds."""
    api = _Api(course)
    client = Client("http://127.0.0.1:1", "t", clock=api.clock)
    transport: Any = api
    client._http = transport
    with contextlib.suppress(NotFinished):
        client.wait(BATCH_ID, most_s)
    return api.done()


def by_hand(course: Course, most_s: float, wait_s: float = 25.0, pause_s: float = 0.0) -> Asked:
    """Returns what a loop around `?wait=25` asks that pauses for `pause_s` after each answer."""
    api = _Api(course)
    ask: Callable[[], BatchView] = lambda: api.call(  # noqa: E731
        "GET", "", BatchView, params={"wait": str(wait_s)}
    )
    while ask().finished_at is None and api.clock.now() - api.began < most_s:
        api.clock.sleep(pause_s)
    return api.done()
