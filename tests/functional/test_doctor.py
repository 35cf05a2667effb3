"""`taskfleet doctor` on a deployed stage (moto plays AWS), on an API, and where it may not look;
the preflight of a deployment, too."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result

from infra import chalice, machines, preflight
from infra.rollout import Rollout
from taskfleet import __version__
from taskfleet.aws.checkup.account import Plan, look_at_account
from taskfleet.aws.checkup.stage import look_at_stage
from taskfleet.aws.session import Aws
from taskfleet.checkup.finding import Finding, Level
from taskfleet.cli.main import main
from taskfleet.client import endpoint
from taskfleet.client.checkup import look_at_api
from taskfleet.clock import SystemClock
from taskfleet.memory import ManualClock, MemoryFleetRecords
from taskfleet.settings import Settings
from taskfleet.wire import token
from tests.support.deployment import REGION, StandIn, checkout, client, run
from tests.support.moto_aws import give_way_out, moto_account
from tests.support.stub_api import Answer, StubApi, serving

SECRET = "a secret of more than thirty-two characters"
PLAN = Plan(collectors=2, max_capacity=10, spot=True, types=["c7g.large", "m7g.large"])


@pytest.fixture(autouse=True)
def nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def quotas(unreserved: int = 1000, vcpus: float = 64.0) -> dict[str, Any]:
    """The two services that moto does not play."""
    limit = {"AccountLimit": {"UnreservedConcurrentExecutions": unreserved}}
    quota = {"Quota": {"Value": vcpus}}
    return {
        "lambda": SimpleNamespace(get_account_settings=lambda: limit),
        "service-quotas": SimpleNamespace(get_service_quota=lambda **_: quota),
    }


def levels(findings: list[Finding]) -> dict[str, str]:
    return {finding.subject: str(finding.level) for finding in findings}


# --- the account ---


@pytest.fixture
def account() -> Iterator[pytest.MonkeyPatch]:
    with moto_account(REGION) as patch:
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        give_way_out(boto3.client("ec2"))
        yield patch


def looked(
    plan: Plan = PLAN, now: Callable[[], float] = time.time, **services: Any
) -> list[Finding]:
    aws = Aws(Settings(), SystemClock())
    known = {**quotas(), **services}
    return look_at_account(lambda name: known.get(name) or aws.client(name), plan, now)


def test_an_account_in_which_all_is_well(account: pytest.MonkeyPatch) -> None:
    found = looked()
    assert {finding.level for finding in found} == {Level.OK}, found
    assert list(levels(found)) == [
        *("credentials", "region", "clock", "functions at a time", "instance types"),
        *("spot machines", "on-demand machines", "network"),
    ]


def test_what_is_short_is_told(account: pytest.MonkeyPatch) -> None:
    found = looked(PLAN, lambda: time.time() + 400, **quotas(unreserved=5, vcpus=1.0))
    told = levels(found)
    assert told["clock"] == told["functions at a time"] == told["spot machines"] == "fault"
    assert levels(looked(Plan(2, 10, True, ["x9.large"])))["instance types"] == "fault"


def test_without_a_vpc_or_a_way_out_machines_are_useless(account: pytest.MonkeyPatch) -> None:
    ec2 = boto3.client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24")["Subnet"]["SubnetId"]
    (closed,) = [f for f in looked(Plan(2, 1, True, [], subnets=[subnet])) if f.level == "fault"]
    assert f"{subnet} has no route" in closed.found
    (alone,) = [f for f in looked(Plan(2, 1, True, [], vpc_id=vpc)) if f.level == "fault"]
    assert "TASKFLEET_SUBNETS" in alone.advice
    (default,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    stub = SimpleNamespace(describe_vpcs=lambda **_: {"Vpcs": []}, meta=ec2.meta)
    assert [f.found for f in looked(Plan(2, 0, True, []), ec2=stub) if f.level == "fault"] == [
        "the region has no default VPC"
    ], default


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        (["AWS_DEFAULT_REGION"], "no AWS region: set AWS_REGION"),
        (["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], "no AWS credentials; set AWS_ACCESS"),
    ],
)
def test_without_region_or_credentials_that_is_all_there_is_to_say(
    account: pytest.MonkeyPatch, missing: list[str], said: str
) -> None:
    for name in missing:
        account.delenv(name)
    (finding,) = looked()
    assert (finding.level, finding.subject) == (Level.FAULT, "credentials")
    assert said in finding.found


class Refusing:
    """A client whose every call is refused, with the clock and the region of a real one."""

    def __init__(self, code: str, real: Any) -> None:
        self._code = code
        self.meta = real.meta

    def __getattr__(self, name: str) -> Any:
        def call(**_: Any) -> Any:
            raise ClientError({"Error": {"Code": self._code, "Message": "no"}}, name)

        return call


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("AccessDenied", "could not look: needs the right "),
        ("UnknownOperationException", "UnknownOperationException: no"),
        ("Throttling", "Throttling; try again"),
    ],
)
def test_what_nobody_may_look_at_is_a_warning(
    account: pytest.MonkeyPatch, code: str, said: str
) -> None:
    aws = Aws(Settings(), SystemClock())

    def refusing(name: str) -> Any:
        return aws.client(name) if name == "sts" else Refusing(code, aws.client(name))

    clock = ManualClock()
    found = look_at_account(refusing, PLAN, time.time)[3:]
    found += look_at_stage(refusing, Settings(bucket="b"), MemoryFleetRecords(), clock.now)
    odd = [f for f in found if f.subject not in ("provisioner", "boots")]
    refused = [f for f in odd if said in f.found]
    # A dry run that EC2 refuses for another reason than a right is a fault of the template.
    assert len(refused) == len(odd)
    assert {f.level for f in refused} <= {Level.WARNING, Level.FAULT}
    assert [f.subject for f in refused if f.level is Level.FAULT] == (
        ["launches"] if code.startswith("Unknown") else []
    )


def doctor(*arguments: str) -> tuple[Result, dict[str, dict[str, Any]]]:
    result = CliRunner().invoke(main, ["doctor", "--json", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    return result, {row["subject"]: row for row in rows}


def test_a_stage_that_is_not_there(account: pytest.MonkeyPatch) -> None:
    result, told = doctor("--stage", "beta")
    assert result.exit_code == 1
    assert told["stage"]["found"] == (
        "stage beta is not deployed in eu-west-1 (no SSM parameter /taskfleet/beta/settings): "
        "make deploy STAGE=beta"
    )
    assert told["network"]["level"] == "ok"
    assert "provisioner" not in told


# --- the client's side ---


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubApi]:
    with serving() as stub:
        monkeypatch.setenv("TASKFLEET_URL", stub.url)
        monkeypatch.setenv("TASKFLEET_TOKEN", token.make(SECRET, "ann", 86_400, time.time()))
        yield stub


def health(version: str = __version__) -> Answer:
    return Answer(200, {"status": "ok", "version": version})


def test_an_api_at_which_all_is_well(api: StubApi) -> None:
    api.answers(health(), Answer(200, {"batches": []}))
    result, told = doctor()
    assert result.exit_code == 0, told
    assert list(told) == ["token", "API", "version", "clock", "access"]
    assert api.lines == ["GET /health", "GET /batches?limit=1"]
    assert "authorization" not in api.asked[0].headers


@pytest.mark.parametrize(
    ("answers", "subject", "level"),
    [
        ([health("99.0.0"), Answer(200, {})], "version", "fault"),
        ([health(), Answer(403, {"Message": "no"})], "access", "fault"),
        ([Answer(200, b"<html>"), Answer(200, b"<html>")], "API", "fault"),
        ([Answer(0, b"")], "API", "fault"),
    ],
)
def test_what_is_wrong_with_an_api(
    api: StubApi, answers: list[Answer], subject: str, level: str
) -> None:
    api.answers(*answers)
    result, told = doctor()
    assert result.exit_code == 1
    assert told[subject]["level"] == level, told


def test_a_clock_that_differs_from_that_of_the_api(api: StubApi) -> None:
    api.answers(health(), Answer(200, {}))
    found = look_at_api(endpoint.find(os.environ, Path()), lambda: time.time() + 1000)
    assert levels(list(found))["clock"] == "fault"


def test_without_an_api_it_says_where_one_could_be() -> None:
    result, told = doctor()
    assert result.exit_code == 1
    assert "python -m localcloud" in told["API"]["found"]


# --- the preflight ---


@pytest.mark.parametrize(
    ("choices", "says"),
    [
        (["TASKFLEET_INSTANCE_TYPES=x9.large"], "instance types: eu-west-1 does not offer"),
        (["VpcId=vpc-0123"], "network: machines would be launched in the default VPC"),
    ],
)
def test_a_deployment_that_cannot_work_creates_nothing(
    tmp_path: Path, choices: list[str], says: str
) -> None:
    with checkout(tmp_path):
        done = run("up", *(word for choice in choices for word in ("--set", choice)))
        assert done.exit_code == 1
        assert says in str(done.exception)
        assert str(done.exception).startswith("nothing was changed: ")
        assert client("cloudformation").describe_stacks()["Stacks"] == []


def test_a_deployment_may_go_on_without_looking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("it looked")

    monkeypatch.setattr(preflight, "check", refuse)
    monkeypatch.setattr(Rollout, "run", lambda _: ("https://x", SECRET))
    with checkout(tmp_path):
        assert run("up", "--no-preflight").exit_code == 0


def test_types_of_the_last_deployment_are_wanted_unless_the_architecture_changes() -> None:
    known = {preflight.TYPES: "c6i.large"}
    assert preflight.types_of({}, known, {}) == "c6i.large"
    assert preflight.types_of({"Architecture": "arm64"}, known, {}) == ""
    assert preflight.plan({"Architecture": "x86_64"}, "", {}).types == machines.TYPES["x86_64"]
    assert preflight.plan({"InstanceType": "t3.large"}, "", known).types == ["t3.large"]


# --- the stage ---


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("checkout")
    with checkout(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(chalice, "run", StandIn(folder))
        done = run("up")
        assert done.exit_code == 0, (done.output, done.exception)
        yield


def test_a_stage_that_is_deployed(deployed: None) -> None:
    result, told = doctor("--stage", "prod")
    wrong = {name: row["found"] for name, row in told.items() if row["level"] == "fault"}
    assert wrong == {"provisioner": "it has never run"}
    assert result.exit_code == 1
    for subject in ("stage", "stack taskfleet-prod-Roles", "queues, table, bucket", "boots"):
        assert told[subject]["level"] == "ok"
    assert told["launches"]["level"] == told["alarms"]["level"] == "ok"
    sqs = client("sqs")
    dead = sqs.get_queue_url(QueueName="Upload_to_expand-prod_dead")["QueueUrl"]
    sqs.send_message(QueueUrl=dead, MessageBody="x")
    client("dynamodb").delete_table(TableName="Task_Monitor-prod")
    told = doctor("--stage", "prod")[1]
    assert "redrive --stage prod --uploads" in told["dead letters"]["advice"]
    assert told["queues, table, bucket"]["found"] == "not there: table Task_Monitor-prod"
    plain = CliRunner().invoke(main, ["doctor", "--stage", "prod"]).stdout
    assert "fault    queues, table, bucket: not there: table Task_Monitor-prod; make dep" in plain
