"""A service in memory for tests of the executor: it records what it is told, and runs the calls in
threads of the test's own process."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
from msgspec.structs import replace

from taskfleet.batch import BatchStatus
from taskfleet.client import ApiError
from taskfleet.task import TaskStatus
from taskfleet.wire import calls
from taskfleet.wire.http.batches import Accepted, BatchView
from taskfleet.wire.http.results import ResultView


@dataclass
class Page:
    rows: list[ResultView]
    cursor: str | None
    finished: bool


@dataclass
class Batch:
    batch_id: str
    tasks: list[dict[str, Any]] = field(default_factory=list)
    closed: bool = False
    cancelled: bool = False
    ended: list[ResultView] = field(default_factory=list)

    @property
    def finished(self) -> bool:
        return (self.closed or self.cancelled) and len(self.ended) == len(self.tasks)


class Service:
    """`desk` makes desks. `fault` is called with the name of each call before it; it may raise.

    hold: while set, tasks wait before they run, as if no worker were there.
    """

    def __init__(self, slots: int = 4, *, python: str | None = None) -> None:
        self.batches: dict[str, Batch] = {}
        self.keys: dict[str, str] = {}
        self.store: dict[str, bytes] = {}
        self.seen: list[tuple[str, Any]] = []
        self.fault: Callable[[str], None] = lambda _name: None
        self.names = ["command", "python", "sleep"]
        self.workers: dict[str, list[str]] = {} if python is None else {"python": [python]}
        self.changed = threading.Condition(threading.RLock())
        self.held = False
        self._pool = ThreadPoolExecutor(slots)

    def desk(self) -> Any:
        return _Desk(self)

    def close(self) -> None:
        self.release()
        self._pool.shutdown(cancel_futures=True)

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        with self.changed:
            self.held = False
            self.changed.notify_all()

    def named(self, name: str) -> list[Any]:
        return [value for called, value in self.seen if called == name]

    def run(self, batch: Batch, index: int) -> None:
        with self.changed:
            self.changed.wait_for(lambda: not self.held or batch.cancelled)
            if batch.cancelled:
                return
        task = batch.tasks[index]
        self.seen.append(("run", index))
        row: dict[str, Any] = {"status": TaskStatus.SUCCEEDED, "result": None, "error": None}
        extra = None
        try:
            row["result"] = self.call(task)
        except Exception as error:  # noqa: BLE001 - the call's own code
            row |= {
                "status": TaskStatus.FAILED,
                "error": f"{type(error).__name__}: {error}",
                "result": calls.encode_error(error),
            }
            extra = "".join(traceback.format_exception(error))
        self.end(batch, index, extra, **row)

    def call(self, task: dict[str, Any]) -> Any:
        params = task["params"]
        if task["kind"] == "command":
            return {"exit_status": 0, "stdout": "", "stderr": "", "outputs": []}
        _, body = calls.decode_header(self.store[params["sha256"]], params["function"])
        args, kwargs = calls.decode_call(params, self.store.__getitem__)
        result, data = calls.encode_result(pickle.loads(body)(*args, **kwargs), "key")
        if data is not None:
            self.store["key"] = data
            result["url"] = "key"
        return result

    def end(self, batch: Batch, index: int, trace: str | None = None, **row: Any) -> None:
        view = ResultView(
            task_id=f"{batch.batch_id}/{index}",
            index=index,
            task=batch.tasks[index],
            attempts=1,
            started_at=None,
            duration_s=0.0,
            worker_id="w",
            traceback=trace,
            **row,
        )
        with self.changed:
            batch.ended.append(view)
            self.changed.notify_all()

    def add(self, batch: Batch, first: int, tasks: Sequence[Any]) -> int:
        decoded = [msgspec.json.decode(msgspec.json.encode(task)) for task in tasks]
        with self.changed:
            if batch.closed or batch.cancelled:
                raise ApiError(409, f"batch {batch.batch_id} is closed")
            if first > len(batch.tasks):
                raise ApiError(409, f"there is a gap before {first}")
            known = batch.tasks[first : first + len(decoded)]
            if known and known != decoded[: len(known)]:
                raise ApiError(409, f"another content was sent at {first}")
            start = len(batch.tasks)
            batch.tasks += decoded[len(known) :]
        for index in range(start, len(batch.tasks)):
            self._pool.submit(self.run, batch, index)
        return len(batch.tasks)

    def cancel(self, batch: Batch) -> None:
        with self.changed:
            batch.cancelled = True
            started = {row.index for row in batch.ended} | set(self.named("run"))
            for index in range(len(batch.tasks)):
                if index not in started:
                    self.end(batch, index, status=TaskStatus.CANCELLED, result=None, error=None)
            self.changed.notify_all()


class _Desk:
    def __init__(self, service: Service) -> None:
        self._service = service

    def _note(self, name: str, value: Any = None) -> None:
        self._service.fault(name)
        self._service.seen.append((name, value))

    def kinds(self) -> Any:
        self._note("kinds")
        kinds = [SimpleNamespace(name=name) for name in self._service.names]
        return SimpleNamespace(kinds=kinds, workers=self._service.workers)

    def put(self, data: bytes | Path) -> str:
        self._note("put", data)
        content = data.read_bytes() if isinstance(data, Path) else data
        key = sha256(content).hexdigest()
        self._service.store[key] = content
        return key

    def open(self, *, idempotency_key: str | None, **options: Any) -> Accepted:
        self._note("open", {"idempotency_key": idempotency_key, **options})
        service = self._service
        batch_id = service.keys.get(idempotency_key or "")
        if batch_id is None:
            batch_id = f"b{len(service.batches)}"
            service.batches[batch_id] = Batch(batch_id)
            if idempotency_key is not None:
                service.keys[idempotency_key] = batch_id
        batch = service.batches[batch_id]
        return Accepted(batch_id, BatchStatus.RUNNING, len(batch.tasks), "")

    def add(self, batch_id: str, first: int, tasks: Sequence[Any]) -> int:
        self._note("add", (first, len(tasks)))
        return self._service.add(self._service.batches[batch_id], first, tasks)

    def close_batch(self, batch_id: str) -> None:
        self._note("close_batch", batch_id)
        with self._service.changed:
            self._service.batches[batch_id].closed = True
            self._service.changed.notify_all()

    def cancel(self, batch_id: str) -> None:
        self._note("cancel", batch_id)
        self._service.cancel(self._service.batches[batch_id])

    def status(self, batch_id: str) -> BatchView:
        batch = self._service.batches[batch_id]
        total = len(batch.tasks)
        return BatchView(batch_id, None, BatchStatus.RUNNING, total, 0, 0, 0, "", None, None)

    def completed(
        self, batch_id: str, cursor: str | None = None, wait_s: float = 0.0, *, brief: bool = False
    ) -> Page:
        self._service.fault("completed")
        batch, start = self._service.batches[batch_id], int(cursor or 0)
        with self._service.changed:
            self._service.changed.wait_for(
                lambda: len(batch.ended) > start or batch.finished, min(wait_s, 0.5)
            )
            rows = batch.ended[start:]
            if brief:
                rows = [replace(row, task=None) for row in rows]
            end = batch.finished
            return Page(rows, None if end else str(start + len(rows)), end)

    def log_text(self, batch_id: str, index: int) -> str:
        return f"log of {index}"

    def fetch(self, url: str) -> bytes:
        return self._service.store[url]

    def save(self, url: str, path: Path) -> None:
        path.write_bytes(self._service.store[url])

    def close(self) -> None:
        self._service.seen.append(("close", None))
