"""The calls that the code of the middle really makes: a recorder of AWS calls with their units, and
the scenes that it records: counting answers, claiming and committing, an idle tick, a client's
question. Owns the scenes; not what they cost (`bench.middle`, `bench.cloud_rules`).

The scenes run the project's own code on whatever `Aws` they are given: an emulator's. The units are
computed from the items as they are in the table after each call, by the published rules.
"""

from __future__ import annotations

import math
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from bench.cloud_rules import item_bytes, read_units, write_units
from chalice_app.services import Services, assemble
from taskfleet.aws.dynamodb.progress import COUNT_THREADS
from taskfleet.aws.session import Aws
from taskfleet.batch import BatchRecord, random_batch_id
from taskfleet.bundle import Response, job_id
from taskfleet.clock import SystemClock
from taskfleet.pace import Sample
from taskfleet.ports import CALL_MAX_MESSAGES
from taskfleet.registry import Registry
from taskfleet.scheduler.collect import collect
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.envelopes import ENVELOPE_MAX_RESPONSES, pack
from taskfleet.wire.queues import encode_response

IN_HAND = 2_048
"""Bundles of a large batch that workers have in hand at a time: those of 64 machines of 16 slots,
and as many again that wait there. Answers that come together are spread over so many bundles."""
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem"})


@dataclass
class Recorded:
    """Calls, the units that they used, and the CPU time of the code that made them."""

    calls: Counter[str] = field(default_factory=Counter)
    writes: float = 0.0
    reads: float = 0.0
    refused: int = 0
    """Writes whose condition did not hold."""
    rounds: int = 0
    """Calls that waited for each other; those that several threads made at a time are one."""
    cpu_s: float = 0.0

    @property
    def total(self) -> int:
        return self.calls.total()


class Recorder:
    """Records the calls of an `Aws`, and nothing else may run in this process meanwhile. A second
    client, which nobody watches, looks up the items that were written."""

    def __init__(self, aws: Aws, looker: Any) -> None:
        self._table = aws.settings.monitor_table
        self._looker = looker
        self._sent = threading.local()
        self._lock = threading.Lock()
        self._now = Recorded()
        self._looking_s = 0.0
        self._in_turn = self._at_once = 0
        for service in ("dynamodb", "sqs", "ec2"):
            events = aws.client(service).meta.events
            events.register("before-parameter-build", self._on_call)
            events.register("after-call", self._on_answer)

    @contextmanager
    def recording(self) -> Iterator[Recorded]:
        """Records what the block does."""
        self._now, self._looking_s = recorded, _ = Recorded(), 0.0
        self._in_turn = self._at_once = 0
        began = time.process_time()
        yield recorded
        recorded.cpu_s = time.process_time() - began - self._looking_s
        self.call_ends()
        self._now = Recorded()

    def call_ends(self) -> None:
        """A call of a function has ended, so that its calls and the next ones are not made at a
        time."""
        self._now.rounds += self._in_turn + math.ceil(self._at_once / COUNT_THREADS)
        self._in_turn = self._at_once = 0

    def _on_call(self, params: Any, **_: Any) -> None:
        self._sent.params = params

    def _on_answer(self, event_name: str, parsed: Any, **_: Any) -> None:
        began = time.thread_time()
        _, service, operation = event_name.split(".", 2)
        writes = reads = 0.0
        if service == "dynamodb":
            if operation in _WRITES:
                writes = write_units(self._written_bytes(parsed))
            else:
                reads = _units_read(operation, parsed)
        with self._lock:
            self._now.calls[operation] += 1
            self._now.writes += writes
            self._now.reads += reads
            self._now.refused += "Error" in parsed
            if threading.current_thread() is threading.main_thread():
                self._in_turn += 1
            else:
                self._at_once += 1
            self._looking_s += time.thread_time() - began

    def _written_bytes(self, parsed: Any) -> int:
        """The size of the item that was written, or that refused the write."""
        if "Error" in parsed:
            return item_bytes(parsed.get("Item", {}))
        params = self._sent.params
        if "Item" in params:
            return item_bytes(params["Item"])
        found = self._looker.get_item(TableName=self._table, Key=params["Key"], ConsistentRead=True)
        return item_bytes(found.get("Item", {}))


