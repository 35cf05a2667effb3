"""The cost of a batch of no-ops, counted call by call against moto. A change that raises the bill
fails here."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from chalice_app.services import Services, assemble
from taskfleet.aws.session import Aws
from taskfleet.bill import event_source_spend
from taskfleet.clock import SystemClock
from taskfleet.registry import Registry
from taskfleet.scheduler.collect import collect
from taskfleet.settings import Settings
from taskfleet.wire.http.batches import BatchView
from tests.support.moto_aws import create_stack, moto_account
from tests.support.worker import HandWorker

SETTINGS = Settings(bucket="taskfleet-test")
RESPONSES_A_CALL = 10


class Process:
    """The ports of one process on AWS, as its wiring makes them. Its meter counts every call."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        aws = Aws(SETTINGS, self.clock, rng=random.Random(0))
        self.tasks, self.responses = aws.task_queue(), aws.response_queue()
        self.uploads, self.high_queue = aws.upload_queue(), aws.high_queue()
        self.monitor, self.store = aws.monitor(), aws.store()
        self.records, self.schedules = aws.fleet_records(), aws.schedule_records()
        self.meter = aws.meter

    def services(self, registry: Registry) -> Services:
        return assemble(
            registry=registry,
            task_queue=self.tasks,
            response_queue=self.responses,
            upload_queue=self.uploads,
            monitor=self.monitor,
            store=self.store,
            clock=self.clock,
            random_bytes=os.urandom,
            token_secret=str,
            records=self.records,
            schedule_records=self.schedules,
            fleet=None,
            nudge=None,
            settings=SETTINGS,
            spent=self.meter.spend,
            high_queue=self.high_queue,
        )


class System:
    """API, worker and collector, each in a process of its own."""

    def __init__(self) -> None:
        self.registry = Registry.load()
        self.api, self.worker, self.collector = Process(), Process(), Process()
        # Lambda's poller is not our process; its cost is calculated, not metered.
        self.poller = Process()
        self.polled = 0

    def run(self, tasks: list[Any]) -> BatchView:
        services = self.api.services(self.registry)
        batch = services.submission.submit(tasks, client_id="alice")
        HandWorker(
            self.worker,  # type: ignore[arg-type]  # the same ports, on AWS
            self.registry,
            threads=16,
            spent=self.worker.meter.spend,
        ).work()
        odometer = self.collector.services(self.registry).odometer
        while messages := self.poller.responses.receive(
            RESPONSES_A_CALL, wait_s=0, visibility_s=30
        ):
            overhead = odometer.take() + event_source_spend(len(messages), RESPONSES_A_CALL)
            bodies = {message.message_id: message.body for message in messages}
            collect(bodies, self.collector.monitor, self.collector.clock, overhead)
            self.poller.responses.delete(messages)
            self.polled += 1
        return services.results.status(batch.batch_id, client_id="alice")

    def operations(self) -> Counter[str]:
        """The calls of the three processes, by operation."""
        found: Counter[str] = Counter()
        for process in (self.api, self.worker, self.collector):
            for (_, operation), count in process.meter.counts().items():
                found[operation] += count
        return found


@pytest.fixture(scope="module")
def account() -> Iterator[None]:
    with moto_account():
        create_stack(SETTINGS.stage, SETTINGS.bucket)
        yield


@pytest.fixture
def system(account: None) -> System:
    return System()


@pytest.mark.parametrize(
    ("tasks", "calls", "usd_a_million"),
    [
        (1, 10, 5.0),
        # 0.0094 to 0.0105: measured durations compress less well while the machine is busy.
        (1_000, 10, 0.011),
        (20_000, 60, 0.009),
    ],
)
def test_the_cost_of_no_ops(system: System, tasks: int, calls: int, usd_a_million: float) -> None:
    system.run(["sleep 0"])  # Looks up the queues' URLs, once per process.
    before = system.operations()
    batch = system.run(["sleep 0"] * tasks)
    assert batch.succeeded == tasks
    assert 0 < batch.aws_calls <= calls, system.operations() - before
    assert 0 < batch.cost_usd / tasks * 1e6 <= usd_a_million


def test_nearly_every_call_is_on_the_batchs_bill(system: System) -> None:
    batch = system.run(["sleep 0"] * 20_000)
    metered = system.operations()
    made = (
        metered.total()
        + event_source_spend(RESPONSES_A_CALL, RESPONSES_A_CALL).calls * system.polled
    )
    # Calls from the sending of the last answer on are billed to the next batch; calls that read the
    # status are not billed.
    assert made - 8 <= batch.aws_calls <= made, metered
