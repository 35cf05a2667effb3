"""The promises of `Fleet`, in memory and on EC2, which moto emulates; and the details of EC2: spot
first, shortages, pages. moto never runs out of capacity and ignores client tokens, so those tests
use a stub of EC2's client."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from msgspec.structs import replace

from taskfleet.aws.ec2 import Ec2Fleet
from taskfleet.clock import SystemClock
from taskfleet.errors import PermanentError, TransientError
from taskfleet.memory import MemoryFleet
from taskfleet.provisioner.ports import Fleet
from taskfleet.provisioner.records import InstanceState, Shortage
from taskfleet.settings import Settings
from tests.support.moto_aws import REGION, make_template, moto_account

SPOT = Settings(stage="one", instance_types=["c7g.large", "c6g.large"])
ON_DEMAND = replace(SPOT, spot=False)
_stages = itertools.count(1)


@dataclass
class Machines:
    fleet: Fleet
    other: Fleet
    """The fleet of another stage."""


@pytest.fixture(scope="module")
def ec2() -> Iterator[Any]:
    with moto_account():
        yield boto3.client("ec2", region_name=REGION)


def new_stage() -> str:
    """The name of a stage that has no machines yet: the tests share an account."""
    return f"s{next(_stages)}"


@pytest.fixture(params=["memory", "on demand", "spot"])
def machines(request: pytest.FixtureRequest) -> Machines:
    if request.param == "memory":
        return Machines(MemoryFleet(SystemClock()), MemoryFleet(SystemClock()))
    ec2 = request.getfixturevalue("ec2")
    conf = SPOT if request.param == "spot" else ON_DEMAND
    one, two = new_stage(), new_stage()
    for stage in (one, two):
        make_template(stage)
    return Machines(
        Ec2Fleet(ec2, replace(conf, stage=one)), Ec2Fleet(ec2, replace(ON_DEMAND, stage=two))
    )


def test_launched_machines_are_listed_and_terminated_ones_are_not(machines: Machines) -> None:
    fleet = machines.fleet
    assert fleet.instances() == []
    launch = fleet.launch(3, token="a")
    assert launch.shortage is None
    assert len(set(launch.instance_ids)) == 3
    listed = fleet.instances()
    assert {machine.instance_id for machine in listed} == set(launch.instance_ids)
    assert {machine.state for machine in listed} <= {InstanceState.PENDING, InstanceState.RUNNING}
    assert all(machine.marked_at is None for machine in listed)
    fleet.terminate(launch.instance_ids[:1])
    assert {machine.instance_id for machine in fleet.instances()} == set(launch.instance_ids[1:])


def test_each_stage_sees_its_own_machines_only(machines: Machines) -> None:
    machines.fleet.launch(1, token="a")
    machines.other.launch(2, token="b")
    assert len(machines.fleet.instances()) == 1
    assert len(machines.other.instances()) == 2


def test_a_mark_stays_on_the_machine(machines: Machines) -> None:
    first, second = machines.fleet.launch(2, token="a").instance_ids
    machines.fleet.mark([first], 1_700_000_000.0)
    marks = {machine.instance_id: machine.marked_at for machine in machines.fleet.instances()}
    assert marks == {first: 1_700_000_000.0, second: None}


def test_empty_lists_are_accepted(machines: Machines) -> None:
    machines.fleet.mark([], 1.0)
    machines.fleet.terminate([])


def test_the_same_token_is_the_same_launch() -> None:
    """In memory only, because moto and other emulators ignore the token of a launch."""
    fleet = MemoryFleet(SystemClock())
    assert fleet.launch(2, token="a") == fleet.launch(2, token="a")
    assert len(fleet.instances()) == 2
    with pytest.raises(PermanentError):
        fleet.launch(3, token="a")


def test_a_machine_that_told_nothing_has_no_boot_step(machines: Machines) -> None:
    """In moto each console says the same, and nothing of ours."""
    (machine,) = machines.fleet.launch(1, token="a").instance_ids
    assert machines.fleet.boot_step(machine) == ""


# --- details of EC2 ---


@pytest.mark.parametrize(
    ("console", "step"),
    [
        ("", ""),
        ("[  1.0] Linux\n", ""),
        (
            "taskfleet-boot: mkdir x\r\n[ 9.9] kernel talk\r\ntaskfleet-boot: aws s3 cp\r\nkilled",
            "aws s3 cp",
        ),
        ("[  3.1] cloud-init[1]: ttaskfleet-boot: nested \x1b[31m\x00step", "nested [31mstep"),
        ("taskfleet-boot: " + "x" * 5_000, "x" * 200),
    ],
)
def test_the_last_step_of_a_boot_is_read_from_the_console(console: str, step: str) -> None:
    asked: list[dict[str, Any]] = []

    class Console:
        def get_console_output(self, **arguments: Any) -> Any:
            asked.append(arguments)
            return {"Output": console} if console else {}

    assert Ec2Fleet(Console(), SPOT).boot_step("i-1") == step  # type: ignore[arg-type]
    assert asked == [{"InstanceId": "i-1", "Latest": True}]


@pytest.mark.parametrize("conf", [ON_DEMAND, SPOT], ids=["on demand", "spot"])
def test_machines_have_tags(ec2: Any, conf: Settings) -> None:
    stage = new_stage()
    make_template(stage)
    launch = Ec2Fleet(ec2, replace(conf, stage=stage, tags=["owner=a"])).launch(1, token="a")
    (reservation,) = ec2.describe_instances(InstanceIds=launch.instance_ids)["Reservations"]
    (instance,) = reservation["Instances"]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags["taskfleet:stage"] == stage
    assert tags["Name"] == f"taskfleet-{stage} worker"
    assert tags["owner"] == "a"


def test_instances_are_listed_marked_and_ended_over_pages(
    ec2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pages of a listing, and four calls that name machines by id. moto counts launches
    where EC2 counts instances, so 11 launches fill three pages of five."""
    monkeypatch.setattr("taskfleet.aws.ec2.LIST_PAGE", 5)
    monkeypatch.setattr("taskfleet.aws.ec2.CALL_IDS", 6)
    stage = new_stage()
    make_template(stage)
    fleet = Ec2Fleet(ec2, replace(ON_DEMAND, stage=stage))
    ids = [name for _ in range(11) for name in fleet.launch(2, token="a").instance_ids]
    calls: Counter[str] = Counter()

    def count(event_name: str, **_kwargs: Any) -> None:
        calls[event_name.rpartition(".")[2]] += 1

    ec2.meta.events.register("before-call.ec2", count)
    try:
        assert {machine.instance_id for machine in fleet.instances()} == set(ids)
        assert len(ids) == 22
        fleet.mark(ids, 5.0)
        assert calls == {"DescribeInstances": 3, "CreateTags": 4}
        assert all(machine.marked_at == 5.0 for machine in fleet.instances())
        fleet.terminate(ids)
        assert calls["TerminateInstances"] == 4
        assert fleet.instances() == []
    finally:
        ec2.meta.events.unregister("before-call.ec2", count)


