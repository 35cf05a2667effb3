"""Taking a batch in whole: validate -> record -> enqueue, so that a submission cut short anywhere
can be sent again. Owns that order; not its steps (`taskfleet.scheduler.enqueue`), batches that come
from an upload (`taskfleet.scheduler.upload`), nor reading what became of them
(`taskfleet.scheduler.results`)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from taskfleet.batch import BatchRecord, keyed_batch_id, random_batch_id
from taskfleet.errors import Conflict, InvalidTask, TaskfleetError
from taskfleet.ports import Clock, TaskMonitor
from taskfleet.registry import Registry
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.plan import Planner
from taskfleet.task import Task
from taskfleet.wire.http import MAX_TASKS


class Submission:
    """Hands batches in. `random_bytes` makes so many random bytes (`os.urandom`)."""

    def __init__(
        self,
        registry: Registry,
        planner: Planner,
        enqueuer: Enqueuer,
        monitor: TaskMonitor,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._enqueuer = enqueuer
        self._monitor = monitor
        self._clock = clock
        self._random_bytes = random_bytes

    def submit(
        self,
        raw_tasks: Sequence[Any],
        *,
        client_id: str,
        name: str | None = None,
        idempotency_key: str | None = None,
        max_tasks: int = MAX_TASKS,
    ) -> BatchRecord:
        """Validate all tasks, then record and enqueue them.

        InvalidTask names the first task at fault, and nothing was done; Conflict when the key
        stands for another payload; TransientError when the queue or table would not have it: send
        the same again.
        """
        spent_before = self._enqueuer.spent()
        tasks = self._validate(raw_tasks, max_tasks)
        if idempotency_key is None:
            batch_id = random_batch_id(self._random_bytes(32))
        else:
            batch_id = keyed_batch_id(client_id, idempotency_key)

        plan = self._planner.plan(tasks)
        bundles = self._planner.cut(tasks, plan)
        fresh = BatchRecord(
            batch_id=batch_id,
            client_id=client_id,
            name=name,
            created_at=self._clock.now(),
            total=len(tasks),
            bundles=len(bundles),
            payload_hash=payload_hash(name, raw_tasks),
            closed=True,
            plan=plan,
        )
        try:
            batch = record(self._monitor, fresh)
            if batch.enqueued < batch.total:
                if batch.plan != plan:
                    bundles = self._planner.cut(tasks, batch.plan)
                self._enqueuer.enqueue(batch, bundles, spent_before)
        except TaskfleetError:
            if idempotency_key is None:
                # Nobody can send this batch again: what did reach the queue must not run. The
                # record may stand although recording it failed, as when the reply was lost.
                self._monitor.cancel_batch(batch_id, self._clock.now())
            raise
        return batch

    def _validate(self, raw_tasks: Sequence[Any], max_tasks: int) -> list[Task]:
        if not raw_tasks:
            raise InvalidTask("a batch needs at least one task")
        if len(raw_tasks) > max_tasks:
            raise InvalidTask(
                f"{len(raw_tasks)} tasks are over the cap of {max_tasks} a request; send them as a "
                "file through POST /uploads"
            )
        read = self._registry.parse
        known: dict[str, Task] = {}  # batches repeat the same text many times over
        tasks = []
        for index, raw in enumerate(raw_tasks):
            if not isinstance(raw, str):
                tasks.append(read(raw, index))
                continue
            same = known.get(raw)
            if same is None:
                same = known[raw] = read(raw, index)
            tasks.append(Task(index, same.kind, same.params))
        return tasks


def record(monitor: TaskMonitor, fresh: BatchRecord) -> BatchRecord:
    """The batch as it stands, whether recorded now or by an earlier try. Conflict when its id
    stands for another payload."""
    known = monitor.create_batch(fresh)
    if known is not None and known.payload_hash != fresh.payload_hash:
        raise Conflict("this idempotency_key was used before for another payload")
    return fresh if known is None else known


def payload_hash(name: str | None, payload: Any) -> str:
    return hashlib.sha256(msgspec.json.encode([name, payload], order="sorted")).hexdigest()
