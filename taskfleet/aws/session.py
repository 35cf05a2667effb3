"""The AWS clients of a process and the adapters made from them. Owns the region, retries, time-outs
and the size of connection pools; not the calls. boto3 itself reads endpoints,
credentials and profiles from `AWS_ENDPOINT_URL_<SERVICE>`, `AWS_PROFILE` and its other
variables."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import NoRegionError

from taskfleet import __version__
from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.fleet_records import DynamoFleetRecords
from taskfleet.aws.dynamodb.monitor import DynamoMonitor
from taskfleet.aws.dynamodb.schedules import DynamoScheduleRecords
from taskfleet.aws.ec2 import Ec2Fleet
from taskfleet.aws.events import EventBus, Topic
from taskfleet.aws.lambda_nudge import LambdaNudge
from taskfleet.aws.latency import delay_calls
from taskfleet.aws.meter import Meter
from taskfleet.aws.s3 import S3Store
from taskfleet.aws.sqs import SqsQueue
from taskfleet.aws.ssm import change_secret, read_secret
from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.errors import SettingsError
from taskfleet.ports import Clock
from taskfleet.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_lambda import LambdaClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_ssm import SSMClient

CONNECT_TIMEOUT_S = 3
READ_TIMEOUT_S = 10
LONG_POLL_TIMEOUT_S = 30
"""Read time-out of the SQS client, in seconds: longer than a long poll of 20 s."""
MAX_ATTEMPTS = 4
"""Most requests for one call, including the first ("Retries", Boto3 documentation)."""
USER_AGENT = f"taskfleet/{__version__} botocore/{botocore.__version__}"
"""Given, since botocore puts its own together twice for each call, a sixth of the call's time."""


def region_of(explicit: str) -> str | None:
    """Returns the region to speak to: `explicit`, or AWS_REGION if that is empty. boto3 does not
    read AWS_REGION. None leaves the choice to boto3: AWS_DEFAULT_REGION, or the profile's."""
    return explicit or os.environ.get("AWS_REGION") or None


class Aws:
    """Makes the adapters of one process from its settings, with one client for each service. Safe
    for any number of threads.

    threads: threads that use a client at a time; the size of its connection pool.
    rng: draws the random delays of retries.
    meter: counts the calls of all clients.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        threads: int = DEFAULT_SLOTS,
        rng: random.Random | None = None,
    ) -> None:
        self.settings = settings
        self._clock = clock
        self._threads = threads
        self._backoff = Backoff(clock, rng or random.Random())
        # Typed as Any because the overloads of `client` accept literal service names only.
        self._session: Any = boto3.session.Session(region_name=region_of(settings.region))
        self._lock = threading.Lock()
        self._clients: dict[str, Any] = {}
        self.meter = Meter()

    def client(self, service: str) -> Any:
        """Returns the client of a service; the first call makes it. Raises SettingsError without a
        region."""
        with self._lock:
            client = self._clients.get(service)
            if client is None:
                client = self._clients[service] = self._make_client(service)
                self.meter.watch(client)
                delay_calls(client, self.settings.aws_latency_ms)
            return client

    def _make_client(self, service: str) -> Any:
        config = Config(
            retries={"mode": "standard", "total_max_attempts": MAX_ATTEMPTS},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=LONG_POLL_TIMEOUT_S if service == "sqs" else READ_TIMEOUT_S,
            max_pool_connections=self._threads,
            tcp_keepalive=True,
            user_agent=USER_AGENT,
            # Presigned URLs and forms name the region's own host, since a redirect loses a POST.
            signature_version="s3v4" if service == "s3" else None,
            s3={"addressing_style": "virtual"} if service == "s3" else None,
        )
        try:
            return self._session.client(service, config=config)
        except NoRegionError:
            raise SettingsError(
                "no AWS region: set AWS_REGION or AWS_DEFAULT_REGION, or a profile that names one"
            ) from None

    def task_queue(self) -> SqsQueue:
        """Returns the queue of bundles, `Task_to_process`."""
        return self._queue(self.settings.task_queue)

    def high_queue(self) -> SqsQueue:
        """Returns the queue of bundles of high priority, `Task_to_process_high`."""
        return self._queue(self.settings.high_queue)

    def response_queue(self) -> SqsQueue:
        """Returns the queue of responses, `Processed_Task`."""
        return self._queue(self.settings.response_queue)

    def upload_queue(self) -> SqsQueue:
        """Returns the queue of uploads to read, `Upload_to_expand`."""
        return self._queue(self.settings.upload_queue)

    def _queue(self, name: str) -> SqsQueue:
        client: SQSClient = self.client("sqs")
        return SqsQueue(client, name, self._backoff)

    def store(self) -> S3Store:
        """Returns the bucket."""
        client: S3Client = self.client("s3")
        return S3Store(client, self.settings.bucket)

    def monitor(self) -> DynamoMonitor:
        """Returns the table of bundles, batches and paces."""
        client: DynamoDBClient = self.client("dynamodb")
        return DynamoMonitor(
            client,
            self.settings.monitor_table,
            store=self.store(),
            clock=self._clock,
            backoff=self._backoff,
            ttl_days=self.settings.record_ttl_days,
        )

    def fleet(self) -> Ec2Fleet:
        """Returns the machines of this stage."""
        client: EC2Client = self.client("ec2")
        return Ec2Fleet(client, self.settings)

    def fleet_records(self) -> DynamoFleetRecords:
        """Returns the records of demand, workers and the provisioner's state."""
        client: DynamoDBClient = self.client("dynamodb")
        return DynamoFleetRecords(
            client, self.settings.monitor_table, clock=self._clock, backoff=self._backoff
        )

    def schedule_records(self) -> DynamoScheduleRecords:
        """Returns the schedules of all clients."""
        client: DynamoDBClient = self.client("dynamodb")
        return DynamoScheduleRecords(
            client, self.settings.monitor_table, clock=self._clock, backoff=self._backoff
        )

    def event_sinks(self) -> list[EventBus | Topic]:
        """Returns where events go, as the settings say."""
        sinks: list[EventBus | Topic] = []
        if self.settings.events:
            sinks.append(EventBus(self.client("events")))
        if self.settings.events_topic:
            sinks.append(Topic(self.client("sns"), self.settings.events_topic))
        return sinks

    def nudge(self) -> LambdaNudge:
        """Returns the caller of the provisioner."""
        client: LambdaClient = self.client("lambda")
        return LambdaNudge(client, self.settings.provisioner_function, self._clock)

    def secret(self, name: str) -> str:
        """Returns the decrypted SSM parameter `name`. Raises NotFound if there is none."""
        client: SSMClient = self.client("ssm")
        return read_secret(client, name)

    def change_secret(self, name: str, change: Callable[[str], str]) -> None:
        """Change the SSM parameter `name`; see `taskfleet.aws.ssm.change_secret`."""
        client: SSMClient = self.client("ssm")
        change_secret(client, name, change)
