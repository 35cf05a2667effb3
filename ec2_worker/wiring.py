"""The concrete adapters of the worker process. No other module of the worker names any."""

from __future__ import annotations

from ec2_worker.parts import WorkerPorts
from ec2_worker.telemetry import Telemetry
from ec2_worker.worker import POOL_THREADS
from taskfleet.clock import SystemClock
from taskfleet.errors import SettingsError
from taskfleet.measure import Recorder
from taskfleet.memory import MemoryMonitor, MemoryQueue, MemoryStore
from taskfleet.settings import Settings


def aws_ports(settings: Settings, threads: int) -> WorkerPorts:
    """The ports on AWS, or on the service that `AWS_ENDPOINT_URL` names. Raises SettingsError or
    PermanentError when something is missing, TransientError when it does not answer."""
    # Imported here, so that a local run does not load the AWS SDK.
    from taskfleet.aws.session import Aws

    if not settings.bucket:
        raise SettingsError("TASKFLEET_BUCKET must name the S3 bucket")
    clock = SystemClock()
    aws = Aws(settings, clock, threads=threads + POOL_THREADS)
    high = aws.high_queue()
    ports = WorkerPorts(
        tasks=aws.task_queue(),
        responses=aws.response_queue(),
        monitor=aws.monitor(),
        store=aws.store(),
        clock=clock,
        spent=aws.meter.spend,
        records=aws.fleet_records(),
        telemetry=Telemetry(Recorder(aws.meter.counts)),
        high=high,
    )
    high.depth()
    ports.tasks.depth()
    ports.responses.depth()
    return ports


def memory_ports() -> WorkerPorts:
    """The ports in memory, for the local worker."""
    clock = SystemClock()
    return WorkerPorts(
        tasks=MemoryQueue(clock, dead=MemoryQueue(clock)),
        responses=MemoryQueue(clock),
        monitor=MemoryMonitor(clock),
        store=MemoryStore(),
        clock=clock,
    )
