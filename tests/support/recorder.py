"""Records the requests of a process's AWS clients in the form in which IAM sees them, and compares
them with a policy."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Callable, Iterable
from typing import Any

from taskfleet.aws.ec2 import STAGE_TAG
from taskfleet.aws.session import Aws
from tests.support.iam import Request, on_item

LOCAL_ACCOUNT = "000000000000"
"""The only account of the local cloud."""
REGION = "us-east-1"
STAGE = "dev"
ACTIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "s3:HeadObject": "s3:GetObject",
    "lambda:Invoke": "lambda:InvokeFunction",
}
"""Actions that IAM checks for operations with another name."""


class Recorder:
    """Passes each request of every client that `Aws` makes from now on to `note`. A signed URL
    counts as a request, because its signer needs the permission for what the URL does."""

    def __init__(self, note: Callable[[Request], None]) -> None:
        self._note = note
        self._sent = threading.local()

    def patched(self) -> Callable[[Aws, str], Any]:
        """A replacement for `Aws._make_client`."""
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
            if model.name == "CreateBucket":  # botocore makes a form's address with it.
                return
        for request in requests_of(service, model.name, params):
            self._note(request)

    def _noting(self, sign: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap the client's method that signs forms, so that each is recorded."""

        def noted(bucket: str, key: str, **options: Any) -> Any:
            self._note(Request("s3:PutObject", f"arn:aws:s3:::{bucket}/{key}"))
            return sign(bucket, key, **options)

        return noted

    def _on_s3_answer(self, http_response: Any, **_: Any) -> None:
        """S3 answers 404 for a missing object only to those who may list the bucket."""
        if http_response.status_code == 404:
            self._note(Request("s3:ListBucket", f"arn:aws:s3:::{self._sent.bucket}"))


def requests_of(service: str, operation: str, params: dict[str, Any]) -> Iterable[Request]:
    """The requests that IAM checks for one call."""
    action = ACTIONS.get(f"{service}:{operation}", f"{service}:{operation}")
    prefix = f"arn:aws:{service}:{REGION}:{LOCAL_ACCOUNT}:"
    if service == "sqs":
        queue = params.get("QueueName", params.get("QueueUrl", "")).split("/")[-1]
        return [Request(action, prefix + queue)]
    if service == "s3":
        if operation == "HeadBucket":  # botocore asks for the region after an answer of 400
            return [Request("s3:ListBucket", f"arn:aws:s3:::{params['Bucket']}")]
        return [Request(action, f"arn:aws:s3:::{params['Bucket']}/{params['Key']}")]
    if service == "ssm":
        return [Request(action, f"{prefix}parameter{params['Name']}")]
    if service == "lambda":
        return [Request(action, f"{prefix}function:{params['FunctionName']}")]
    if service == "ec2":
        return _of_ec2(action, prefix, params)
    if service == "events":
        return [
            Request(
                action,
                f"{prefix}event-bus/default",
                (("events:source", entry["Source"]), ("events:detail-type", entry["DetailType"])),
            )
            for entry in params["Entries"]
        ]
    assert service == "dynamodb", f"{service}:{operation}"
    return _of_dynamodb(action, f"{prefix}table/", params)


def _of_dynamodb(action: str, prefix: str, params: dict[str, Any]) -> Iterable[Request]:
    if "RequestItems" in params:
        return [
            on_item(action, prefix + table, *(key["Job_ID"]["S"] for key in asked["Keys"]))
            for table, asked in params["RequestItems"].items()
        ]
    if "IndexName" in params:
        index = f"{prefix}{params['TableName']}/index/{params['IndexName']}"
        return [on_item(action, index, params["ExpressionAttributeValues"][":client_id"]["S"])]
    return [_of_item(action, prefix, params)]


def _of_item(action: str, prefix: str, params: dict[str, Any]) -> Request:
    """The request for one item, with the attributes that its expressions and its content name."""
    key = params.get("Key", params.get("Item", {}))["Job_ID"]["S"]
    names = {*params.get("ExpressionAttributeNames", {}).values(), *params.get("Item", {})}
    table = prefix + params["TableName"]
    return on_item(action, table, key, attributes=sorted(names - {"Job_ID"}))


def _of_ec2(action: str, prefix: str, params: dict[str, Any]) -> Iterable[Request]:
    """For a launch, only the resources that the caller names: the fleet with its tags, and the
    template. Instances that are marked or ended have the stage's tag, because it finds them."""
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
    if action == "ec2:GetConsoleOutput":
        return [Request(action, f"{prefix}instance/{params['InstanceId']}", own)]
    assert action == "ec2:TerminateInstances", action
    return [Request(action, f"{prefix}instance/{i}", own) for i in params["InstanceIds"]]


def never_used(policy: dict[str, Any], made: Iterable[Request]) -> set[tuple[str, str]]:
    """Permissions of the policy that no request used on the resource, or on an item of the form,
    that they name, as (Sid, action)."""
    asked = {(request.action, request.resource, key) for request in made for key in _keys(request)}
    return {
        (statement["Sid"], action)
        for statement in policy["Statement"]
        for action in listed(statement["Action"])
        for pattern in listed(statement["Resource"])
        for item in _items(statement)
        if not any(
            action == used
            and fnmatch.fnmatchcase(resource, pattern)
            and fnmatch.fnmatchcase(key, item)
            for used, resource, key in asked
        )
    }


def _keys(request: Request) -> list[str]:
    """The items that a request is for; one empty text if it is for none."""
    return [value for key, value in request.context if key == "dynamodb:LeadingKeys"] or [""]


def _items(statement: dict[str, Any]) -> list[str]:
    """The forms of keys that a statement allows."""
    tests = statement.get("Condition", {}).get("ForAllValues:StringLike", {})
    return listed(tests.get("dynamodb:LeadingKeys", "*"))


def listed(value: Any) -> list[str]:
    """A value of a policy as a list; a single value stands for a list of one."""
    return value if isinstance(value, list) else [value]
