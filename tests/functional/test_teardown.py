"""What `make destroy` finds when not all is as a deployment left it (moto plays AWS)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from infra import chalice, stack, teardown
from tests.support.moto_aws import moto_account

BUCKET = "taskfleet-prod-bucket"
STAGE_TAG = {"Key": "taskfleet:stage", "Value": "prod"}


@pytest.fixture
def session() -> Iterator[boto3.session.Session]:
    with moto_account():
        yield boto3.session.Session(region_name="us-east-1")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout that deployed the stage."""
    variables = {"TASKFLEET_BUCKET": BUCKET}
    entry = {"environment_variables": variables, "lambda_functions": {"tick": {}}}
    (tmp_path / ".chalice").mkdir()
    config = {"stages": {"dev": entry, "prod": entry}}
    (tmp_path / ".chalice" / "config.json").write_text(json.dumps(config))
    return tmp_path


def destroy(session: Any, root: Path) -> None:
    polling = stack.Polling()
    teardown.destroy(session, "prod", "123456789012", "aws", root, lambda _: None, polling)


def alive(ec2: Any) -> list[str]:
    return [
        instance["InstanceId"]
        for reservation in ec2.describe_instances()["Reservations"]
        for instance in reservation["Instances"]
        if instance["State"]["Name"] not in ("terminated", "shutting-down")
    ]


def launch(ec2: Any, **tag: str) -> str:
    tags = [{"ResourceType": "instance", "Tags": [{**STAGE_TAG, **tag}]}]
    image = "ami-12c6146b"
    answer = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tags)
    return str(answer["Instances"][0]["InstanceId"])


def test_bucket_and_table_go_when_the_stack_is_gone_already(session: Any, root: Path) -> None:
    s3, dynamodb = session.client("s3"), session.client("dynamodb")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="movies/b/0.mp4", Body=b"...")
    for name in ("Task_Monitor-prod", "Task_Monitor"):
        dynamodb.create_table(
            TableName=name,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "Job_ID", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "Job_ID", "AttributeType": "S"}],
        )
    for _ in range(2):  # a second time there is nothing to do
        destroy(session, root)
        assert s3.list_buckets()["Buckets"] == []
        assert dynamodb.list_tables()["TableNames"] == ["Task_Monitor"]


def test_machines_launched_until_the_functions_are_gone_are_ended(
    session: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = session.client("ec2")
    launch(ec2)
    foreign = launch(ec2, Value="dev")
    monkeypatch.setattr(chalice, "delete", lambda *_: launch(ec2))  # by its last tick
    destroy(session, root)
    assert alive(ec2) == [foreign]


def test_the_bucket_of_the_stage_in_another_region_stays(session: Any, root: Path) -> None:
    """This checkout deployed the stage there last, so it is the bucket that the checkout knows."""
    there = boto3.client("s3", region_name="eu-west-1")
    there.create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    there.put_object(Bucket=BUCKET, Key="movies/b/0.mp4", Body=b"...")
    destroy(session, root)
    assert there.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 1
