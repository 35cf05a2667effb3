"""The worker's role in `infra/stack.yaml`, as data; `tests/iam` tries what its policy allows."""

from __future__ import annotations

from typing import Any

from tests.support.template import of_type, template

(ROLE,) = (role["Properties"] for role in of_type("AWS::IAM::Role").values())
CORE = {
    "ssm": "UpdateInstanceInformation",
    "ssmmessages": "OpenControlChannel",
    "ec2messages": "GetMessages",
}
"""The three groups of actions of AmazonSSMManagedInstanceCore, with one action of each."""


def shell() -> dict[str, Any]:
    """The policy that lets people open a shell."""
    policy = of_type("AWS::IAM::Policy")["WorkerShell"]
    assert policy["Properties"]["Roles"] == [{"Ref": "WorkerRole"}]
    return policy


def test_a_shell_on_workers_is_a_choice_and_off_by_default() -> None:
    assert template()["Parameters"]["SessionManager"]["Default"] == "off"
    assert shell()["Condition"] == "HasSessionManager"
    (statement,) = shell()["Properties"]["PolicyDocument"]["Statement"]
    actions = {tuple(action.split(":")) for action in statement["Action"]}
    assert actions >= set(CORE.items())
    assert {service for service, _ in actions} == set(CORE)


def test_a_shell_gives_no_way_to_the_secret_or_to_other_machines() -> None:
    (statement,) = shell()["Properties"]["PolicyDocument"]["Statement"]
    for action in statement["Action"]:
        assert not action.startswith(
            ("ssm:Get", "ssm:Describe", "ssm:Send", "ssm:Start", "ssm:Put")
        )


def test_path_and_boundary_are_parameters() -> None:
    assert ROLE["Path"] == {"Ref": "RolePath"}
    assert ROLE["PermissionsBoundary"]["Fn::If"][:2] == [
        "HasBoundary",
        {"Ref": "PermissionsBoundary"},
    ]