class Ec2Fake:
    """A client of an EC2 that may run out of capacity. `answer` returns the response of each launch
    or raises its error. A repeated client token gets the first response again, as on EC2."""

    def __init__(self, answer: Callable[[str, dict[str, Any]], Any]) -> None:
        self._answer = answer
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._given: dict[str, Any] = {}

    def _call(self, name: str, arguments: dict[str, Any]) -> Any:
        self.calls.append((name, arguments))
        token = arguments["ClientToken"]
        assert re.fullmatch(r"[0-9a-f]{1,64}", token)
        if token not in self._given:
            self._given[token] = self._answer(name, arguments)
        return self._given[token]

    def create_fleet(self, **arguments: Any) -> Any:
        return self._call("CreateFleet", arguments)


def error(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "no"}}, "Launch")


def fleet_answer(prefix: str, count: int, *codes: str) -> Any:
    return {
        "Instances": [{"InstanceIds": [f"{prefix}-{n}" for n in range(count)]}] if count else [],
        "Errors": [{"ErrorCode": code, "ErrorMessage": "no"} for code in codes],
    }


def test_spot_comes_first_over_types_and_subnets_and_on_demand_fills_up() -> None:
    def answer(_name: str, arguments: dict[str, Any]) -> Any:
        wish = arguments["TargetCapacitySpecification"]
        if wish["DefaultTargetCapacityType"] == "spot":
            return fleet_answer("spot", 2, "InsufficientInstanceCapacity")
        return fleet_answer("od", wish["TotalTargetCapacity"])

    conf = Settings(instance_types=["c7g.large", "c6g.large"], subnets=["subnet-a", "subnet-b"])
    ec2 = Ec2Fake(answer)
    launch = Ec2Fleet(ec2, conf).launch(5, token="t")  # type: ignore[arg-type]
    assert launch.instance_ids == ["spot-0", "spot-1", "od-0", "od-1", "od-2"]
    assert launch.shortage is None
    (overrides,) = [c["Overrides"] for c in ec2.calls[0][1]["LaunchTemplateConfigs"]]
    assert len(overrides) == 4
    assert ec2.calls[1][1]["TargetCapacitySpecification"]["TotalTargetCapacity"] == 3
    assert ec2.calls[0][1]["ClientToken"] != ec2.calls[1][1]["ClientToken"]
    again = Ec2Fleet(ec2, conf).launch(5, token="t")  # type: ignore[arg-type]
    assert again == launch, "the same launch again, not another one"


