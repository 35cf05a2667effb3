"""The machines that `infra/stack.yaml` describes, as moto builds them: what a security review asks
of them. Queues, table and bucket are seen to by the contract tests, which use them."""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from taskfleet.aws.ec2 import BOOT_MARK
from tests.support.moto_aws import create_stack, moto_account

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
SHA256 = "ab" * 32
WORKER = f"taskfleet-dev-{REGION}-worker"
"""The worker's role, and its instance profile."""

Stack = Callable[..., dict[str, str]]


@pytest.fixture
def stack() -> Iterator[Stack]:
    """A function (parameters) that creates the stack and returns its outputs."""

    def create(Stage: str = "dev", **parameters: str) -> dict[str, str]:  # noqa: N803
        return create_stack(Stage, **parameters)

    with moto_account():
        yield create


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


def worker_template(name: str) -> dict[str, Any]:
    versions = client("ec2").describe_launch_template_versions(LaunchTemplateName=name)
    data: dict[str, Any] = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    return data


def user_data(name: str) -> str:
    return base64.b64decode(worker_template(name)["UserData"]).decode()


def test_without_software_there_is_no_launch_template(stack: Stack) -> None:
    assert "LaunchTemplateId" not in stack()
    assert client("ec2").describe_launch_templates()["LaunchTemplates"] == []


def test_machines_are_tagged_and_terminate_when_they_shut_down(stack: Stack) -> None:
    stack(Stage="prod", WorkerSha256=SHA256, ImageId="ami-12345678")
    machine = worker_template("taskfleet-prod")
    assert machine["InstanceInitiatedShutdownBehavior"] == "terminate"
    assert machine["ImageId"] == "ami-12345678"
    for spec in machine["TagSpecifications"]:
        assert {"Key": "taskfleet:stage", "Value": "prod"} in spec["Tags"]
    assert {spec["ResourceType"] for spec in machine["TagSpecifications"]} == {"instance", "volume"}


def test_machines_start_from_the_image_of_the_deployment_unless_one_is_set(stack: Stack) -> None:
    newest = "ami-00000000"
    stack(WorkerSha256=SHA256, BaseImageId=newest)
    stack(
        Stage="prod", WorkerSha256=SHA256, BaseImageId=newest, ImageId="ami-12345678", bucket="b-2"
    )
    assert worker_template("taskfleet-dev")["ImageId"] == newest
    assert worker_template("taskfleet-prod")["ImageId"] == "ami-12345678"


def test_machines_give_credentials_to_nobody_behind_them(stack: Stack) -> None:
    stack(WorkerSha256=SHA256, ImageId="ami-12345678")
    assert worker_template("taskfleet-dev")["MetadataOptions"] == {
        "HttpEndpoint": "enabled",
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
    }


def test_disks_are_encrypted_gp3_that_go_with_their_machine(stack: Stack) -> None:
    stack(WorkerSha256=SHA256, ImageId="ami-12345678", VolumeGiB="20")
    (disk,) = worker_template("taskfleet-dev")["BlockDeviceMappings"]
    assert disk["Ebs"] == {
        "VolumeType": "gp3",
        "VolumeSize": 20,
        "Encrypted": True,
        "DeleteOnTermination": True,
    }


@pytest.mark.parametrize(
    ("parameters", "wanted"),
    [
        ({}, "c7g.large"),
        ({"Architecture": "x86_64"}, "c7i.large"),
        ({"InstanceType": "t4g.small"}, "t4g.small"),
    ],
)
def test_the_type_fits_the_architecture(
    stack: Stack, parameters: dict[str, str], wanted: str
) -> None:
    stack(WorkerSha256=SHA256, ImageId="ami-12345678", **parameters)
    assert worker_template("taskfleet-dev")["InstanceType"] == wanted


def test_nothing_calls_a_worker(stack: Stack) -> None:
    vpc = client("ec2").create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    stack(WorkerSha256=SHA256, ImageId="ami-12345678", VpcId=vpc)
    (group_id,) = worker_template("taskfleet-dev")["SecurityGroupIds"]
    (group,) = client("ec2").describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    assert group["VpcId"] == vpc
    assert group["IpPermissions"] == []


def test_without_a_vpc_it_is_the_default_one(stack: Stack) -> None:
    stack(WorkerSha256=SHA256, ImageId="ami-12345678")
    (group_id,) = worker_template("taskfleet-dev")["SecurityGroupIds"]
    (group,) = client("ec2").describe_security_groups(GroupIds=[group_id])["SecurityGroups"]
    (vpc,) = client("ec2").describe_vpcs(VpcIds=[group["VpcId"]])["Vpcs"]
    assert vpc["IsDefault"]
    assert group["IpPermissions"] == []


def test_only_ec2_takes_the_workers_role(stack: Stack) -> None:
    stack(WorkerSha256=SHA256, ImageId="ami-12345678")
    role = client("iam").get_role(RoleName=WORKER)["Role"]
    (statement,) = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == {"Service": "ec2.amazonaws.com"}
    profile = client("iam").get_instance_profile(InstanceProfileName=WORKER)
    assert [r["RoleName"] for r in profile["InstanceProfile"]["Roles"]] == [WORKER]


def test_somebody_is_told_of_trouble_once_there_is_an_address(stack: Stack) -> None:
    stack(AlarmEmail="ops@example.com")
    (topic,) = client("sns").list_topics()["Topics"]
    subscriptions = client("sns").list_subscriptions_by_topic(TopicArn=topic["TopicArn"])
    assert [s["Endpoint"] for s in subscriptions["Subscriptions"]] == ["ops@example.com"]


def test_the_user_data_passes_shellcheck_and_names_the_software(
    stack: Stack, tmp_path: Path
) -> None:
    stack(WorkerSha256=SHA256, ImageId="ami-12345678", WorkerSettings="A=1 B=2")
    script = tmp_path / "user_data"
    script.write_text(user_data("taskfleet-dev"))
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "--exclude=SC1091", script],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert f"s3://taskfleet-test/worker/{SHA256}.tar.gz" in script.read_text()
    assert "printf '%s\\n' A=1 B=2 >>" in script.read_text()


def test_the_console_of_a_machine_that_fails_ends_with_the_step_that_failed(
    stack: Stack, tmp_path: Path
) -> None:
    """The user data itself runs here, in a folder, with commands that stand in for the machine's.
    The last marked line is what the provisioner reads (`Ec2Fleet.boot_step`)."""
    stack(WorkerSha256=SHA256, ImageId="ami-12345678")
    script = user_data("taskfleet-dev").replace("${!", "${")  # Fn::Sub does that, moto does not
    for path in ("/dev/console", "/etc/taskfleet", "/opt/taskfleet"):
        script = script.replace(path, f"{tmp_path}{path}")
    (tmp_path / "dev").mkdir()
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, status in (("shutdown", 0), ("aws", 1)):
        (commands / name).write_text(f"#!/bin/sh\nexit {status}\n")
        (commands / name).chmod(0o755)
    done = subprocess.run(
        ["bash", "-c", script],
        env={"PATH": f"{commands}:/usr/bin:/bin"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    console = (tmp_path / "dev/console").read_text()
    marked = [line.partition(BOOT_MARK)[2] for line in console.splitlines() if BOOT_MARK in line]
    assert marked[0] == "shutdown -P +15"
    assert marked[-1].startswith(
        f"aws s3 cp --only-show-errors s3://taskfleet-test/worker/{SHA256}"
    )
