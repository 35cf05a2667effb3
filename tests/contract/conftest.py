"""The two implementations that the contract tests run against: memory, and AWS with the project's
own stack, which moto emulates in this process.

If CONTRACT_ENDPOINT_URL is set, the tests use the emulator at that address instead of moto. It must
have just been started.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from moto.core import botocore_stubber

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.fleet_records import DynamoFleetRecords
from taskfleet.aws.dynamodb.monitor import DynamoMonitor
from taskfleet.aws.dynamodb.schedules import DynamoScheduleRecords
from taskfleet.aws.session import Aws
from taskfleet.aws.sqs import SqsQueue
from taskfleet.clock import SystemClock
from taskfleet.memory import (
    ManualClock,
    MemoryFleetRecords,
    MemoryMonitor,
    MemoryQueue,
    MemoryScheduleRecords,
    MemoryStore,
)
from taskfleet.ports import ObjectStore, TaskMonitor, TaskQueue
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.scheduler.ports import ScheduleRecords
from taskfleet.settings import Settings
from tests.support.moto_aws import aws_credentials, create_stack, empty_table, moto_account

QUEUE_SETTINGS = {
    "DelaySeconds",
    "MaximumMessageSize",
    "MessageRetentionPeriod",
    "ReceiveMessageWaitTimeSeconds",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
}
_queues = itertools.count(1)


@dataclass
class World:
    """One implementation of all ports.

    clock: the clock of the monitor and of the records.
    make_queue: makes an empty queue; a message moves to its dead-letter queue after the given
        number of receives.
    wait: lets seconds pass for the queues, in real time on AWS.
    """

    kind: str
    clock: ManualClock
    monitor: TaskMonitor
    store: ObjectStore
    records: FleetRecords
    schedules: ScheduleRecords
    make_queue: Callable[[int], TaskQueue]
    wait: Callable[[float], None]


@pytest.fixture(scope="package")
def aws_account() -> Iterator[None]:
    """One AWS account for all contract tests, independent of the environment's credentials."""
    endpoint = os.environ.get("CONTRACT_ENDPOINT_URL")
    if endpoint is not None:
        with aws_credentials() as patch:
            patch.setenv("AWS_ENDPOINT_URL", endpoint)
            yield
    else:
        with moto_account() as patch:
            _serialise_moto(patch)
            yield


def _serialise_moto(patch: pytest.MonkeyPatch) -> None:
    """Lets moto answer one call at a time, because it takes no locks, while DynamoDB makes every
    write of an item atomic. Calls of several threads still come in any order."""
    lock = threading.Lock()
    answer = botocore_stubber.BotocoreStubber.__call__

    def answer_alone(self: Any, *args: Any, **kwargs: Any) -> Any:
        with lock:
            return answer(self, *args, **kwargs)

    patch.setattr(botocore_stubber.BotocoreStubber, "__call__", answer_alone)


@pytest.fixture(scope="package")
def aws_stack(aws_account: None) -> Aws:
    stage = f"t{int(time.time()) % 1_000_000}"
    bucket = f"taskfleet-{stage}"
    create_stack(stage, bucket)
    return Aws(Settings(stage=stage, bucket=bucket), SystemClock(), rng=random.Random(0))


def aws_world(aws: Aws) -> World:
    """The stack of this run, with an empty table."""
    settings = aws.settings
    empty_table(aws.client("dynamodb"), settings.monitor_table)
    # The tests set the monitor's clock. Pauses between retries and visibility time-outs are in real
    # time.
    clock = ManualClock(float(int(time.time())))
    monitor = DynamoMonitor(
        aws.client("dynamodb"),
        settings.monitor_table,
        store=aws.store(),
        clock=clock,
        backoff=Backoff(SystemClock(), random.Random(0)),
        ttl_days=settings.record_ttl_days,
    )

    return World(
        kind="aws",
        clock=clock,
        monitor=monitor,
        store=aws.store(),
        records=DynamoFleetRecords(
            aws.client("dynamodb"),
            settings.monitor_table,
            clock=clock,
            backoff=Backoff(SystemClock(), random.Random(0)),
        ),
        schedules=DynamoScheduleRecords(
            aws.client("dynamodb"),
            settings.monitor_table,
            clock=clock,
            backoff=Backoff(SystemClock(), random.Random(0)),
        ),
        make_queue=lambda max_receive_count: _new_queue(aws, max_receive_count),
        wait=time.sleep,
    )


def _new_queue(aws: Aws, max_receive_count: int) -> TaskQueue:
    """An empty queue with the configuration of the stack's task queue and the given
    maxReceiveCount, and a dead-letter queue with the configuration of the stack's."""
    sqs = aws.client("sqs")
    name = f"{aws.settings.task_queue}-{next(_queues)}"
    dead = _queue_like(sqs, f"{aws.settings.task_queue}_dead", f"{name}_dead")
    redrive = json.dumps({"deadLetterTargetArn": dead, "maxReceiveCount": max_receive_count})
    _queue_like(sqs, aws.settings.task_queue, name, RedrivePolicy=redrive)
    return SqsQueue(sqs, name, Backoff(SystemClock(), random.Random(0)))


def _queue_like(sqs: Any, model: str, name: str, **changes: str) -> str:
    """Create a queue with the attributes of `model` but for `changes`, and return its ARN."""

    def attributes(url: str) -> dict[str, str]:
        return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]

    found = attributes(sqs.get_queue_url(QueueName=model)["QueueUrl"])
    settable = {key: value for key, value in found.items() if key in QUEUE_SETTINGS}
    url = sqs.create_queue(QueueName=name, Attributes={**settable, **changes})["QueueUrl"]
    return attributes(url)["QueueArn"]


def memory_world() -> World:
    clock = ManualClock()

    def make_queue(max_receive_count: int) -> MemoryQueue:
        return MemoryQueue(clock, dead=MemoryQueue(clock), max_receive_count=max_receive_count)

    return World(
        kind="memory",
        clock=clock,
        monitor=MemoryMonitor(clock),
        store=MemoryStore(),
        records=MemoryFleetRecords(),
        schedules=MemoryScheduleRecords(),
        make_queue=make_queue,
        wait=clock.sleep,
    )


@pytest.fixture(params=["memory", "aws"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return memory_world()
    return aws_world(request.getfixturevalue("aws_stack"))