def _units_read(operation: str, parsed: Any) -> float:
    if operation == "GetItem":
        return read_units(item_bytes(parsed.get("Item", {})))
    if operation == "BatchGetItem":
        answers = [item for items in parsed["Responses"].values() for item in items]
        return sum(read_units(item_bytes(item)) for item in answers)
    size = sum(item_bytes(item) for item in parsed.get("Items", []))
    return read_units(size, consistent=False)


# --- scenes -----------------------------------------------------------------------------------


def make_batch(aws: Aws, number: int, bundles: int) -> str:
    """Records a batch of one-task bundles in the table, all of them on the queue. Returns its
    id."""
    batch = BatchRecord(
        batch_id=random_batch_id(number.to_bytes(16, "big") + os.urandom(16)),
        client_id="bench",
        name=None,
        created_at=time.time(),
        total=bundles,
        bundles=bundles,
        payload_hash="p",
        closed=True,
        enqueued=bundles,
    )
    aws.monitor().create_batch(batch)
    aws.monitor().start_batch(batch.batch_id, time.time())
    return batch.batch_id


def answers(batch_id: str, numbers: Sequence[int]) -> list[str]:
    """Returns the messages of a worker that tells of these bundles of one task."""
    told = [
        Response(
            job_id(batch_id, number),
            "bench",
            batch_id,
            [result(number)],
            timings={"film": Sample(1, 0.001, 0.000001)},
        )
        for number in numbers
    ]
    return [body for _, body in pack((each, encode_response(each)) for each in told)]


def result(index: int) -> TaskResult:
    """Returns the result of a task that succeeded."""
    return TaskResult(index, TaskStatus.SUCCEEDED, None, None, 1, time.time(), 0.001, "worker-1")


def calls_of_collectors(
    batches: Sequence[str], bundles: int, answers_a_message: int, rng: random.Random
) -> Iterator[dict[str, str]]:
    """Yields the messages of each call of a collector, until all bundles of all batches are told.
    A worker has adjacent bundles, and the calls come from `IN_HAND` bundles in any order."""
    step = min(answers_a_message, ENVELOPE_MAX_RESPONSES)
    waiting = [
        message
        for batch_id in batches
        for start in range(0, bundles, step)
        for message in answers(batch_id, range(start, min(start + step, bundles)))
    ]
    in_hand: list[str] = []
    while waiting or in_hand:
        more = IN_HAND // step - len(in_hand)
        in_hand += waiting[:more]
        del waiting[:more]
        rng.shuffle(in_hand)
        yield {str(n): body for n, body in enumerate(in_hand[:CALL_MAX_MESSAGES])}
        del in_hand[:CALL_MAX_MESSAGES]


def count_all(
    aws: Aws, calls: Iterator[dict[str, str]], call_ends: Callable[[], None] = lambda: None
) -> int:
    """Collects. Returns the number of calls of the collector."""
    monitor, clock = aws.monitor(), SystemClock()
    number = 0
    for bodies in calls:
        collect(bodies, monitor, clock)
        call_ends()
        number += 1
    return number


def claims(aws: Aws, tasks: int) -> None:
    """Claims and commits one bundle of so many tasks, as `ec2_worker.protocol` does."""
    monitor = aws.monitor()
    job = job_id(random_batch_id(os.urandom(32)), 0)
    lease = monitor.claim(job, owner="nonce", lease_s=60.0).lease
    made = [Task(index, "sleep", 1.0) for index in range(tasks)]
    assert lease is not None
    monitor.commit(job, lease, tasks=made, results=[result(index) for index in range(tasks)])


def services(aws: Aws, *, random_bytes: Callable[[int], bytes] = os.urandom) -> Services:
    """Returns the services of the functions, with a provisioner."""
    return assemble(
        registry=Registry.load([]),
        task_queue=aws.task_queue(),
        response_queue=aws.response_queue(),
        upload_queue=aws.upload_queue(),
        monitor=aws.monitor(),
        store=aws.store(),
        clock=SystemClock(),
        random_bytes=random_bytes,
        token_secret=str,
        records=aws.fleet_records(),
        schedule_records=aws.schedule_records(),
        fleet=aws.fleet(),
        nudge=None,
        settings=replace(aws.settings, max_capacity=10),
        spent=aws.meter.spend,
        high_queue=aws.high_queue(),
    )


def tick(made: Services) -> None:
    """Does what the scheduled function does (`chalice_app.events`)."""
    assert made.provisioner is not None
    depth = made.task_queue.depth()
    made.schedules.submit_due(lambda: 0.0)
    made.provisioner.run(lambda: 0.0, depth)
