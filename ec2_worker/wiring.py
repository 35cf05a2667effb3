"""Names the concrete adapters of the worker process, and nobody else does."""

from __future__ import annotations

from ec2_worker.worker import POOL_THREADS, Ports
from taskfleet.clock import SystemClock
from taskfleet.errors import SettingsError
from taskfleet.memory import MemoryMonitor, MemoryQueue, MemoryStore
from taskfleet.settings import Settings


def aws_ports(settings: Settings, threads: int) -> Ports:
    """The ports on AWS, or on whatever `AWS_ENDPOINT_URL` points at. SettingsError or
    PermanentError when something is not there, TransientError when it does not answer."""
    # Here, so that a local run does not pay for loading the AWS SDK.
    from taskfleet.aws.session import Aws

    if not settings.bucket:
        raise SettingsError("TASKFLEET_BUCKET must name the S3 bucket")
    clock = SystemClock()
    aws = Aws(settings, clock, threads=threads + POOL_THREADS)
    ports = Ports(
        tasks=aws.task_queue(),
        responses=aws.response_queue(),
        monitor=aws.monitor(),
        store=aws.store(),
        clock=clock,
        spent=aws.meter.spend,
        records=aws.fleet_records(),
    )
    ports.tasks.depth()
    ports.responses.depth()
    return ports


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
