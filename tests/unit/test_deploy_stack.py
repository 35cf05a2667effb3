"""What a deployment does with a stack in each of CloudFormation's states. CloudFormation is a stub
that plays documented answers; it shows the decisions, not CloudFormation's own behaviour."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from infra import stack
from infra.stack import Polling, StackFailed

NAME = "taskfleet-dev"
FAST = Polling(deadline_s=5.0, poll_s=0.0)
OUTPUTS = [{"OutputKey": "BucketName", "OutputValue": "bucket"}]


class CloudFormation:
    """One stack. It shows the given statuses one after another, the last for ever, and afterwards
    those of a change that is asked for."""

    def __init__(
        self, *statuses: str, unchanged: bool = False, resources: tuple[tuple[str, str], ...] = ()
    ) -> None:
        self.statuses = list(statuses)
        self.calls: list[str] = []
        self._unchanged = unchanged
        self._resources = resources
        self.after_update = ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]
        self.after_delete = ["DELETE_IN_PROGRESS", ""]

    def describe_stacks(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        status = self.statuses[0] if self.statuses else ""
        if len(self.statuses) > 1:
            self.statuses.pop(0)
        if not status:
            raise error("ValidationError", f"Stack with id {StackName} does not exist")
        shown: dict[str, Any] = {"StackName": NAME, "StackStatus": status}
        if status in stack.USABLE:
            shown["Outputs"] = OUTPUTS
            shown["Parameters"] = [
                {"ParameterKey": "ImageId", "ParameterValue": "ami-1"},
                {"ParameterKey": "BaseImageId", "ParameterValue": "ami-2"},
                {"ParameterKey": "Gone", "ParameterValue": "x"},
            ]
        return {"Stacks": [shown]}

    def describe_stack_events(self, *, StackName: str) -> dict[str, Any]:  # noqa: N803
        def event(name: str, status: str, reason: str = "") -> dict[str, str]:
            return {
                "LogicalResourceId": name,
                "ResourceStatus": status,
                "ResourceStatusReason": reason,
            }

        return {
            "StackEvents": [
                event("Bucket", "CREATE_FAILED", "limit exceeded"),
                event(NAME, "CREATE_IN_PROGRESS", "User Initiated"),
                event("Table", "UPDATE_FAILED", "of an earlier change"),
            ]
        }

    def get_paginator(self, name: str) -> Any:
        summaries = [
            {"ResourceType": kind, "ResourceStatus": status, "PhysicalResourceId": "Task_Monitor"}
            for kind, status in self._resources
        ]

        class Paginator:
            def paginate(self, **_: Any) -> list[dict[str, Any]]:
                return [{"StackResourceSummaries": summaries}]

        assert name == "list_stack_resources"
        return Paginator()

    def validate_template(self, **_: Any) -> dict[str, Any]:
        return {"Parameters": [{"ParameterKey": "ImageId"}, {"ParameterKey": "BaseImageId"}]}

    def create_stack(self, **_: Any) -> None:
        assert not self.statuses or self.statuses == [""], "AlreadyExistsException"
        self.calls.append("create")
        self.statuses = ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]

    def update_stack(self, *, Parameters: list[dict[str, Any]], **_: Any) -> None:  # noqa: N803
        self.calls.append("update")
        self.parameters = {
            one["ParameterKey"]: one.get("ParameterValue", "kept") for one in Parameters
        }
        if self.statuses[0] not in stack.USABLE:
            raise error("ValidationError", f"Stack is in {self.statuses[0]} state")
        if self._unchanged:
            raise error("ValidationError", "No updates are to be performed.")
        self.statuses = list(self.after_update)

    def delete_stack(self, **_: Any) -> None:
        self.calls.append("delete")
        self.statuses = list(self.after_delete)


def error(code: str, message: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}}, "Operation")


def bring_up(cloud: CloudFormation, said: list[str] | None = None) -> dict[str, str]:
    say = [].append if said is None else said.append
    return stack.bring_up(cloud, NAME, {}, polling=FAST, say=say)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statuses", "calls"),
    [
        ([], ["create"]),
        (["CREATE_COMPLETE"], ["update"]),
        (["UPDATE_ROLLBACK_COMPLETE"], ["update"]),
        (["CREATE_IN_PROGRESS", "CREATE_IN_PROGRESS", "CREATE_COMPLETE"], ["update"]),
        (["UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"], ["update"]),
        (["DELETE_IN_PROGRESS", "DELETE_IN_PROGRESS", ""], ["create"]),
        (["REVIEW_IN_PROGRESS"], ["delete", "create"]),
        (["ROLLBACK_COMPLETE"], ["delete", "create"]),
        (["ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"], ["delete", "create"]),
        (["ROLLBACK_FAILED"], ["delete", "create"]),
        (["CREATE_FAILED"], ["delete", "create"]),
    ],
)
def test_a_deployment_gets_on_from_each_state(statuses: list[str], calls: list[str]) -> None:
    cloud = CloudFormation(*statuses)
    assert bring_up(cloud) == {"BucketName": "bucket"}
    assert cloud.calls == calls


def test_parameters_that_are_not_given_keep_their_values() -> None:
    """So an image of `make ami` stays when the newest image of Amazon changes."""
    cloud = CloudFormation("CREATE_COMPLETE")
    stack.bring_up(cloud, NAME, {"BaseImageId": "ami-3"}, polling=FAST)  # type: ignore[arg-type]
    assert cloud.parameters == {"ImageId": "kept", "BaseImageId": "ami-3"}


@pytest.mark.parametrize(
    "status", ["CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"]
)
def test_a_stack_without_changes_is_fine_as_it_is(status: str) -> None:
    assert bring_up(CloudFormation(status, unchanged=True)) == {"BucketName": "bucket"}


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        ("UPDATE_ROLLBACK_FAILED", f"continue-update-rollback --stack-name {NAME}"),
        ("DELETE_FAILED", "make destroy"),
    ],
)
def test_a_state_that_no_deployment_can_leave_is_told_with_what_to_do(
    status: str, advice: str
) -> None:
    cloud = CloudFormation(status)
    with pytest.raises(StackFailed) as told:
        bring_up(cloud)
    assert status in str(told.value)
    assert advice in str(told.value)
    assert cloud.calls == []


def test_before_a_stack_is_deleted_that_was_never_completed_it_is_said_why() -> None:
    said: list[str] = []
    bring_up(CloudFormation("ROLLBACK_COMPLETE"), said)
    assert said == [
        f"the stack {NAME} was never completed (Bucket: limit exceeded); deleting its remains"
    ]


@pytest.mark.parametrize("kind", sorted(stack.DATA))
def test_a_stack_that_holds_data_is_not_deleted(kind: str) -> None:
    cloud = CloudFormation("CREATE_FAILED", resources=((kind, "CREATE_COMPLETE"),))
    with pytest.raises(StackFailed, match=r"still has the .* Task_Monitor: make destroy"):
        bring_up(cloud)
    assert cloud.calls == []


def test_tables_and_buckets_that_are_gone_hold_no_data() -> None:
    resources = tuple((kind, "DELETE_COMPLETE") for kind in sorted(stack.DATA))
    cloud = CloudFormation("ROLLBACK_COMPLETE", resources=resources)
    assert bring_up(cloud) == {"BucketName": "bucket"}


def test_an_update_that_is_rolled_back_fails_with_its_own_reasons() -> None:
    cloud = CloudFormation("UPDATE_COMPLETE")
    cloud.after_update = ["UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_COMPLETE"]
    with pytest.raises(StackFailed) as told:
        bring_up(cloud)
    assert str(told.value) == (
        f"the stack {NAME} ended as UPDATE_ROLLBACK_COMPLETE: Bucket: limit exceeded"
    )


@pytest.mark.parametrize(
    ("statuses", "calls"),
    [
        ([], []),
        (["CREATE_COMPLETE"], ["delete"]),
        (["DELETE_FAILED"], ["delete"]),
        (["DELETE_IN_PROGRESS"], ["delete"]),
        (["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"], ["delete"]),
        (["UPDATE_ROLLBACK_FAILED"], ["delete"]),
        (["ROLLBACK_COMPLETE"], ["delete"]),
    ],
)
def test_a_stack_is_deleted_in_each_state(statuses: list[str], calls: list[str]) -> None:
    cloud = CloudFormation(*statuses)
    stack.delete(cloud, NAME, FAST)  # type: ignore[arg-type]
    assert cloud.calls == calls


def test_a_deletion_that_fails_says_why() -> None:
    cloud = CloudFormation("CREATE_COMPLETE")
    cloud.after_delete = ["DELETE_IN_PROGRESS", "DELETE_FAILED"]
    with pytest.raises(StackFailed, match="DELETE_FAILED: Bucket: limit exceeded"):
        stack.delete(cloud, NAME, FAST)  # type: ignore[arg-type]
