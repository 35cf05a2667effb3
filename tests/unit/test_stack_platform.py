"""What a platform team sets in `infra/stack.yaml`, as data: a key, and endpoints of its VPC."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.template import of_type, template

NONE = {"Ref": "AWS::NoValue"}
KEY = {"Ref": "KmsKeyArn"}


def with_key(value: Any, has_key: bool) -> Any:
    """A value as it is with or without a key of one's own."""
    if isinstance(value, dict):
        if "Fn::If" in value and value["Fn::If"][0] == "HasKey":
            return with_key(value["Fn::If"][1 if has_key else 2], has_key)
        return {name: with_key(inner, has_key) for name, inner in value.items()}
    return [with_key(inner, has_key) for inner in value] if isinstance(value, list) else value


@pytest.mark.parametrize("has_key", [False, True])
def test_every_queue_is_encrypted(has_key: bool) -> None:
    queues = of_type("AWS::SQS::Queue")
    assert len(queues) == 7
    for queue in queues.values():
        properties = with_key(queue["Properties"], has_key)
        found = properties["SqsManagedSseEnabled"], properties["KmsMasterKeyId"]
        assert found == ((NONE, KEY) if has_key else (True, NONE))


@pytest.mark.parametrize("has_key", [False, True])
def test_table_and_bucket_are_encrypted(has_key: bool) -> None:
    (table,) = of_type("AWS::DynamoDB::Table").values()
    found = with_key(table["Properties"]["SSESpecification"], has_key)
    assert found == (
        {"SSEEnabled": True, "SSEType": "KMS", "KMSMasterKeyId": KEY} if has_key else NONE
    )
    (bucket,) = of_type("AWS::S3::Bucket").values()
    (rule,) = with_key(
        bucket["Properties"]["BucketEncryption"]["ServerSideEncryptionConfiguration"], has_key
    )
    algorithm = rule["ServerSideEncryptionByDefault"]["SSEAlgorithm"]
    assert algorithm == ("aws:kms" if has_key else "AES256")


def test_endpoints_are_gateways_which_cost_nothing() -> None:
    endpoints = of_type("AWS::EC2::VPCEndpoint").values()
    services = {one["Properties"]["ServiceName"]["Fn::Sub"].rpartition(".")[2] for one in endpoints}
    assert services == {"s3", "dynamodb"}
    for one in endpoints:
        assert one["Condition"] == "HasEndpoints"
        assert one["Properties"]["VpcEndpointType"] == "Gateway"


def test_every_log_group_forgets() -> None:
    for group in of_type("AWS::Logs::LogGroup").values():
        assert group["Properties"]["RetentionInDays"] == {"Ref": "LogDays"}


def test_each_choice_has_a_default_that_needs_nothing() -> None:
    parameters = template()["Parameters"]
    for name in ("KmsKeyArn", "RouteTableIds", "PermissionsBoundary"):
        assert parameters[name]["Default"] == ""
