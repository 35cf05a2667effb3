"""The two implementations that the contract tests run against: memory, and AWS with the project's
own stack, which moto emulates in this process.

If CONTRACT_ENDPOINT_URL is set, the tests use the emulator at that address instead of moto. It must
have just been started.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws
from moto.core import botocore_stubber

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.fleet_records import DynamoFleetRecords
from taskfleet.aws.dynamodb.monitor import DynamoMonitor
from taskfleet.aws.session import Aws
from taskfleet.aws.sqs import SqsQueue
from taskfleet.clock import SystemClock
from taskfleet.memory import (
    ManualClock,
    MemoryFleetRecords,
    MemoryMonitor,
    MemoryQueue,
    MemoryStore,
)
from taskfleet.ports import ObjectStore, TaskMonitor, TaskQueue
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.settings import Settings

STACK = Path(__file__).parents[2] / "infra" / "stack.yaml"
REGION = "us-east-1"
_stacks = itertools.count(1)


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
    make_queue: Callable[[int], TaskQueue]
    wait: Callable[[float], None]


def create_stack(stage: str, bucket: str) -> dict[str, str]:
    """Creates the stack and returns its outputs."""
    cloudformation = boto3.client("cloudformation", region_name=REGION)
    with warnings.catch_warnings():
        # moto does not support bucket policies, and no test here depends on them.
        warnings.filterwarnings("ignore", "Tried to parse AWS::S3::BucketPolicy", UserWarning)
        cloudformation.create_stack(
            StackName=f"taskfleet-{stage}",
            TemplateBody=STACK.read_text(),
            Parameters=[
                {"ParameterKey": "Stage", "ParameterValue": stage},
                {"ParameterKey": "BucketName", "ParameterValue": bucket},
            ],
        )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=f"taskfleet-{stage}", WaiterConfig={"Delay": 1}
    )
    stack = cloudformation.describe_stacks(StackName=f"taskfleet-{stage}")["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


@pytest.fixture(scope="module")
def aws_account() -> Iterator[None]:
    """An empty AWS account, independent of the environment's credentials and endpoints."""
    endpoint = os.environ.get("CONTRACT_ENDPOINT_URL")
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", REGION)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        if endpoint is not None:
            patch.setenv("AWS_ENDPOINT_URL", endpoint)
        else:
            _serialise_moto(patch)
            stack.enter_context(mock_aws())
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


@pytest.fixture(scope="module")
def aws_stack(aws_account: None) -> Aws:
    stage = f"t{int(time.time()) % 1_000_000}"
    bucket = f"taskfleet-{stage}"
    create_stack(stage, bucket)
    return Aws(Settings(stage=stage, bucket=bucket), SystemClock(), rng=random.Random(0))


def aws_world(aws: Aws) -> World:
    """The stack of this module, with an empty table."""
    settings = _empty(aws)
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
        make_queue=lambda max_receive_count: _new_queue(aws, max_receive_count),
        wait=time.sleep,
    )


def _empty(aws: Aws) -> Settings:
    dynamodb = aws.client("dynamodb")
    for page in dynamodb.get_paginator("scan").paginate(TableName=aws.settings.monitor_table):
        for item in page["Items"]:
            key = {"Job_ID": item["Job_ID"]}
            dynamodb.delete_item(TableName=aws.settings.monitor_table, Key=key)
    return aws.settings


def _new_queue(aws: Aws, max_receive_count: int) -> TaskQueue:
    """The task queue of a new stack, with the given maxReceiveCount."""
    stage = f"{aws.settings.stage}-{next(_stacks)}"
    create_stack(stage, f"taskfleet-{stage}")
    name = Settings(stage=stage).task_queue
    sqs = aws.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])
    policy = json.loads(attributes["Attributes"]["RedrivePolicy"])
    policy["maxReceiveCount"] = max_receive_count
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy)})
    return SqsQueue(sqs, name, Backoff(SystemClock(), random.Random(0)))


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
        make_queue=make_queue,
        wait=clock.sleep,
    )


@pytest.fixture(params=["memory", "aws"])
def world(request: pytest.FixtureRequest) -> World:
    if request.param == "memory":
        return memory_world()
    return aws_world(request.getfixturevalue("aws_stack"))
