"""AWS as moto plays it in the test's own process, with the project's own stack on it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.loaders import create_loader
from moto import mock_aws
from moto.cloudformation.utils import yaml_tag_constructor
from moto.dynamodb.responses import DynamoHandler

from tests.support import moto_conflicts

STACK = Path(__file__).resolve().parents[2] / "infra" / "stack.yaml"
REGION = "us-east-1"
IMAGE = "ami-12c6146b"
"""An image that moto's EC2 knows."""
NOT_IN_MOTO = r"Tried to parse AWS::(S3::BucketPolicy|CloudWatch::Alarm|Budgets::Budget) "


_one_loader = functools.cache(create_loader)
_load_yaml = yaml.load


class _FastLoader(yaml.CLoader):
    """The loader that moto parses templates with, written in C."""


_FastLoader.add_multi_constructor("", yaml_tag_constructor)


def _load_fast(text: Any, Loader: Any) -> Any:  # noqa: N803
    """Takes the place of `yaml.load`."""
    return _load_yaml(text, _FastLoader if Loader is yaml.Loader else Loader)


@contextlib.contextmanager
def aws_credentials(region: str = REGION) -> Iterator[pytest.MonkeyPatch]:
    """Remove every AWS variable from the environment and set credentials that open nothing.

    Yields the patch, for more variables of the same life.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", region)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield patch


@contextlib.contextmanager
def moto_account(region: str = REGION) -> Iterator[pytest.MonkeyPatch]:
    """Start an empty account; what was in the last one is gone. Requests to DynamoDB that meet on
    an item conflict, as on AWS.

    EC2 knows 44 images instead of 1,301, which moto would read anew for each account. The AWS
    SDK's descriptions of its services, which each `Aws` would parse anew, are parsed once. moto
    parses a template several times in a deployment: it does so with a parser in C.
    """
    with aws_credentials(region) as patch:
        patch.setattr("botocore.session.create_loader", _one_loader)
        patch.setattr("yaml.load", _load_fast)
        patch.setattr("moto.ec2.models.amis.load_resource", lambda _path: [])
        moto_conflicts.install(patch)
        _write_one_by_one(patch)
        with mock_aws():
            yield patch


def _write_one_by_one(patch: pytest.MonkeyPatch) -> None:
    """Let DynamoDB do one request at a time: in one process moto reads and writes an item in two
    steps, so that writes of several threads are lost."""
    lock = threading.Lock()
    act = DynamoHandler.call_action

    def call_action(handler: DynamoHandler) -> Any:
        with lock:
            return act(handler)

    patch.setattr(DynamoHandler, "call_action", call_action)


def give_way_out(ec2: Any) -> None:
    """Give the default VPC the internet gateway that it has on AWS and lacks in emulators.

    ec2: a boto3 client.
    """
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    in_vpc = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    (table,) = ec2.describe_route_tables(Filters=in_vpc)["RouteTables"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=table["VpcId"])
    ec2.create_route(
        RouteTableId=table["RouteTableId"],
        DestinationCidrBlock="0.0.0.0/0",
        GatewayId=gateway,
    )


def make_template(stage: str = "dev") -> None:
    """Make a stage's launch template, which `create_stack` makes only with a worker's software."""
    boto3.client("ec2").create_launch_template(
        LaunchTemplateName=f"taskfleet-{stage}",
        LaunchTemplateData={"ImageId": IMAGE, "InstanceType": "c7g.large"},
    )


def create_stack(
    stage: str = "dev", bucket: str = "taskfleet-test", **parameters: str
) -> dict[str, str]:
    """Create the stack of a stage, with more parameters of the stack if needed, and return its
    outputs."""
    cloudformation = boto3.client("cloudformation")
    name = f"taskfleet-{stage}"
    with warnings.catch_warnings():
        # Nothing in these tests depends on the resources that moto lacks.
        warnings.filterwarnings("ignore", NOT_IN_MOTO, UserWarning)
        cloudformation.create_stack(
            StackName=name,
            TemplateBody=STACK.read_text(),
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Parameters=[
                {"ParameterKey": key, "ParameterValue": value}
                for key, value in {"Stage": stage, "BucketName": bucket, **parameters}.items()
            ],
        )
    cloudformation.get_waiter("stack_create_complete").wait(
        StackName=name, WaiterConfig={"Delay": 1}
    )
    stack: Any = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}


def write_settings(stage: str, **variables: str) -> None:
    """Write the SSM parameter by which a deployment tells workers and operators of its settings."""
    boto3.client("ssm").put_parameter(
        Name=f"/taskfleet/{stage}/settings", Value=json.dumps(variables), Type="String"
    )


def empty_table(dynamodb: Any, table: str) -> None:
    """Delete every item of the table of tasks."""
    for page in dynamodb.get_paginator("scan").paginate(TableName=table):
        for item in page["Items"]:
            dynamodb.delete_item(TableName=table, Key={"Job_ID": item["Job_ID"]})
