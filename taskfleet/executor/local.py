"""`FleetExecutor(local=True)`: the service without any cloud. The scheduler's own objects stand on
ports in memory, and a worker in this process runs the calls in runner processes. Owns this wiring,
and rows in the order in which they end; everything dies with the process.
"""

from __future__ import annotations

import importlib
import logging
import os
import random
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

import msgspec

from taskfleet.batch import upload_key
from taskfleet.bundle import Response
from taskfleet.client import ApiError
from taskfleet.clock import SystemClock
from taskfleet.errors import Conflict, NotFound, SettingsError, TaskfleetError
from taskfleet.lanes import Lanes
from taskfleet.memory import MemoryMonitor, MemoryQueue, MemoryStore
from taskfleet.options import BatchFields, read_batch
from taskfleet.ports import CALL_MAX_MESSAGES
from taskfleet.registry import Registry
from taskfleet.scheduler.collect import collect
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.open import OpenBatches
from taskfleet.scheduler.parts import Parts
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.results import Results
from taskfleet.scheduler.tasks import TaskViews
from taskfleet.settings import Settings
from taskfleet.wire.calls import content_id
from taskfleet.wire.envelopes import decode_responses
from taskfleet.wire.http.batches import Accepted, BatchView
from taskfleet.wire.http.results import ResultView

if TYPE_CHECKING:
    from ec2_worker.worker import Worker

CLIENT_ID = "local"
MODULES = ("taskfleet.kinds.command", "taskfleet.kinds.python")
"""The modules of the kinds that a local executor runs."""
POLL_S = 0.1
"""Longest wait of a receive, in seconds. It bounds how long the end takes."""
_UNSAID = logging.NullHandler()
"""Keeps Python from printing the worker's records of failed calls where no logging is set up: the
futures tell them."""
URL = "memory://"
"""What begins the URL of an object of the store in memory."""


@dataclass(frozen=True)
class Rows:
    """Rows that have ended. `cursor` is None when no more will come."""

    rows: Sequence[ResultView]
    cursor: str | None

    @property
    def finished(self) -> bool:
        return self.cursor is None


@dataclass(frozen=True)
class Named:
    """A kind's name."""

    name: str


@dataclass(frozen=True)
class LocalKinds:
    """What this process can run."""

    kinds: Sequence[Named]
    workers: dict[str, list[str]] = field(default_factory=dict)


class LocalCloud:
    """Queues, table, store and one worker with `slots` slots. It starts with the first desk that
    asks for something. Raises SettingsError when the worker is not installed."""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"slots is at least 1, not {slots}")
        self._slots = slots
        self._parts = _worker_modules()
        logging.getLogger("ec2_worker.execute.failures").addHandler(_UNSAID)
        self._lock = threading.Lock()
        self._ended: list[ResultView] = []
        self._news = threading.Condition()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._worker: Worker | None = None
        self.clock = SystemClock()
        self.registry = Registry.load(MODULES)
        self.store = MemoryStore()
        self.monitor = MemoryMonitor(self.clock)
        self._dead = MemoryQueue(self.clock, name="dead tasks")
        self._tasks = MemoryQueue(self.clock, name="tasks", dead=self._dead)
        self._high = MemoryQueue(self.clock, name="tasks of high priority", dead=self._dead)
        self._responses = MemoryQueue(self.clock, name="responses")
        enqueuer = Enqueuer(Lanes(self._tasks, self._high), self.monitor)
        self.open_batches = OpenBatches(
            self.registry,
            Planner(self.registry, self.monitor, least_slots=slots),
            enqueuer,
            Parts(self.store, enqueuer),
            self.monitor,
            self.clock,
            os.urandom,
        )
        self.results = Results(self.registry, self.monitor, self.store, self.clock)
        self.views = TaskViews(self.registry, self.results, self.monitor, self.store, self.clock)

    def desk(self) -> LocalDesk:
        """Returns a desk for one more thread."""
        return LocalDesk(self)

    def start(self) -> None:
        """Start the worker unless it runs."""
        with self._lock:
            if self._worker is not None or self._stopping.is_set():
                return
            parts, worker = self._parts
            ports = parts.WorkerPorts(
                self._tasks,
                self._responses,
                self.monitor,
                self.store,
                self.clock,
                high=self._high,
            )
            self._worker = worker.Worker(
                ports,
                self.registry,
                Settings(receive_wait_s=POLL_S, drain_timeout_s=0.0),
                threads=self._slots,
                worker_id="local",
                rng=random.Random(),
            )
            for name, work in (("worker", self._worker.run), ("responses", self._collect)):
                thread = threading.Thread(target=work, name=f"fleet-{name}", daemon=True)
                thread.start()
                self._threads.append(thread)

    def stop(self) -> None:
        """End the worker and its processes. Results and outputs can still be read."""
        self._stopping.set()
        with self._lock:
            worker = self._worker
        if worker is not None:
            worker.drain()
        for thread in self._threads:
            thread.join()

    def completed(self, start: int, wait_s: float) -> Rows:
        """Returns the rows that ended after the first `start`."""
        with self._news:
            self._news.wait_for(
                lambda: len(self._ended) > start or self._stopping.is_set(), timeout=wait_s
            )
            rows = self._ended[start:]
        return Rows(rows, str(start + len(rows)))

    def _collect(self) -> None:
        """Count the responses, and keep their rows in the order in which they come."""
        seen: set[str] = set()
        while not self._stopping.is_set():
            messages = self._responses.receive(CALL_MAX_MESSAGES, wait_s=POLL_S, visibility_s=60.0)
            if not messages:
                continue
            bodies = {message.message_id: message.body for message in messages}
            rows = [row for body in bodies.values() for row in self._rows(body, seen)]
            with self._news:
                self._ended += rows
                self._news.notify_all()
            collect(bodies, self.monitor, self.clock)
            self._responses.delete(messages)

    def _rows(self, body: str, seen: set[str]) -> list[ResultView]:
        decoded = decode_responses(body)
        rows: list[ResultView] = []
        for response in decoded if isinstance(decoded, list) else ():
            if not isinstance(response, Response) or response.job_id in seen:
                continue
            seen.add(response.job_id)
            (record,) = self.monitor.bundles([response.job_id])
            tasks = {task.index: task for task in record.tasks}
            rows += [
                self.results.row(response.batch_id, tasks.get(result.index), result)
                for result in record.results
            ]
        return rows


