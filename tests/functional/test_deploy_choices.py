"""What a deployment makes of a person's choices (moto plays AWS, a stand-in plays Chalice)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from infra import chalice, machines, stack
from tests.support.deployment import REGION, StandIn, checkout, client, run

TYPES = "TASKFLEET_INSTANCE_TYPES"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(chalice, "run", StandIn(tmp_path))
    with checkout(tmp_path) as folder:
        yield folder


def up(*choices: str) -> None:
    done = run("up", *(word for choice in choices for word in ("--set", choice)))
    assert done.exit_code == 0, (done.output, done.exception)


def entry(root: Path) -> dict[str, Any]:
    config = json.loads((root / ".chalice" / "config.json").read_text())
    return dict(config["stages"]["prod"])


def types(root: Path) -> str:
    return str(entry(root)["environment_variables"].get(TYPES, ""))


def test_types_follow_the_architecture_until_somebody_names_others(root: Path) -> None:
    up()
    assert types(root) == ",".join(machines.TYPES["arm64"])
    assert entry(root)["lambda_architecture"] == "arm64"
    up("Architecture=x86_64")
    assert types(root) == ",".join(machines.TYPES["x86_64"])
    assert entry(root)["lambda_architecture"] == "x86_64"
    up(f"{TYPES}=c6i.large")
    up()
    assert types(root) == "c6i.large"


def test_the_type_of_the_launch_template_is_not_replaced(root: Path) -> None:
    up("InstanceType=t4g.medium")
    assert types(root) == ""


def test_stacks_have_the_tags_that_the_stage_was_given(root: Path) -> None:
    up("TASKFLEET_TAGS=owner=team-a")
    up()
    for made in client("cloudformation").describe_stacks()["Stacks"]:
        tags = {tag["Key"]: tag["Value"] for tag in made["Tags"]}
        assert tags == {"taskfleet:stage": "prod", "owner": "team-a"}


def test_roles_have_the_path_and_the_boundary_and_the_provisioner_passes_such_a_role(
    root: Path,
) -> None:
    boundary = "arn:aws:iam::123456789012:policy/bound"
    up("RolePath=/team/", f"PermissionsBoundary={boundary}")
    roles = client("iam").list_roles()["Roles"]
    roles = [role for role in roles if role["RoleName"].startswith("taskfleet-")]
    assert len(roles) == 6
    assert {role["Path"] for role in roles} == {"/team/"}
    for role in roles:
        full = client("iam").get_role(RoleName=role["RoleName"])["Role"]
        assert full["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    policy = client("iam").get_role_policy(
        RoleName=f"taskfleet-prod-{REGION}-tick", PolicyName="function"
    )
    assert f":role/team/taskfleet-prod-{REGION}-worker" in str(policy["PolicyDocument"])


def test_a_record_of_the_stage_in_another_region_is_put_away(root: Path) -> None:
    """Otherwise Chalice would update the other region's API, or fail to find it."""
    record = root / ".chalice" / "deployed" / "prod.json"
    record.parent.mkdir()
    record.write_text(
        '{"resources": [{"arn": "arn:aws:lambda:us-east-1:123456789012:function:x"}]}'
    )
    up()
    assert REGION in record.read_text()


def test_no_token_is_printed_where_a_log_may_keep_it(root: Path) -> None:
    done = run("up")
    assert "TASKFLEET_TOKEN" not in done.output
    assert "taskfleet token --stage prod --client-id me" in done.stderr


def test_the_newest_image_is_looked_up_by_every_deployment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which of the two parameters the launch template takes is tested in `test_stack`."""

    def images() -> tuple[str, str]:
        (made,) = client("cloudformation").describe_stacks(StackName="taskfleet-prod")["Stacks"]
        values = stack.parameters(made)
        return values["ImageId"], values["BaseImageId"]

    for newest in ("ami-00000001", "ami-00000002"):
        monkeypatch.setattr(machines, "newest_image", lambda *_, newest=newest: newest)
        up()
        assert images() == ("", newest)
    up("ImageId=ami-0000000b")  # as `make ami` does; it stays, by `test_deploy_stack`
    assert images() == ("ami-0000000b", "ami-00000002")
