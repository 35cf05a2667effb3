"""Taking tasks in: validate -> record -> enqueue, so that a submission cut short anywhere can be
sent again. Owns that order; not reading what became of it (`taskfleet.results`).

The batch's id follows from client and idempotency key, bundle numbers and contents follow from
the batch, and a bundle that is on the queue twice is the same job: so sending again never runs a
task twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from taskfleet.batch import BatchRecord, keyed_batch_id, random_batch_id
from taskfleet.bill import Spend
from taskfleet.bundle import DEFAULT_SLOTS, Bundle, Plan, cut, encode_bundle, job_id
from taskfleet.errors import Conflict, InvalidTask, TaskfleetError
from taskfleet.ports import Clock, OutgoingMessage, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.task import Task

MAX_TASKS = 250_000
"""Of one part."""
TASK_MAX_BYTES = 250_000
"""Of one task's JSON: a message of SQS holds a mebibyte, a result row shows its task again."""
NAME_MAX_CHARS = 200
KEY_MAX_CHARS = 200


class Part(msgspec.Struct, frozen=True):
    """Which part of its batch a submission is, from 0, and whether it is the last. Parts come in
    order, under one idempotency key."""

    number: int = 0
    last: bool = True


WHOLE = Part()


class Submission:
    """Hands batches in. `random_bytes` makes so many random bytes (`os.urandom`); `slots` tells
    how many slots the fleet has, roughly; `spent` is the running total of this process; `announce`
    is called with tasks that are on the queue, and the messages that they are in."""

    def __init__(
        self,
        registry: Registry,
        queue: TaskQueue,
        monitor: TaskMonitor,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        slots: Callable[[], int] = lambda: DEFAULT_SLOTS,
        spent: Callable[[], Spend] = Spend,
        announce: Callable[[Sequence[Task], int], None] = lambda _tasks, _messages: None,
    ) -> None:
        self._registry = registry
        self._queue = queue
        self._monitor = monitor
        self._clock = clock
        self._random_bytes = random_bytes
        self._slots = slots
        self._spent = spent
        self._announce = announce

    def submit(
        self,
        raw_tasks: Sequence[Any],
        *,
        client_id: str,
        name: str | None = None,
        idempotency_key: str | None = None,
        part: Part = WHOLE,
    ) -> BatchRecord:
        """Validate all tasks, then record and enqueue them.

        InvalidTask names the first task at fault, and nothing was done; Conflict when the key
        stands for another payload, or the part does not come next; TransientError when the queue
        or table would not have it: send the same again.
        """
        if part != WHOLE and idempotency_key is None:
            raise Conflict("a batch in parts needs an idempotency_key that its parts share")
        spent_before = self._spent()
        tasks = self._validate(raw_tasks)
        part_hash = _payload_hash(raw_tasks, name)
        if idempotency_key is None:
            batch_id = random_batch_id(self._random_bytes(32))
        else:
            batch_id = keyed_batch_id(client_id, idempotency_key)

        begun = self._monitor.batch(batch_id) if part.number else None
        plan = begun.plan if begun else self._plan(tasks)
        bundles = self._cut(tasks, plan)
        fresh = BatchRecord(
            batch_id=batch_id,
            client_id=client_id,
            name=name,
            created_at=self._clock.now(),
            total=len(tasks),
            bundles=len(bundles),
            part_hashes=[part_hash],
            closed=part.last,
            plan=plan,
        )
        try:
            batch = self._record(fresh, part, begun)
            if batch.parts_enqueued > part.number:
                return batch
            if batch.plan != plan:
                bundles = self._cut(tasks, batch.plan)
            self._enqueue(batch, bundles, first_index=batch.total - len(tasks))
            self._announce(tasks, len(bundles))
            self._monitor.part_enqueued(batch_id, part.number, self._spent() - spent_before)
        except TaskfleetError:
            if idempotency_key is None:
                # Nobody can send this batch again: what did reach the queue must not run. The
                # record may stand although recording it failed, as when the reply was lost.
                self._monitor.cancel_batch(batch_id, self._clock.now())
            raise
        return batch

    def _validate(self, raw_tasks: Sequence[Any]) -> list[Task]:
        if not raw_tasks:
            raise InvalidTask("a batch needs at least one task")
        if len(raw_tasks) > MAX_TASKS:
            raise InvalidTask(f"{len(raw_tasks)} tasks are over the cap of {MAX_TASKS} a request")
        parse = self._registry.parse
        known: dict[str, Task] = {}  # batches repeat the same text many times over
        tasks = []
        for index, raw in enumerate(raw_tasks):
            if not isinstance(raw, str):
                tasks.append(_sized(parse(raw, index)))
                continue
            same = known.get(raw)
            if same is None:
                same = known[raw] = _sized(parse(raw, index))
            tasks.append(Task(index, same.kind, same.params))
        return tasks

    def _plan(self, tasks: Sequence[Task]) -> Plan:
        """How long tasks take whose kind does not say: as learned, else as the kind's hint."""
        expected_s = self._registry.expected_s({})
        unknown = sorted({task.kind for task in tasks if expected_s(task) is None})
        learned = self._monitor.paces(unknown) if unknown else {}
        estimates = {}
        for kind in unknown:
            pace, hint_s = learned.get(kind), self._registry[kind].hint_s
            if pace is not None:
                estimates[kind] = pace.cautious_s
            elif hint_s is not None:
                estimates[kind] = hint_s
        return Plan(estimates, self._slots())

    def _cut(self, tasks: Sequence[Task], plan: Plan) -> list[list[Task]]:
        return list(cut(tasks, self._registry.expected_s(plan.estimates), slots=plan.slots))

    def _record(self, fresh: BatchRecord, part: Part, begun: BatchRecord | None) -> BatchRecord:
        """The batch with this part recorded in it, whether now or by an earlier try; `begun` is
        what stands there of the earlier parts."""
        known = begun if part.number else self._monitor.create_batch(fresh)
        if known is None and part.number == 0:
            return fresh
        if known is None:
            raise Conflict(f"part {part.number} came first; send part 0 before it")
        if part.number < len(known.part_hashes):
            return self._recorded_before(known, fresh, part)
        if known.closed:
            raise Conflict(f"the batch was closed with part {len(known.part_hashes) - 1}")
        if known.cancelled_at is not None:
            raise Conflict("the batch was cancelled")
        grown = self._monitor.add_part(
            fresh.batch_id,
            part=part.number,
            part_hash=fresh.part_hashes[0],
            tasks=fresh.total,
            bundles=fresh.bundles,
            closed=part.last,
        )
        if grown is None:
            raise Conflict(f"send part {known.parts_enqueued} before part {part.number}")
        return grown

    def _recorded_before(self, known: BatchRecord, fresh: BatchRecord, part: Part) -> BatchRecord:
        is_last = part.number == len(known.part_hashes) - 1
        same = known.part_hashes[part.number] == fresh.part_hashes[0]
        if not same or (is_last and known.closed != part.last):
            raise Conflict("this idempotency_key was used before for another payload")
        return known

    def _enqueue(self, batch: BatchRecord, bundles: list[list[Task]], first_index: int) -> None:
        first_number = batch.bundles - len(bundles)
        messages = []
        for offset, tasks in enumerate(bundles):
            if first_index:
                tasks = [Task(t.index + first_index, t.kind, t.params) for t in tasks]
            number = first_number + offset
            bundle = Bundle(job_id(batch.batch_id, number), batch.client_id, batch.batch_id, tasks)
            messages.append(OutgoingMessage(encode_bundle(bundle), group=batch.client_id))
        self._queue.send(messages)


def _payload_hash(raw_tasks: Sequence[Any], name: str | None) -> str:
    return hashlib.sha256(msgspec.json.encode([name, raw_tasks], order="sorted")).hexdigest()


def _sized(task: Task) -> Task:
    size = len(msgspec.json.encode(task))
    if size > TASK_MAX_BYTES:
        raise InvalidTask(
            f"has {size} bytes of JSON, over the cap of {TASK_MAX_BYTES}; "
            "put what is large into a bucket and name it in the task",
            task.index,
        )
    return task
