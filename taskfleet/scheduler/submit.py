"""Takes in a batch whose tasks are all in one request: validates them, records the batch, and
enqueues its bundles, in this order. A submission interrupted at any point can be sent again. A
batch of very many bundles is recorded and then goes the way of an upload, since a request has no
time to enqueue it.

Owns that order; not planning (`taskfleet.scheduler.plan`), enqueueing
(`taskfleet.scheduler.enqueue`), batches made of an upload (`taskfleet.scheduler.upload`), nor
reading results (`taskfleet.scheduler.results`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from taskfleet.batch import BatchRecord, keyed_batch_id, kinds_of, random_batch_id
from taskfleet.bundle import borders
from taskfleet.errors import Conflict, InvalidTask, TaskfleetError
from taskfleet.options import BatchOptions
from taskfleet.ports import Clock, TaskMonitor
from taskfleet.provisioner.records import Noted
from taskfleet.quote import Quote
from taskfleet.registry import Registry
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.limit import NO_LIMIT, ClientLimit
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.quoter import Quoter
from taskfleet.scheduler.record import payload_hash, record_once
from taskfleet.scheduler.upload import Uploads
from taskfleet.task import Task
from taskfleet.wire.http.caps import MAX_TASKS

SEND_MAX_BUNDLES = 5_000
"""Most bundles that a submission enqueues itself: 500 calls. One call takes about a millisecond of
the processor and ten until its answer, eight at a time, so these take about a second. A batch of
more bundles, of which 5 MiB may hold 250,000, is handed to the reader of uploads."""


class Submission:
    """Takes in batches.

    random_bytes: returns the given number of random bytes, such as `os.urandom`.
    uploads: takes batches of more than `send_max_bundles` bundles; None where there is no reader
        of uploads, so that all batches are enqueued here.
    limit: bounds the tasks of each client.
    quoter: makes the quote that each batch keeps; None for none.
    """

    def __init__(
        self,
        registry: Registry,
        planner: Planner,
        enqueuer: Enqueuer,
        monitor: TaskMonitor,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        uploads: Uploads | None = None,
        *,
        limit: ClientLimit = NO_LIMIT,
        send_max_bundles: int = SEND_MAX_BUNDLES,
        quoter: Quoter | None = None,
    ) -> None:
        self._registry = registry
        self._planner = planner
        self._enqueuer = enqueuer
        self._monitor = monitor
        self._clock = clock
        self._random_bytes = random_bytes
        self._uploads = uploads
        self._limit = limit
        self._send_max_bundles = send_max_bundles
        self._quoter = quoter

    def submit(
        self,
        raw_tasks: Sequence[Any],
        *,
        client_id: str,
        name: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        options: BatchOptions | None = None,
        max_tasks: int = MAX_TASKS,
        retry_of: str | None = None,
    ) -> BatchRecord:
        """Validate all tasks, then record and enqueue them, or, if they make very many bundles,
        have them enqueued later. Returns the batch as recorded. `traceparent` is the trace context
        of the submission (`taskfleet.trace`); a batch that was recorded before keeps its own.
        `options` count for the tasks that do not have their own. `retry_of` is the batch whose
        tasks these are.

        Raises InvalidTask for the first invalid task, and for a batch in `after` for which this one
        may not wait, with nothing done; Conflict when the client used `idempotency_key` before for
        another payload, or another version began the batch and cut it otherwise; LimitReached, with
        nothing done, when the client has too many tasks; TransientError when the queue or the table
        is busy: the caller may send the same again.
        """
        spent_before = self._enqueuer.spent()
        tasks = validate(self._registry, raw_tasks, max_tasks)
        if idempotency_key is None:
            batch_id = random_batch_id(self._random_bytes(32))
        else:
            batch_id = keyed_batch_id(client_id, idempotency_key)
        self._limit.check(self._monitor, client_id, batch_id, len(tasks))
        waits = options is not None and options.after is not None
        if self._uploads is not None:
            self._uploads.check(client_id, batch_id, options)
        elif waits:
            raise InvalidTask("after: no batch can wait for others here")

        plan, groups = self._planner.weigh(tasks)
        bundles = self._planner.cut(tasks, plan)
        wanted = BatchRecord(
            batch_id=batch_id,
            client_id=client_id,
            name=name,
            created_at=self._clock.now(),
            total=len(tasks),
            bundles=len(bundles),
            payload_hash=payload_hash(name, raw_tasks, options),
            closed=True,
            plan=plan,
            traceparent=traceparent,
            options=options,
            retry_of=retry_of,
            kinds=kinds_of(tasks),
            borders=borders(bundles),
        )

        def quote(noted: Noted | None) -> Quote | None:
            if self._quoter is None:
                return None
            return self._quoter.quote(groups, len(bundles), noted).quote

        try:
            if self._uploads is not None and (waits or len(bundles) > self._send_max_bundles):
                noted = None if self._quoter is None else self._quoter.noted()
                # Nobody knows when a batch goes that waits for others.
                wanted = wanted if waits else replace(wanted, quote=quote(noted))
                wanted = self._uploads.as_file(wanted, tasks)
            batch = record_once(self._monitor, wanted)
            if batch.upload is not None and self._uploads is not None:
                self._uploads.request(batch)
            elif batch.enqueued < batch.total:
                if batch.plan != plan:
                    bundles = self._planner.cut(tasks, batch.plan)
                if batch.borders != borders(bundles):
                    raise Conflict(
                        f"batch {batch_id} was begun by another version of Taskfleet, which cut it "
                        "otherwise: cancel it, and send it again under another idempotency key"
                    )
                self._enqueuer.enqueue(batch, bundles, spent_before, quote)
        except TaskfleetError:
            if idempotency_key is None:
                # Nobody can send this batch again, so the bundles already on the queue must not
                # run. The batch may be recorded although `record_once` failed: the write may have
                # taken effect and only its reply been lost.
                self._monitor.cancel_batch(batch_id, self._clock.now())
            raise
        return batch

    def is_begun(self, client_id: str, idempotency_key: str) -> bool:
        """Returns whether a batch is recorded under the key of which not all is on the queue: its
        submission was cut short, or goes on now."""
        batch = self._monitor.batch(keyed_batch_id(client_id, idempotency_key))
        return batch is not None and batch.enqueued < batch.total


def validate(
    registry: Registry, raw_tasks: Sequence[Any], max_tasks: int = MAX_TASKS, *, what: str = "batch"
) -> list[Task]:
    """Returns the tasks of one request, with their places in it as indexes. Raises InvalidTask for
    the first invalid one, for none, and for more than `max_tasks`. `what` is what they make."""
    if not raw_tasks:
        raise InvalidTask(f"a {what} needs at least one task")
    if len(raw_tasks) > max_tasks:
        how = "in several parts" if what == "part" else "as a file through POST /uploads"
        raise InvalidTask(
            f"{len(raw_tasks)} tasks are over the cap of {max_tasks} a request; send them {how}"
        )
    parse = registry.parse
    parsed: dict[str, Task] = {}  # large batches repeat the same text many times
    tasks = []
    for index, raw in enumerate(raw_tasks):
        same = parsed.get(raw) if isinstance(raw, str) else None
        if same is not None:
            tasks.append(Task(index, same.kind, same.params))
            continue
        task = parse(raw, index)
        if isinstance(raw, str):
            parsed[raw] = task
        tasks.append(task)
    return tasks
