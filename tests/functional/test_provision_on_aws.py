"""The provisioner on its AWS adapters, with moto as EC2, DynamoDB and SQS: it never exceeds its
limits, always converges and gives its reasons."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError
from msgspec.structs import replace

from taskfleet.aws.session import Aws
from taskfleet.errors import TransientError
from taskfleet.memory import ManualClock
from taskfleet.ports import OutgoingMessage
from taskfleet.provisioner.ports import ProvisionerPorts
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.provisioner.records import Demand, KindDemand, WorkerRecord
from taskfleet.provisioner.view import FleetViews
from taskfleet.settings import Settings
from taskfleet.wire.http.fleet import FleetView
from tests.support.moto_aws import create_stack, make_template, moto_account

CONF = Settings(
    bucket="taskfleet-test",
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

    def ports(self) -> ProvisionerPorts:
        aws = self.aws
        return ProvisionerPorts(self.queue, aws.monitor(), self.records, aws.fleet(), self.clock)

    def provisioner(self) -> Provisioner:
        return Provisioner(self.ports(), self.conf)

    def submit(self, messages: int, seconds_each: float = 60.0) -> None:
        known = KindDemand(messages, messages, messages * seconds_each)
        self.records.add_demand(Demand(1, messages, {"sleep": known}))
        self.queue.send([OutgoingMessage("x")] * min(messages, 10))

    def live(self) -> list[str]:
        return [machine.instance_id for machine in self.aws.fleet().instances()]

    def view(self) -> FleetView:
        return FleetViews(self.queue, self.records, self.clock, self.conf).view()

    def why(self) -> str:
        return self.view().why or ""

    def report(self, instance_id: str, *, finds_queue_empty: bool = False) -> None:
        now = self.clock.now()
        running = {} if finds_queue_empty else {"sleep": 16}
        worker = WorkerRecord(
            f"w-{instance_id}",
            instance_id,
            16,
            ["sleep"],
            now,
            now,
            running,
            finds_queue_empty=finds_queue_empty,
        )
        self.records.report(worker)

    def count(self, backlog: int) -> None:
        """Let the queue report so many messages from now on, whatever it holds."""

        def lie(parsed: dict[str, Any], **_kwargs: Any) -> None:
            parsed["Attributes"]["ApproximateNumberOfMessages"] = str(backlog)

        sqs = self.aws.client("sqs")
        sqs.meta.events.register_last("after-call.sqs.GetQueueAttributes", lie)

    def hide_instances(self) -> None:
        """Let EC2 list no instance, as in the first seconds after a launch."""
        self.ec2.meta.events.register(
            "after-call.ec2.DescribeInstances",
            lambda parsed, **_kwargs: parsed.update(Reservations=[]),
            unique_id="hide",
        )

    def list_instances(self) -> None:
        self.ec2.meta.events.unregister("after-call.ec2.DescribeInstances", unique_id="hide")

    def lose_replies(self, times: int) -> list[str]:
        """Lose the replies to the next `times` launches. A launch happens once per token, as on
        EC2 but not in moto. Returns a list that receives the token of each launch."""
        happened: dict[str, Any] = {}
        tokens: list[str] = []
        left = [times]

        def known(params: dict[str, Any], context: dict[str, Any], **_kwargs: Any) -> Any:
            context["token"] = params["body"]["ClientToken"]
            return happened.get(context["token"])

        def lose(http_response: Any, parsed: Any, context: dict[str, Any], **_kwargs: Any) -> None:
            if context["token"] not in happened:
                tokens.append(context["token"])
            happened[context["token"]] = http_response, parsed
            if left[0] > 0:
                left[0] -= 1
                raise ReadTimeoutError(endpoint_url="https://ec2")

        self.ec2.meta.events.register("before-call.ec2.CreateFleet", known)
        self.ec2.meta.events.register("after-call.ec2.CreateFleet", lose)
        return tokens

    def fail(self, operation: str, code: str, times: int = 1_000) -> None:
        """Let the next `times` calls of an operation fail before they are sent."""
        left = [times]

        def refuse(**_kwargs: Any) -> None:
            if left[0] > 0:
                left[0] -= 1
                raise ClientError({"Error": {"Code": code, "Message": "no"}}, operation)

        self.ec2.meta.events.register(f"before-call.ec2.{operation}", refuse)

    def launch_part_of_the_next_fleet(self, count: int, code: str) -> None:
        """Let the next CreateFleet launch `count` machines only, and give an error for the rest."""
        parts: list[str] = []

        def fewer(params: dict[str, Any], **_kwargs: Any) -> None:
            if not parts:
                params["body"]["TargetCapacitySpecification.TotalTargetCapacity"] = count
                parts.append("asked")

        def short(parsed: dict[str, Any], **_kwargs: Any) -> None:
            if parts == ["asked"]:
                parsed["Errors"] = [{"ErrorCode": code, "ErrorMessage": "no"}]
                parts.append("answered")

        self.ec2.meta.events.register("before-call.ec2.CreateFleet", fewer)
        self.ec2.meta.events.register("after-call.ec2.CreateFleet", short)


@pytest.fixture
def make() -> Iterator[Any]:
    clock = ManualClock(time.time())
    with moto_account() as patch:
        # Launch times must come from the clock that measures ages.
        patch.setattr(
            "moto.ec2.models.instances.utcnow",
            lambda: datetime.fromtimestamp(clock.now(), UTC).replace(tzinfo=None),
        )
        create_stack()
        make_template()
        yield lambda **others: OnAws(replace(CONF, **others), clock)


def test_it_launches_within_the_limit_and_a_second_tick_adds_nothing(make: Any) -> None:
    aws = make()
    aws.submit(10_000)
    aws.provisioner().round()
    assert len(aws.live()) == 4
    for _ in range(3):
        aws.provisioner().round()
        aws.clock.sleep(15)
    assert len(aws.live()) == 4
    assert "machines are booting" in aws.why()
    assert "the limit is 4" in aws.records.state().decisions[-1].reason


def test_an_instance_that_is_ended_by_hand_is_replaced(make: Any) -> None:
    aws = make()
    aws.submit(10_000)
    aws.provisioner().round()
    for name in aws.live():
        aws.report(name)
    victim, *others = aws.live()
    aws.ec2.terminate_instances(InstanceIds=[victim])
    for _ in range(5):  # For a minute EC2 might just not list it yet.
        aws.clock.sleep(15)
        for name in others:
            aws.report(name)
        aws.submit(10_000)
        aws.provisioner().round()
    assert len(aws.live()) == 4
    assert victim not in aws.live()
    replaced = [d for d in aws.view().decisions if d.launched == 1]
    assert [d.reason for d in replaced if "wanted" in d.reason and "there are 3" in d.reason]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("InsufficientInstanceCapacity", "EC2 has no capacity"),
        ("VcpuLimitExceeded", "a quota of the account is reached"),
        ("UnauthorizedOperation", "EC2 refuses to launch"),
    ],
)
def test_a_failed_launch_is_reported_and_succeeds_once_ec2_recovers(
    make: Any, code: str, words: str
) -> None:
    aws = make()
    aws.fail("CreateFleet", code, times=1)
    aws.submit(10_000)
    aws.provisioner().round()
    assert aws.live() == []
    assert words in aws.why()
    aws.clock.sleep(1)
    aws.provisioner().round()
    assert aws.live() == [], "it backs off"
    aws.clock.sleep(310)
    aws.submit(10_000)
    aws.provisioner().round()
    assert len(aws.live()) == 4
    assert aws.records.state().trouble is None


def test_a_part_of_a_fleet_is_taken_and_the_rest_asked_for_later(make: Any) -> None:
    aws = make()
    aws.launch_part_of_the_next_fleet(1, "InsufficientInstanceCapacity")
    aws.submit(10_000)
    aws.provisioner().round()
    assert len(aws.live()) == 1
    newest = aws.view().decisions[0]
    assert newest.launched == 1
    assert "no capacity: 3 on-demand machines did not come: InsufficientInst" in newest.reason
    assert "1 machines are booting" in aws.why()
    aws.clock.sleep(20)
    aws.provisioner().round()
    assert len(aws.live()) == 4


def test_a_machine_that_never_reports_gets_two_strikes_and_others_none(make: Any) -> None:
    aws = make(max_capacity=2)
    aws.submit(10_000)
    provisioner = aws.provisioner()
    provisioner.round()
    silent, fine = aws.live()
    for _ in range(20):  # Five minutes: strikes at 180 s and 210 s, then a new machine.
        aws.report(fine)
        aws.clock.sleep(15)
        provisioner.round()
        assert fine in aws.live()
        assert len(aws.live()) <= 2
    assert silent not in aws.live()
    assert len(aws.live()) == 2, "another machine takes its place"


def test_surplus_machines_are_asked_to_leave_and_not_ended(make: Any) -> None:
    aws = make()
    aws.submit(10_000)
    aws.provisioner().round()
    before = aws.live()
    state = aws.records.state()
    aws.records.save_state(replace(state, decisions=[]))
    aws.provisioner()._retire(before[:1])
    for name in before:
        aws.report(name)
    aws.provisioner()._retire(before[:1])
    now = aws.clock.now()
    asked = [
        aws.records.report(WorkerRecord(f"w-{name}", name, 16, ["sleep"], now, now))
        for name in before
    ]
    assert asked == [True, False, False, False]
    assert aws.live() == before


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ("before-call.dynamodb.UpdateItem", "the provisioner has never run"),
        ("before-call.dynamodb", "the records cannot be read, so the provisioner"),
    ],
)
def test_while_the_table_does_not_answer_nothing_is_launched(
    make: Any, calls: str, words: str
) -> None:
    aws = make()
    aws.submit(10_000)
    dynamodb = aws.aws.client("dynamodb")

    def throttle(**_kwargs: Any) -> None:
        error = {"Code": "ProvisionedThroughputExceededException", "Message": "slow down"}
        raise ClientError({"Error": error}, "UpdateItem")

    dynamodb.meta.events.register(calls, throttle)
    with pytest.raises(TransientError):
        aws.provisioner().round()
    assert aws.live() == []
    assert words in aws.why()
    dynamodb.meta.events.unregister(calls, throttle)
    aws.provisioner().round()
    assert len(aws.live()) == 4


@pytest.mark.parametrize("listed", [True, False])
def test_a_launch_whose_reply_is_lost_happens_once(make: Any, listed: bool) -> None:
    aws = make()
    tokens = aws.lose_replies(2)
    if not listed:
        aws.hide_instances()
    aws.submit(10_000)
    aws.provisioner().round()
    assert "EC2 does not answer" in aws.why()
    assert "no answer" in aws.view().decisions[0].reason
    for _ in range(4):
        aws.clock.sleep(15)
        aws.provisioner().round()
    aws.list_instances()
    aws.clock.sleep(15)
    aws.provisioner().round()
    assert len(tokens) == 1
    assert len(aws.live()) == 4
    assert "4 machines are booting" in aws.why()


def test_of_two_ticks_at_once_one_does_nothing(make: Any) -> None:
    aws, other = make(), make()
    aws.submit(10_000)
    faster: list[Any] = []

    def meanwhile(**_kwargs: Any) -> None:
        if not faster:
            faster.append(other.provisioner().round())

    aws.ec2.meta.events.register("before-call.ec2.DescribeInstances", meanwhile)
    assert aws.provisioner().round() is None
    assert faster[0] is not None
    assert len(aws.live()) == 4
    assert [d.launched for d in aws.view().decisions] == [4]


def test_a_tick_that_comes_while_another_launches_asks_for_the_same_launch(make: Any) -> None:
    """moto, unlike EC2, ignores the token of a launch: the token itself is looked at."""
    aws, other = make(), make()
    aws.submit(10_000)
    tokens: list[str] = []

    def meanwhile(params: Any, **_kwargs: Any) -> None:
        first = not tokens
        tokens.append(params["body"]["ClientToken"])
        if first:
            other.provisioner().round()

    for one in (aws, other):
        one.ec2.meta.events.register("before-call.ec2.CreateFleet", meanwhile)
    aws.provisioner().round()
    assert len(tokens) == 2
    assert len(set(tokens)) == 1


def test_all_machines_work_in_the_end_when_every_fifth_boot_fails(make: Any) -> None:
    aws = make(max_capacity=10)
    aws.submit(10_000)
    launched: list[str] = []
    broken: set[str] = set()
    provisioner = aws.provisioner()
    for _ in range(28):  # seven minutes: the second strike falls at 210 s
        provisioner.round()
        live = aws.live()
        assert len(live) <= 10
        for name in live:
            if name not in launched:
                launched.append(name)
                if len(launched) % 5 == 0:
                    broken.add(name)
            if name not in broken:
                aws.report(name)
        aws.clock.sleep(15)
    assert len(broken) >= 2
    assert not broken & set(aws.live())
    assert len(aws.live()) == 10
    decisions = aws.view().decisions
    assert sum(d.ended for d in decisions) == len(broken)
    assert any("never started hold places within the limit" in d.reason for d in decisions)


def test_counts_that_are_stale_neither_hide_a_batch_nor_launch_for_what_is_gone(make: Any) -> None:
    aws = make()
    aws.provisioner().round()
    aws.count(0)
    aws.clock.sleep(30)
    aws.submit(10)
    aws.provisioner().round()
    (machine,) = aws.live()
    assert "10 tasks wait" in aws.view().decisions[0].reason
    for _ in range(6):
        aws.clock.sleep(15)
        aws.report(machine)
    aws.count(5_000)
    aws.report(machine, finds_queue_empty=True)
    aws.provisioner().round()
    assert aws.live() == [machine]
    assert aws.view().backlog == 5_000
    assert "nothing waits and nothing runs" in aws.view().decisions[0].reason
    assert "1 workers are there" in aws.why()


def test_machines_listed_over_pages_are_all_counted(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto counts launches where EC2 counts instances, so six launches fill two pages."""
    monkeypatch.setattr("taskfleet.aws.ec2.LIST_PAGE", 5)
    aws = make(max_capacity=12)
    for capacity in range(2, 13, 2):
        aws.submit(10_000)
        Provisioner(aws.ports(), replace(aws.conf, max_capacity=capacity)).round()
        aws.clock.sleep(1)
    pages = 0

    def count(**_kwargs: Any) -> None:
        nonlocal pages
        pages += 1

    aws.ec2.meta.events.register("before-call.ec2.DescribeInstances", count)
    assert len(aws.live()) == 12
    assert pages == 2
    for _ in range(5):  # From the second minute on only EC2's list shows them.
        aws.clock.sleep(30)
        aws.submit(10_000)
        aws.provisioner().round()
        assert len(aws.live()) == 12
    assert "the limit is 12" in aws.view().decisions[0].reason
    assert "12 machines are booting" in aws.why()
