"""Requests to AWS as IAM sees them, taken from the clients of a process as it makes them; and how
they compare with a policy."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Iterable
from typing import Any

from taskfleet.aws.ec2 import STAGE_TAG
from taskfleet.aws.session import Aws
from tests.support.iam import Request

LOCAL_ACCOUNT = "000000000000"
"""The only one of the local cloud."""
REGION = "us-east-1"
STAGE = "dev"
ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "s3:HeadObject": "s3:GetObject",
    "lambda:Invoke": "lambda:InvokeFunction",
}
"""What an operation needs, where that has another name."""


class Recorder:
    """Hands each request of each client that `Aws` makes from now on to `note`; signed URLs are
    requests, too, since whoever signs must be allowed what the URL does."""

    def __init__(self, note: Callable[[Request], None]) -> None:
        self._note = note
        self._sent = threading.local()

    def patched(self) -> Callable[[Aws, str], Any]:
        """For `Aws._make_client`."""
        make = Aws._make_client

        def watched(aws: Aws, service: str) -> Any:
            client = make(aws, service)
            client.meta.events.register("provide-client-params", self._on_call)
            if service == "s3":
                client.meta.events.register("after-call", self._on_s3_answer)
                client.generate_presigned_post = self._noting(client.generate_presigned_post)
            return client

        return watched

    def _on_call(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model.service_name
        if service == "s3":
            self._sent.bucket = params["Bucket"]
            if model.name == "CreateBucket":  # so botocore has a form's address made
                return
        for request in requests_of(service, model.name, params):
            self._note(request)

    def _noting(self, sign: Callable[..., Any]) -> Callable[..., Any]:
        """The same maker of forms."""

        def noted(bucket: str, key: str, **options: Any) -> Any:
            self._note(Request("s3:PutObject", f"arn:aws:s3:::{bucket}/{key}"))
            return sign(bucket, key, **options)

        return noted

    def _on_s3_answer(self, http_response: Any, **_: Any) -> None:
        """Only who may list a bucket is told that an object is missing; others are refused."""
        if http_response.status_code == 404:
            self._note(Request("s3:ListBucket", f"arn:aws:s3:::{self._sent.bucket}"))


def requests_of(service: str, operation: str, params: dict[str, Any]) -> Iterable[Request]:
    """What IAM is asked for one call."""
    action = ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}")
    prefix = f"arn:aws:{service}:{REGION}:{LOCAL_ACCOUNT}:"
    if service == "sqs":
        queue = params.get("QueueName", params.get("QueueUrl", "")).split("/")[-1]
        return [Request(action, prefix + queue)]
    if service == "s3":
        return [Request(action, f"arn:aws:s3:::{params['Bucket']}/{params['Key']}")]
    if service == "ssm":
        return [Request(action, f"{prefix}parameter{params['Name']}")]
    if service == "lambda":
        return [Request(action, f"{prefix}function:{params['FunctionName']}")]
    if service == "ec2":
        return _of_ec2(action, prefix, params)
    assert service == "dynamodb", f"{service}:{operation}"
    return _of_dynamodb(action, f"{prefix}table/", params)


def _of_dynamodb(action: str, prefix: str, params: dict[str, Any]) -> Iterable[Request]:
    if "TransactItems" in params:
        return [
            Request(f"dynamodb:{operation}Item", prefix + part["TableName"])
            for item in params["TransactItems"]
            for operation, part in item.items()
        ]
    if "RequestItems" in params:
        return [Request(action, prefix + table) for table in params["RequestItems"]]
    index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
    return [Request(action, prefix + params["TableName"] + index)]


def _of_ec2(action: str, prefix: str, params: dict[str, Any]) -> Iterable[Request]:
    """Of a launch only what the caller names itself: the fleet with its tags and the template.
    Machines that are marked and ended were found by the stage's tag, and so have it."""
    own = ((f"aws:ResourceTag/{STAGE_TAG}", STAGE),)
    if action == "ec2:DescribeInstances":
        return [Request(action, "*")]
    if action == "ec2:CreateFleet":
        tags = {
            tag["Key"]: tag["Value"]
            for specification in params["TagSpecifications"]
            if specification["ResourceType"] == "fleet"
            for tag in specification["Tags"]
        }
        asked = tuple((f"aws:RequestTag/{key}", value) for key, value in sorted(tags.items()))
        return [
            Request(action, f"{prefix}fleet/fleet-1", asked),
            Request(action, f"{prefix}launch-template/lt-1", own),
        ]
    if action == "ec2:CreateTags":
        keys = tuple(("aws:TagKeys", tag["Key"]) for tag in params["Tags"])
        return [Request(action, f"{prefix}instance/{i}", own + keys) for i in params["Resources"]]
    assert action == "ec2:TerminateInstances", action
    return [Request(action, f"{prefix}instance/{i}", own) for i in params["InstanceIds"]]


def never_used(policy: dict[str, Any], made: Iterable[Request]) -> set[tuple[str, str]]:
    """What the policy grants on some resource and none of the requests made use of there, as (Sid,
    action)."""
    asked = {(request.action, request.resource) for request in made}
    return {
        (statement["Sid"], action)
        for statement in policy["Statement"]
        for action in listed(statement["Action"])
        for pattern in listed(statement["Resource"])
        if not any(
            action == used and fnmatch.fnmatchcase(resource, pattern) for used, resource in asked
        )
    }


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
