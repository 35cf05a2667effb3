"""Creates and updates the stack of `infra/stack.yaml`, on AWS or on an emulator. Owns the calls of
CloudFormation; the file owns what is in the stack."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from botocore.exceptions import ClientError

from taskfleet.aws.ec2 import STAGE_TAG

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
    """CloudFormation refused the stack or failed. The message holds its reasons."""


def name_of(stage: str) -> str:
    """Returns the name of the stage's stack."""
    return f"taskfleet-{stage}"


def bring_up(
    client: CloudFormationClient,
    name: str,
    parameters: Mapping[str, str],
    *,
    deadline_s: float = 60.0,
    poll_s: float = 0.1,
) -> dict[str, str]:
    """Creates the stack, or updates an existing one, waits until that is done, and returns the
    outputs. Raises StackFailed.

    parameters: a parameter that is not given keeps its value, or takes the template's default.
    deadline_s: longest wait, in seconds.
    poll_s: seconds between two looks at the stack.
    """
    template = TEMPLATE.read_text()
    existing = find(client, name)
    values: list[ParameterTypeDef] = [
        {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
    ]
    if existing is not None:
        values += _kept(client, template, existing, parameters)
    arguments: CreateStackInputTypeDef = {
        "StackName": name,
        "TemplateBody": template,
        "Parameters": values,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Tags": [{"Key": STAGE_TAG, "Value": name.removeprefix("taskfleet-")}],
    }
    try:
        if existing is None:
            client.create_stack(**arguments)
        else:
            client.update_stack(**cast("UpdateStackInputTypeDef", arguments))
    except ClientError as error:
        if "No updates are to be performed" not in str(error):
            raise StackFailed(f"infra/stack.yaml was refused: {error}") from error
    return _wait(client, name, deadline_s, poll_s)


def find(client: CloudFormationClient, name: str) -> StackTypeDef | None:
    """Returns the stack of that name, or None if there is none."""
    try:
        return client.describe_stacks(StackName=name)["Stacks"][0]
    except ClientError as error:
        if "does not exist" in str(error):
            return None
        raise


def outputs(stack: StackTypeDef) -> dict[str, str]:
    """Returns the outputs of a stack, by name."""
    return {output["OutputKey"]: output["OutputValue"] for output in stack.get("Outputs", [])}


def _kept(
    client: CloudFormationClient,
    template: str,
    existing: StackTypeDef,
    given: Mapping[str, str],
) -> list[ParameterTypeDef]:
    """Returns the parameters that keep their value: those that the existing stack and the template
    have, but the given ones."""
    known = client.validate_template(TemplateBody=template)["Parameters"]
    names = {parameter["ParameterKey"] for parameter in known}
    had = (parameter["ParameterKey"] for parameter in existing.get("Parameters", []))
    return [
        {"ParameterKey": key, "UsePreviousValue": True}
        for key in had
        if key in names and key not in given
    ]


def _wait(
    client: CloudFormationClient, name: str, deadline_s: float, poll_s: float
) -> dict[str, str]:
    """Waits until the stack is created or updated, and returns its outputs."""
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
    """Returns why resources of the stack failed."""
    events = client.describe_stack_events(StackName=name)["StackEvents"]
    reasons = [
        f"{event.get('LogicalResourceId')}: {event['ResourceStatusReason']}"
        for event in events
        if event.get("ResourceStatus", "").endswith("FAILED") and event.get("ResourceStatusReason")
    ]
    return "; ".join(reasons) or "no reason"