class LocalDesk:
    """A desk of a `LocalCloud`. Any number of threads may share it."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._cloud = cloud

    def kinds(self) -> LocalKinds:
        return LocalKinds([Named(name) for name in self._cloud.registry.names])

    def put(self, data: bytes | Path) -> str:
        content = data.read_bytes() if isinstance(data, Path) else data
        upload_id = content_id(content)
        key = upload_key(CLIENT_ID, upload_id)
        self._cloud.store.put(key, content, content_type="application/octet-stream")
        return upload_id

    def open(
        self,
        *,
        name: str | None,
        idempotency_key: str | None,
        **options: Unpack[BatchFields],
    ) -> Accepted:
        self._cloud.start()
        batch = self._cloud.open_batches.open(
            client_id=CLIENT_ID,
            name=name,
            idempotency_key=idempotency_key,
            options=read_batch(options),
        )
        return Accepted(batch.batch_id, batch.status, batch.total, "")

    def add(self, batch_id: str, first: int, tasks: Sequence[Any]) -> int:
        raw = [msgspec.json.decode(msgspec.json.encode(task)) for task in tasks]
        try:
            return self._cloud.open_batches.add(batch_id, first, raw, client_id=CLIENT_ID).total
        except Conflict as error:
            raise ApiError(409, str(error)) from error
        except TaskfleetError as error:
            raise ApiError(422, str(error)) from error

    def close_batch(self, batch_id: str) -> BatchView:
        self._cloud.open_batches.close(batch_id, client_id=CLIENT_ID)
        return self.status(batch_id)

    def cancel(self, batch_id: str) -> BatchView:
        return self._cloud.results.cancel(batch_id, client_id=CLIENT_ID)

    def status(self, batch_id: str) -> BatchView:
        return self._cloud.results.status(batch_id, client_id=CLIENT_ID)

    def completed(
        self,
        batch_id: str,  # noqa: ARG002 - there is one batch
        cursor: str | None = None,
        wait_s: float = 0.0,
        *,
        brief: bool = False,  # noqa: ARG002 - a row's task is at hand
    ) -> Rows:
        return self._cloud.completed(int(cursor or 0), wait_s)

    def log_text(self, batch_id: str, index: int) -> str:
        parts: list[str] = []
        offset = 0
        try:
            while True:
                page = self._cloud.views.log(batch_id, index, client_id=CLIENT_ID, offset=offset)
                parts.append(page.text)
                offset = page.end
                if page.end >= page.length or not page.text:
                    break
        except NotFound:
            pass  # it printed nothing, or not so much
        return "".join(parts)

    def fetch(self, url: str) -> bytes:
        return self._cloud.store.get(url.removeprefix(URL))

    def save(self, url: str, path: Path) -> None:
        path.write_bytes(self.fetch(url))

    def close(self) -> None:
        """There are no connections."""


def _worker_modules() -> tuple[Any, Any]:
    """Returns the modules of the worker that are needed here. They are programs that stand on this
    package, so it does not import them by itself."""
    try:
        return (
            importlib.import_module("ec2_worker.parts"),
            importlib.import_module("ec2_worker.worker"),
        )
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "ec2_worker":
            raise
        raise SettingsError(
            "local=True needs the package ec2_worker, which the wheel of taskfleet has: install "
            "that, or run from a checkout's folder"
        ) from None
