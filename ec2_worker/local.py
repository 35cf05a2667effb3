"""The local worker: runs a task file by the same executor on ports in memory, as the front-end
scheduler of 2014 did with its back-end threads. Owns the run and its summary; uses no AWS."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ec2_worker.parts import WorkerPorts
from ec2_worker.worker import Worker
from taskfleet.errors import InvalidTask
from taskfleet.ports import CALL_MAX_MESSAGES
from taskfleet.registry import Registry
from taskfleet.scheduler.collect import collect
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.results import Results
from taskfleet.scheduler.submit import Submission
from taskfleet.settings import Settings
from taskfleet.wire.http.batches import BatchView
from taskfleet.wire.http.results import PAGE_MAX, ResultView
from taskfleet.wire.taskfile import read_tasks

CLIENT_ID = "local"


@dataclass(frozen=True)
class Summary:
    """The outcome of a run. `ideal_s` is the shortest possible time in seconds; None when durations
    are not known beforehand."""

    batch: BatchView
    seconds: float
    ideal_s: float | None

    @property
    def tasks_per_s(self) -> float:
        done = self.batch.succeeded + self.batch.failed
        return done / self.seconds if self.seconds else 0.0

    @property
    def efficiency(self) -> float | None:
        return self.ideal_s / self.seconds if self.ideal_s and self.seconds else None


class LocalRun:
    """One task file on one worker. `run` blocks; `cancel`, from any thread, lets it end early."""

    def __init__(
        self, ports: WorkerPorts, registry: Registry, settings: Settings, *, threads: int
    ) -> None:
        self._ports = ports
        self._registry = registry
        self._threads = threads
        self._cancelled = threading.Event()
        self._results = Results(registry, ports.monitor, ports.store, ports.clock)
        self._worker = Worker(
            ports,
            registry,
            msgspec.structs.replace(settings, drain_timeout_s=0.0, receive_wait_s=0.1),
            threads=threads,
            worker_id="local",
            rng=random.Random(),
        )
        self._batch_id = ""

    def run(self, path: Path, on_progress: Callable[[BatchView], None]) -> Summary:
        """Run the file and return the summary; `on_progress` sees each state of the batch. Raises
        InvalidTask, which names the line at fault, before anything runs."""
        with path.open(encoding="utf-8", errors="strict") as lines:
            numbered = list(read_tasks(lines))
        started = self._ports.clock.now()
        self._submit(numbered)
        thread = threading.Thread(target=self._worker.run, name="worker")
        thread.start()
        try:
            view = self._follow(on_progress)
            seconds = self._ports.clock.now() - started
        finally:
            self._worker.drain()
            thread.join()
        return Summary(view, seconds, self._ideal_s(numbered))

    def cancel(self) -> None:
        self._cancelled.set()

    def results(self) -> Iterator[ResultView]:
        """The results, in the order of the file."""
        cursor: str | None = None
        while True:
            page = self._results.results(
                self._batch_id, client_id=CLIENT_ID, limit=PAGE_MAX, cursor=cursor
            )
            yield from page.results
            cursor = page.cursor
            if cursor is None:
                return

    def _submit(self, numbered: list[tuple[int, Any]]) -> None:
        monitor = self._ports.monitor
        submission = Submission(
            self._registry,
            Planner(self._registry, monitor, least_slots=self._threads),
            Enqueuer(self._ports.tasks, monitor),
            monitor,
            self._ports.clock,
            os.urandom,
        )
        try:
            batch = submission.submit(
                [raw for _, raw in numbered], client_id=CLIENT_ID, max_tasks=len(numbered)
            )
        except InvalidTask as error:
            if error.index is None:
                raise
            raise InvalidTask(f"line {numbered[error.index][0]}: {error.reason}") from None
        self._batch_id = batch.batch_id

    def _follow(self, on_progress: Callable[[BatchView], None]) -> BatchView:
        """Count the responses as they come, until all are in or the run is cancelled."""
        responses = self._ports.responses
        while True:
            messages = responses.receive(CALL_MAX_MESSAGES, wait_s=0.1, visibility_s=60)
            if messages:
                bodies = {message.message_id: message.body for message in messages}
                collect(bodies, self._ports.monitor, self._ports.clock)
                responses.delete(messages)
            view = self._results.status(self._batch_id, client_id=CLIENT_ID)
            on_progress(view)
            if view.finished_at is not None or self._cancelled.is_set():
                return view

    def _ideal_s(self, numbered: list[tuple[int, Any]]) -> float | None:
        """Seconds of all tasks shared evenly by the slots, or of the longest task if that is more;
        None when a duration is unknown."""
        total = longest = 0.0
        for index, (_, raw) in enumerate(numbered):
            task = self._registry.parse(raw, index)
            seconds = self._registry[task.kind].expected_s(task.params)
            if seconds is None:
                return None
            total += seconds
            longest = max(longest, seconds)
        return max(total / self._threads, longest) or None
