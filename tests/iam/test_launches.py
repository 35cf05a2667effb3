"""The provisioner launches by the stage's template, with its image and its security group, and in
no other way (D12)."""

from __future__ import annotations

from taskfleet.aws.ec2 import STAGE_TAG
from tests.support.iam import ACCOUNT, STAGE, Request, denied, function_policy

PREFIX = f"arn:aws:ec2:{STAGE.region}:{ACCOUNT}:"
TEMPLATE = f"{PREFIX}launch-template/lt-1"
BY_TEMPLATE = (("ec2:LaunchTemplate", TEMPLATE),)
TAGGED = ((f"aws:RequestTag/{STAGE_TAG}", STAGE.name),)
C7G = (("ec2:InstanceType", "c7g.large"),)
TEMPLATES_OWN = [
    f"arn:aws:ec2:{STAGE.region}::image/ami-1",
    f"arn:aws:ec2:{STAGE.region}::snapshot/snap-1",
    f"{PREFIX}security-group/sg-1",
    f"{PREFIX}volume/vol-1",
]
"""What a launch takes from the template."""
ANY = [f"{PREFIX}subnet/subnet-1", f"{PREFIX}network-interface/eni-1"]
"""What a launch may name itself: `TASKFLEET_SUBNETS` replaces the template's subnet."""


def run(resource: str, *context: tuple[str, str]) -> Request:
    return Request("ec2:RunInstances", resource, context)


def test_a_launch_by_the_template_is_allowed() -> None:
    given, replaced = (
        ("ec2:IsLaunchTemplateResource", "true"),
        ("ec2:IsLaunchTemplateResource", "false"),
    )
    requests = [
        run(f"{PREFIX}instance/*", *TAGGED, *C7G, *BY_TEMPLATE, replaced),
        run(TEMPLATE, (f"aws:ResourceTag/{STAGE_TAG}", STAGE.name), *BY_TEMPLATE, given),
        *(run(resource, *BY_TEMPLATE, given) for resource in TEMPLATES_OWN),
        *(run(resource, *BY_TEMPLATE, replaced) for resource in ANY),
        run(f"{PREFIX}spot-instances-request/*"),  # AWS knows no template there
        Request("ec2:CreateFleet", f"{PREFIX}instance/*", TAGGED),
    ]
    assert denied(function_policy("tick"), requests) == []


def test_a_launch_is_allowed_where_ec2_does_not_tell_the_type() -> None:
    request = run(f"{PREFIX}instance/*", *TAGGED, *BY_TEMPLATE)
    assert denied(function_policy("tick"), [request]) == []


def test_a_launch_without_a_template_is_denied() -> None:
    requests = [
        run(f"{PREFIX}instance/*", *TAGGED, *C7G),
        *(run(resource) for resource in (*TEMPLATES_OWN, *ANY)),
    ]
    assert denied(function_policy("tick"), requests) == requests


def test_a_launch_cannot_replace_what_the_template_gives() -> None:
    replaced = ("ec2:IsLaunchTemplateResource", "false")
    requests = [run(resource, *BY_TEMPLATE, replaced) for resource in TEMPLATES_OWN]
    assert denied(function_policy("tick"), requests) == requests


def test_a_stages_condition_names_its_region_and_account() -> None:
    policy = function_policy("tick")
    templates = {
        statement["Condition"]["ArnLike"]["ec2:LaunchTemplate"]
        for statement in policy["Statement"]
        if "ArnLike" in statement.get("Condition", {})
    }
    assert templates == {f"{PREFIX}launch-template/*"}
