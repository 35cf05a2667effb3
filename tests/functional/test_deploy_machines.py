"""What a deployment chooses for the machines, from what moto's EC2 and SSM offer."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest

from infra import machines
from tests.support.moto_aws import moto_account

TICK = Path(__file__).resolve().parents[2] / ".chalice" / "policy-tick.json"


@pytest.mark.parametrize("architecture", sorted(machines.IMAGES))
def test_the_newest_image_is_looked_up_in_the_region(architecture: str) -> None:
    with moto_account("eu-west-1"):
        ssm = boto3.client("ssm", region_name="eu-west-1")
        image = machines.newest_image(ssm, architecture)
    assert image.startswith("ami-")


@pytest.mark.parametrize("architecture", sorted(machines.TYPES))
def test_several_types_of_the_architecture_and_like_size_are_chosen(architecture: str) -> None:
    with moto_account("eu-west-1"):
        ec2 = boto3.client("ec2", region_name="eu-west-1")
        types = machines.types_offered(ec2, architecture).split(",")
        described = ec2.describe_instance_types(InstanceTypes=types)["InstanceTypes"]  # type: ignore[arg-type]
    assert types == list(machines.TYPES[architecture])
    for one in described:
        assert architecture in one["ProcessorInfo"]["SupportedArchitectures"]
        assert one["VCpuInfo"]["DefaultVCpus"] == 2
        assert one["MemoryInfo"]["SizeInMiB"] >= 4096


def test_types_that_the_region_does_not_offer_are_left_out() -> None:
    class Ec2:
        def describe_instance_types(self, **_: object) -> dict[str, list[dict[str, str]]]:
            return {"InstanceTypes": [{"InstanceType": "c6g.large"}, {"InstanceType": "x9.big"}]}

    assert machines.types_offered(Ec2(), "arm64") == "c6g.large"


def test_the_provisioner_may_launch_every_type_that_is_chosen() -> None:
    policy = json.loads(TICK.read_text())
    (launch,) = (one for one in policy["Statement"] if one["Sid"].endswith("OfTheseTypes"))
    patterns = launch["Condition"]["StringLikeIfExists"]["ec2:InstanceType"]
    for name in (name for names in machines.TYPES.values() for name in names):
        assert name[0] + "*." + name.partition(".")[2] in patterns
