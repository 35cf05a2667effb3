"""Creates the queues, the table and the bucket from `infra/stack.yaml`, as on AWS. Owns nothing
of what is in that file."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import (
        CreateStackInputTypeDef,
        UpdateStackInputTypeDef,
    )

DEADLINE_S = 60.0
POLL_S = 0.1


class StackFailed(Exception):
    """CloudFormation would not have it; the message holds its reasons."""


def bring_up(
    client: CloudFormationClient, name: str, template: str, parameters: dict[str, str]
) -> None:
    """Create the stack, or update the one that stands, and wait for it."""
    arguments: CreateStackInputTypeDef = {
        "StackName": name,
        "TemplateBody": template,
        "Parameters": [
            {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
        ],
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
    }
    try:
        if _status(client, name) is None:
            client.create_stack(**arguments)
        else:
            client.update_stack(**cast("UpdateStackInputTypeDef", arguments))
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise StackFailed(f"infra/stack.yaml was refused: {error}") from error
    _wait(client, name)


def _wait(client: CloudFormationClient, name: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while (status := _status(client, name) or "").endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            raise StackFailed(f"infra/stack.yaml was not created within {DEADLINE_S:g} s: {status}")
        time.sleep(POLL_S)
    if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        events = client.describe_stack_events(StackName=name)["StackEvents"]
        reasons = [
            f"{event.get('LogicalResourceId')}: {event['ResourceStatusReason']}"
            for event in events
            if event.get("ResourceStatus", "").endswith("FAILED")
            and event.get("ResourceStatusReason")
        ]
        raise StackFailed(
            f"infra/stack.yaml ended as {status}: {'; '.join(reasons) or 'no reason'}"
        )


def _status(client: CloudFormationClient, name: str) -> str | None:
    try:
        return client.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise
