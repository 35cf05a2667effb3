"""Creates, updates and deletes stacks with CloudFormation, on AWS or an emulator, whatever an
earlier run left. Owns the states of a stack; `infra/stack.yaml` owns what is in a stage's stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

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
USABLE = {
    *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "UPDATE_FAILED"),
    *("IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"),
}
"""States in which a stack has its resources and can be updated."""
NEVER_CREATED = {"REVIEW_IN_PROGRESS", "CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"}
"""States of a stack whose first creation failed. Such a stack can only be deleted."""
DATA = {"AWS::DynamoDB::Table", "AWS::S3::Bucket"}
"""Types of resources that hold a stage's data. `infra/stack.yaml` keeps them when it is deleted."""
WHAT_TO_DO = {
    "UPDATE_ROLLBACK_FAILED": "remove the cause, run aws cloudformation continue-update-rollback "
    "--stack-name {name}, then deploy again",
    "DELETE_FAILED": "its deletion was begun: remove the cause and run make destroy again",
}
"""What a person can do about a state that no deployment can leave."""


class StackFailed(Exception):
    """CloudFormation refused the stack or failed. The message holds its reasons."""


class Polling(NamedTuple):
    """How to wait for CloudFormation: for how long at most, and how often to look, in seconds."""

    deadline_s: float = 60.0
    poll_s: float = 0.1


def name_of(stage: str) -> str:
    """Returns the name of the stage's stack."""
    return f"taskfleet-{stage}"


def roles_name_of(stage: str) -> str:
    """Returns the name of the stack with the functions' roles. No stage's name has a capital, so
    that it is the name of no other stage's stack."""
    return f"taskfleet-{stage}-Roles"


def bring_up(
    client: CloudFormationClient,
    name: str,
    parameters: Mapping[str, str],
    *,
    template: str | None = None,
    tags: Mapping[str, str] | None = None,
    polling: Polling = Polling(),  # noqa: B008, it cannot be changed
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, str]:
    """Creates the stack, or updates an existing one, waits until that is done, and returns the
    outputs. Raises StackFailed.

    parameters: a parameter that is not given keeps its value, or takes the template's default.
    template: `infra/stack.yaml` unless given.
    tags: tags of the stack and its resources, beside those that it has.
    say: called with a line for each step that is not usual.
    """
    text = TEMPLATE.read_text() if template is None else template
    existing = settled(client, name, polling=polling, say=say)
    values: list[ParameterTypeDef] = [
        {"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()
    ]
    if existing is not None:
        values += _kept(client, text, existing, parameters)
    had = {} if existing is None else {tag["Key"]: tag["Value"] for tag in existing.get("Tags", [])}
    arguments: CreateStackInputTypeDef = {
        "StackName": name,
        "TemplateBody": text,
        "Parameters": values,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Tags": [{"Key": k, "Value": v} for k, v in {**had, **(tags or {})}.items()],
    }
    try:
        if existing is None:
            client.create_stack(**arguments)
        else:
            client.update_stack(**cast("UpdateStackInputTypeDef", arguments))
    except ClientError as error:
        if existing is not None and "No updates are to be performed" in str(error):
            return outputs(existing)
        raise StackFailed(f"the stack {name} was refused: {error}") from error
    done = _ended(client, name, polling)
    status = done["StackStatus"] if done else "gone"
    if done is None or status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
        raise StackFailed(f"the stack {name} ended as {status}: {_reasons(client, name)}")
    return outputs(done)


def settled(
    client: CloudFormationClient,
    name: str,
    *,
    polling: Polling = Polling(),  # noqa: B008
    say: Callable[[str], None] = lambda _: None,
) -> StackTypeDef | None:
    """Waits until nothing changes the stack, deletes it if its first creation failed, and returns
    it. Returns None if there is none to update. Raises StackFailed, which says what to do, if it
    can neither be updated nor holds nothing."""
    stack = find(client, name)
    if stack is not None and _is_changing(stack):
        say(f"waiting for the stack {name}, which is {stack['StackStatus']}")
        stack = _ended(client, name, polling)
    if stack is None or stack["StackStatus"] in USABLE:
        return stack
    status = stack["StackStatus"]
    if status not in NEVER_CREATED:
        advice = WHAT_TO_DO.get(status, "see the stack's events").format(name=name)
        raise StackFailed(f"the stack {name} is {status}: {_reasons(client, name)}; {advice}")
    if kept := _data(client, name):
        raise StackFailed(
            f"the stack {name} is {status} and still has {' and '.join(kept)}: make destroy "
            "deletes them, then deploy again"
        )
    say(f"the stack {name} was never completed ({_reasons(client, name)}); deleting its remains")
    delete(client, name, polling)
    return None


def delete(client: CloudFormationClient, name: str, polling: Polling) -> None:
    """Deletes the stack and waits until it is gone. Does nothing without one. Raises
    StackFailed."""
    stack = find(client, name)
    if stack is not None and _is_changing(stack) and stack["StackStatus"] != "DELETE_IN_PROGRESS":
        stack = _ended(client, name, polling)
    if stack is None:
        return
    client.delete_stack(StackName=name)
    left = _ended(client, name, polling)
    if left is not None and left["StackStatus"] != "DELETE_COMPLETE":
        raise StackFailed(
            f"the stack {name} ended as {left['StackStatus']}: {_reasons(client, name)}"
        )


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


def parameters(stack: StackTypeDef | None) -> dict[str, str]:
    """Returns the values of a stack's parameters, by name; none without a stack."""
    given = stack.get("Parameters", []) if stack else []
    return {one["ParameterKey"]: one["ParameterValue"] for one in given}


def _kept(
    client: CloudFormationClient,
    template: str,
    existing: StackTypeDef,
    given: Mapping[str, str],
) -> list[ParameterTypeDef]:
    """Returns the parameters that keep their value: those that the existing stack and the template
    have, but the given ones."""
    known = client.validate_template(TemplateBody=template).get("Parameters", [])
    names = {parameter["ParameterKey"] for parameter in known}
    return [
        {"ParameterKey": key, "UsePreviousValue": True}
        for key in parameters(existing)
        if key in names and key not in given
    ]


def _is_changing(stack: StackTypeDef) -> bool:
    status = stack["StackStatus"]
    return status.endswith("_IN_PROGRESS") and status != "REVIEW_IN_PROGRESS"


def _ended(client: CloudFormationClient, name: str, polling: Polling) -> StackTypeDef | None:
    """Waits until CloudFormation has finished with the stack, and returns it, None if it is
    gone."""
    deadline = time.monotonic() + polling.deadline_s
    while (stack := find(client, name)) and _is_changing(stack):
        if time.monotonic() > deadline:
            raise StackFailed(
                f"the stack {name} was not done within {polling.deadline_s:g} s: "
                f"{stack['StackStatus']}"
            )
        time.sleep(polling.poll_s)
    return stack


def _data(client: CloudFormationClient, name: str) -> list[str]:
    """Returns the resources with data that the stack still has, in words."""
    return [
        f"the {one['ResourceType'].rpartition('::')[2].lower()} {one['PhysicalResourceId']}"
        for page in client.get_paginator("list_stack_resources").paginate(StackName=name)
        for one in page["StackResourceSummaries"]
        if one["ResourceType"] in DATA
        and one["ResourceStatus"] not in ("DELETE_COMPLETE", "CREATE_FAILED")
        and one.get("PhysicalResourceId")
    ]


def _reasons(client: CloudFormationClient, name: str) -> str:
    """Returns why resources of the stack failed in its last change."""
    reasons = [
        f"{event.get('LogicalResourceId')}: {event['ResourceStatusReason']}"
        for event in _last_change(client, name)
        if event.get("ResourceStatus", "").endswith("FAILED") and event.get("ResourceStatusReason")
    ]
    return "; ".join(reasons) or "no reason"


def _last_change(client: CloudFormationClient, name: str) -> Iterator[Any]:
    """Yields the events since the last change of the stack began, the newest first. The stack's own
    first event of a change has its own name."""
    for event in client.describe_stack_events(StackName=name)["StackEvents"]:
        yield event
        begins = event.get("ResourceStatus") in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS")
        if begins and event.get("LogicalResourceId") == name:
            return