@pytest.mark.parametrize(
    ("codes", "shortage"),
    [
        (("InsufficientInstanceCapacity", "UnfulfillableCapacity"), Shortage.NO_CAPACITY),
        (("VcpuLimitExceeded",), Shortage.QUOTA),
        (("MaxSpotInstanceCountExceeded", "InsufficientInstanceCapacity"), Shortage.NO_CAPACITY),
        ((), Shortage.NO_CAPACITY),
    ],
)
def test_a_fleet_with_too_few_machines_says_why(codes: tuple[str, ...], shortage: Shortage) -> None:
    ec2 = Ec2Fake(lambda _name, _arguments: fleet_answer("i", 0, *codes))
    launch = Ec2Fleet(ec2, SPOT).launch(2, token="t")  # type: ignore[arg-type]
    assert (launch.instance_ids, launch.shortage) == ([], shortage)
    assert all(code in launch.detail for code in codes)


@pytest.mark.parametrize(
    ("code", "shortage"),
    [("InsufficientInstanceCapacity", Shortage.NO_CAPACITY), ("VcpuLimitExceeded", Shortage.QUOTA)],
)
def test_a_call_that_is_refused_for_a_shortage_says_why(code: str, shortage: Shortage) -> None:
    def short(_name: str, _arguments: dict[str, Any]) -> Any:
        raise error(code)

    launch = Ec2Fleet(Ec2Fake(short), SPOT).launch(2, token="t")  # type: ignore[arg-type]
    assert (launch.instance_ids, launch.shortage) == ([], shortage)


@pytest.mark.parametrize(
    "code", ["InvalidFleetConfiguration", "UnauthorizedOperation", "InternalError", "NewInTheYear3"]
)
def test_whatever_spot_lacks_on_demand_fills_up(code: str) -> None:
    """Spot may be forbidden, or impossible for a type, while on-demand machines are neither."""

    def answer(_name: str, arguments: dict[str, Any]) -> Any:
        wish = arguments["TargetCapacitySpecification"]
        if wish["DefaultTargetCapacityType"] == "spot":
            return fleet_answer("spot", 0, code)
        return fleet_answer("od", wish["TotalTargetCapacity"])

    launch = Ec2Fleet(Ec2Fake(answer), SPOT).launch(2, token="t")  # type: ignore[arg-type]
    assert launch.instance_ids == ["od-0", "od-1"]
    assert launch.shortage is None


def test_a_refused_call_for_spot_is_followed_by_one_for_on_demand() -> None:
    def answer(_name: str, arguments: dict[str, Any]) -> Any:
        wish = arguments["TargetCapacitySpecification"]
        if wish["DefaultTargetCapacityType"] == "spot":
            raise error("InvalidFleetConfiguration")
        return fleet_answer("od", wish["TotalTargetCapacity"])

    launch = Ec2Fleet(Ec2Fake(answer), SPOT).launch(2, token="t")  # type: ignore[arg-type]
    assert launch.instance_ids == ["od-0", "od-1"]


def test_machines_that_came_are_known_whatever_kept_the_others_away() -> None:
    ec2 = Ec2Fake(
        lambda _n, a: fleet_answer(
            a["TargetCapacitySpecification"]["DefaultTargetCapacityType"], 1, "NewInTheYear3"
        )
    )
    launch = Ec2Fleet(ec2, SPOT).launch(5, token="t")  # type: ignore[arg-type]
    assert launch.instance_ids == ["spot-0", "on-demand-0"]
    assert launch.shortage is Shortage.REFUSED
    assert "3 on-demand machines did not come: NewInTheYear3: no" in launch.detail


@pytest.mark.parametrize("conf", [ON_DEMAND, SPOT], ids=["on demand", "spot"])
def test_a_refusal_is_an_outcome_and_no_answer_an_error(conf: Settings) -> None:
    def denied(_name: str, _arguments: dict[str, Any]) -> Any:
        raise error("UnauthorizedOperation")

    launch = Ec2Fleet(Ec2Fake(denied), conf).launch(1, token="t")  # type: ignore[arg-type]
    assert (launch.instance_ids, launch.shortage) == ([], Shortage.REFUSED)
    assert "UnauthorizedOperation; check the credentials" in launch.detail

    def throttled(_name: str, _arguments: dict[str, Any]) -> Any:
        raise error("RequestLimitExceeded")

    with pytest.raises(TransientError):
        Ec2Fleet(Ec2Fake(throttled), conf).launch(1, token="t")  # type: ignore[arg-type]


def test_a_missing_template_is_a_refusal_and_no_lack_of_capacity() -> None:
    ec2 = Ec2Fake(
        lambda _n, _a: fleet_answer("i", 0, "InvalidLaunchTemplateName.NotFoundException")
    )
    launch = Ec2Fleet(ec2, SPOT).launch(1, token="t")  # type: ignore[arg-type]
    assert launch.shortage is Shortage.REFUSED
    assert "InvalidLaunchTemplateName" in launch.detail
