"""Names the concrete adapters of the worker process, and nobody else does."""

from __future__ import annotations

from ec2_worker.worker import Ports
from taskfleet.clock import SystemClock
from taskfleet.memory import MemoryMonitor, MemoryQueue, MemoryStore
from taskfleet.settings import Settings


def aws_ports(settings: Settings, threads: int) -> Ports:
    """The ports on AWS, or on whatever `AWS_ENDPOINT_URL` points at. PermanentError when a queue
    is not there."""
    # Here, so that a local run does not pay for loading the AWS SDK.
    from taskfleet.aws.dynamodb import DynamoMonitor
    from taskfleet.aws.s3 import S3Store
    from taskfleet.aws.session import Session
    from taskfleet.aws.sqs import SqsQueue

    clock = SystemClock()
    session = Session(settings.region, connections=threads + 16)
    store = S3Store(session, settings.bucket)
    return Ports(
        tasks=SqsQueue(session, settings.task_queue),
        responses=SqsQueue(session, settings.response_queue),
        monitor=DynamoMonitor(session, settings.monitor_table, store, clock, settings),
        store=store,
        clock=clock,
    )


def memory_ports() -> Ports:
    """The same in memory, for the local worker."""
    clock = SystemClock()
    return Ports(
        tasks=MemoryQueue(clock, dead=MemoryQueue(clock)),
        responses=MemoryQueue(clock),
        monitor=MemoryMonitor(clock),
        store=MemoryStore(),
        clock=clock,
    )
