"""Brings `infra/stack.yaml` up, on AWS or on an emulator. Owns nothing of what is in that file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_cloudformation.client import CloudFormationClient
    from mypy_boto3_cloudformation.type_defs import (
        CreateStackInputTypeDef,
        ParameterTypeDef,
        StackTypeDef,
        UpdateStackInputTypeDef,
    )

TEMPLATE = Path(__file__).with_name("stack.yaml")


class StackFailed(Exception):
    """CloudFormation would not have it; the message holds its reasons."""


def name_of(stage: str) -> str:
    return f"taskfleet-{stage}"


def bring_up(
    client: CloudFormationClient,
    name: str,
    parameters: Mapping[str, str],
    *,
    deadline_s: float = 60.0,
    poll_s: float = 0.1,
) -> dict[str, str]:
    """Create the stack, or update the one that stands, and wait for it; returns its outputs.
    A parameter that is not given keeps the value it had, or takes the template's."""
    template = TEMPLATE.read_text()
    standing = find(client, name)
    values: list[ParameterTypeDef] = [
        {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
    ]
    if standing is not None:
        values += _kept(client, template, standing, parameters)
    arguments: CreateStackInputTypeDef = {
        "StackName": name,
        "TemplateBody": template,
        "Parameters": values,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Tags": [{"Key": "taskfleet:stage", "Value": name.removeprefix("taskfleet-")}],
    }
    try:
        if standing is None:
            client.create_stack(**arguments)
        else:
            client.update_stack(**cast("UpdateStackInputTypeDef", arguments))
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise StackFailed(f"infra/stack.yaml was refused: {error}") from error
    return _wait(client, name, deadline_s, poll_s)


def find(client: CloudFormationClient, name: str) -> StackTypeDef | None:
    """The stack of that name, or None when there is none."""
    try:
        return client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def outputs(stack: StackTypeDef) -> dict[str, str]:
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _kept(
    client: CloudFormationClient,
    template: str,
    standing: StackTypeDef,
    given: Mapping[str, str],
) -> list[ParameterTypeDef]:
    known = client.validate_template(TemplateBody=template)["Parameters"]
    names = {parameter["ParameterKey"] for parameter in known}
    had = (parameter["ParameterKey"] for parameter in standing.get("Parameters", []))
    return [
        {"ParameterKey": key, "UsePreviousValue": True}
        for key in had
        if key in names and key not in given
    ]


def _wait(
    client: CloudFormationClient, name: str, deadline_s: float, poll_s: float
) -> dict[str, str]:
    deadline = time.monotonic() + deadline_s
    while (stack := find(client, name)) and stack["StackStatus"].endswith("_IN_PROGRESS"):
        if time.monotonic() > deadline:
            raise StackFailed(
                f"infra/stack.yaml was not done within {deadline_s:g} s: {stack['StackStatus']}"
            )
        time.sleep(poll_s)
    status = stack["StackStatus"] if stack else "gone"
    if stack is None or status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise StackFailed(f"infra/stack.yaml ended as {status}: {_reasons(client, name)}")
    return outputs(stack)


def _reasons(client: CloudFormationClient, name: str) -> str:
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    reasons = [
        f"{event.get('LogicalResourceId')}: {event['ResourceStatusReason']}"
        for event in events
        if event.get("ResourceStatus", "").endswith("FAILED") and event.get("ResourceStatusReason")
    ]
    return "; ".join(reasons) or "no reason"
