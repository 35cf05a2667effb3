"""The provisioner on its AWS adapters, moto playing EC2, DynamoDB and SQS: never over its limits,
always converging, each time with its reason."""

from __future__ import annotations

import os
import time
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from msgspec.structs import replace

from taskfleet.aws.session import Aws
from taskfleet.errors import TransientError
from taskfleet.fleet import Demand, KindDemand, WorkerRecord
from taskfleet.fleetview import FleetViews
from taskfleet.memory import ManualClock
from taskfleet.ports import OutgoingMessage
from taskfleet.provision import Ports, Provisioner
from taskfleet.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
CONF = Settings(
    bucket="taskfleet-test",
    ami_id="ami-12c6146b",
    instance_types=["c7g.large"],
    spot=False,
    max_capacity=4,
)


class OnAws:
    def __init__(self, conf: Settings, clock: ManualClock) -> None:
        self.conf = conf
        self.clock = clock
        self.aws = Aws(conf, self.clock)
        self.records = self.aws.fleet_records()
        self.queue = self.aws.task_queue()
        self.ec2 = self.aws.client("ec2")

    def provisioner(self) -> Provisioner:
        aws = self.aws
        ports = Ports(self.queue, aws.monitor(), self.records, aws.fleet(), self.clock)
        return Provisioner(ports, self.conf)

    def submit(self, messages: int, seconds_each: float = 60.0) -> None:
        known = KindDemand(messages, messages, messages * seconds_each)
        self.records.add_demand(Demand(1, messages, {"sleep": known}))
        self.queue.send([OutgoingMessage("x")] * min(messages, 10))

    def live(self) -> list[str]:
        return [machine.instance_id for machine in self.aws.fleet().instances()]

    def why(self) -> str:
        views = FleetViews(self.queue, self.records, self.clock, self.conf)
        return views.view().why or ""

    def beat(self, instance_id: str) -> None:
        now = self.clock.now()
        self.records.beat(
            WorkerRecord(f"w-{instance_id}", instance_id, 16, ["sleep"], now, now, {"sleep": 16})
        )

    def fail(self, operation: str, code: str, times: int = 1_000) -> None:
        """Let the client's next calls of an operation fail, before they are sent."""
        left = [times]

        def refuse(**_kwargs: Any) -> None:
            if left[0] > 0:
                left[0] -= 1
                raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

        self.ec2.meta.events.register(f"before-call.ec2.{operation}", refuse)


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    clock = ManualClock(time.time())
    # An instance's launch time is told by the clock that its age is told by.
    monkeypatch.setattr(
        "moto.ec2.models.instances.utcnow",
        lambda: datetime.fromtimestamp(clock.now(), UTC).replace(tzinfo=None),
    )
    with mock_aws():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Tried to parse AWS::S3::BucketPolicy", UserWarning)
            boto3.client("cloudformation", region_name="us-east-1").create_stack(
                StackName="taskfleet-dev",
                TemplateBody=(ROOT / "infra" / "stack.yaml").read_text(),
                Parameters=[{"ParameterKey": "BucketName", "ParameterValue": "taskfleet-test"}],
            )
        yield lambda **others: OnAws(replace(CONF, **others), clock)


def test_it_launches_within_the_limit_and_a_second_tick_adds_nothing(make: Any) -> None:
    aws = make()
    aws.submit(10_000)
    aws.provisioner().look()
    assert len(aws.live()) == 4
    for _ in range(3):
        aws.provisioner().look()
        aws.clock.sleep(15)
    assert len(aws.live()) == 4
    assert "machines are booting" in aws.why()
    assert "the limit is 4" in aws.records.state().decisions[-1].reason


def test_an_instance_that_is_ended_by_hand_is_replaced(make: Any) -> None:
    aws = make()
    aws.submit(10_000)
    aws.provisioner().look()
    for name in aws.live():
        aws.beat(name)
    victim, *others = aws.live()
    aws.ec2.terminate_instances(InstanceIds=[victim])
    for _ in range(5):  # for a minute it might just not be listed yet
        aws.clock.sleep(15)
        for name in others:
            aws.beat(name)
        aws.submit(10_000)
        aws.provisioner().look()
    assert len(aws.live()) == 4
    assert victim not in aws.live()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InsufficientInstanceCapacity", "EC2 has no capacity"),
        ("VcpuLimitExceeded", "a quota of the account is reached"),
        ("UnauthorizedOperation", "EC2 refuses to launch"),
    ],
)
def test_what_ec2_will_not_give_is_told_and_had_once_it_gives(
    make: Any, code: str, words: str
) -> None:
    aws = make()
    # A shortage is met twice: for all machines, and for as many as there are.
    aws.fail("RunInstances", code, times=1 if code == "UnauthorizedOperation" else 2)
    aws.submit(10_000)
    aws.provisioner().look()
    assert aws.live() == []
    assert words in aws.why()
    aws.clock.sleep(1)
    aws.provisioner().look()
    assert aws.live() == [], "it backs off"
    aws.clock.sleep(310)
    aws.submit(10_000)
    aws.provisioner().look()
    assert len(aws.live()) == 4
    assert aws.records.state().trouble is None


def test_a_part_of_a_fleet_is_taken_and_the_rest_asked_for_later(make: Any) -> None:
    aws = make()
    aws.fail("RunInstances", "InsufficientInstanceCapacity", times=1)  # all of them; then one
    aws.submit(10_000)
    aws.provisioner().look()
    assert len(aws.live()) == 1
    aws.clock.sleep(20)
    aws.provisioner().look()
    assert len(aws.live()) == 4


def test_a_machine_that_never_beats_gets_two_strikes_and_a_beating_one_none(make: Any) -> None:
    aws = make(max_capacity=2)
    aws.submit(10_000)
    aws.provisioner().look()
    dumb, fine = aws.live()
    for _ in range(20):  # five minutes: strikes at 180 s and 210 s, then a new one
        aws.beat(fine)
        aws.clock.sleep(15)
        aws.provisioner().look()
        assert fine in aws.live()
        assert len(aws.live()) <= 2
    assert dumb not in aws.live()
    assert len(aws.live()) == 2, "another one in its place"


def test_surplus_machines_are_asked_to_leave_and_not_ended(make: Any) -> None:
    aws = make()
    aws.submit(10_000)
    aws.provisioner().look()
    before = aws.live()
    state = aws.records.state()
    aws.records.save_state(replace(state, decisions=[]))
    aws.provisioner()._retire(before[:1])
    for name in before:
        aws.beat(name)
    aws.provisioner()._retire(before[:1])
    now = aws.clock.now()
    asked = [
        aws.records.beat(WorkerRecord(f"w-{name}", name, 16, ["sleep"], now, now))
        for name in before
    ]
    assert asked == [True, False, False, False]
    assert aws.live() == before


def test_while_the_table_is_throttled_nothing_is_launched(make: Any) -> None:
    aws = make()
    aws.submit(10_000)
    dynamodb = aws.aws.client("dynamodb")

    def throttle(**_kwargs: Any) -> None:
        error = {"Code": "ProvisionedThroughputExceededException", "Message": "slow down"}
        raise ClientError({"Error": error}, "UpdateItem")

    dynamodb.meta.events.register("before-call.dynamodb.UpdateItem", throttle)
    with pytest.raises(TransientError):
        aws.provisioner().look()
    assert aws.live() == []
    dynamodb.meta.events.unregister("before-call.dynamodb.UpdateItem", throttle)
    aws.provisioner().look()
    assert len(aws.live()) == 4
