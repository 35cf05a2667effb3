"""Policies and settings of `dev` are rewritten for a stage, whose tag is the same everywhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from infra import roles, stack
from infra.stage import Stage, exact, policies, write
from taskfleet.aws.ec2 import MARK_TAG, STAGE_TAG

PROD = Stage("prod", "eu-west-1", "123456789012", "prod-bucket")
CHALICE = Path(__file__).resolve().parents[2] / ".chalice"


@pytest.mark.parametrize(
    ("dev", "prod"),
    [
        (
            "arn:aws:sqs:*:*:Task_to_process",
            "arn:aws:sqs:eu-west-1:123456789012:Task_to_process-prod",
        ),
        (
            "arn:aws:sqs:*:*:Task_to_process_high",
            "arn:aws:sqs:eu-west-1:123456789012:Task_to_process-prod_high",
        ),
        (
            "arn:aws:sqs:*:*:Task_to_process_dead",
            "arn:aws:sqs:eu-west-1:123456789012:Task_to_process-prod_dead",
        ),
        (
            "arn:aws:dynamodb:*:*:table/Task_Monitor/index/batches_by_client",
            "arn:aws:dynamodb:eu-west-1:123456789012:table/Task_Monitor-prod/index/batches_by_client",
        ),
        ("arn:aws:s3:::taskfleet-*/spill/*", "arn:aws:s3:::prod-bucket/spill/*"),
        ("arn:aws:s3:::taskfleet-*", "arn:aws:s3:::prod-bucket"),
        (
            "arn:aws:ssm:*:*:parameter/taskfleet/dev/token-secret",
            "arn:aws:ssm:eu-west-1:123456789012:parameter/taskfleet/prod/token-secret",
        ),
        (
            "arn:aws:logs:*:*:log-group:/aws/lambda/taskfleet-dev:*",
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/lambda/taskfleet-prod:*",
        ),
        (
            "arn:aws:iam::*:role/taskfleet-dev-*-worker",
            "arn:aws:iam::123456789012:role/taskfleet-prod-eu-west-1-worker",
        ),
        ("arn:aws:ec2:*::image/*", "arn:aws:ec2:eu-west-1::image/*"),
        ("*", "*"),
    ],
)
def test_resources_become_exact(dev: str, prod: str) -> None:
    policy = {"Version": "2012-10-17", "Statement": [{"Sid": "A", "Resource": [dev]}]}
    assert exact(policy, PROD)["Statement"][0]["Resource"] == [prod]


def test_conditions_name_the_stage() -> None:
    condition = {
        "StringEquals": {"aws:ResourceTag/taskfleet:stage": "dev", "x": ["dev", "developer"]},
        "ArnLike": {"y": "arn:aws:sqs:*:*:Processed_Task"},
    }
    policy = {"Statement": [{"Resource": "*", "Condition": condition}]}
    assert exact(policy, PROD)["Statement"][0]["Condition"] == {
        "StringEquals": {"aws:ResourceTag/taskfleet:stage": "prod", "x": ["prod", "developer"]},
        "ArnLike": {"y": "arn:aws:sqs:eu-west-1:123456789012:Processed_Task-prod"},
    }


def test_no_policy_of_a_stage_names_dev_or_a_wildcard_account() -> None:
    for path in CHALICE.glob("policy-*.json"):
        text = json.dumps(exact(json.loads(path.read_text()), PROD))
        assert "dev" not in text, path.name
        assert ":*:*:" not in text, path.name


@pytest.fixture
def chalice_dir(tmp_path: Path) -> Path:
    for path in [CHALICE / "config.json", *CHALICE.glob("policy-*.json")]:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_a_new_stage_gets_an_entry_and_roles_of_its_own(chalice_dir: Path) -> None:
    before = json.loads((chalice_dir / "config.json").read_text())
    write(chalice_dir, PROD, {"TASKFLEET_LOG_LEVEL": "debug"})
    config = json.loads((chalice_dir / "config.json").read_text())
    assert config["stages"]["dev"] == before["stages"]["dev"]
    entry = config["stages"]["prod"]
    assert entry["environment_variables"]["TASKFLEET_BUCKET"] == "prod-bucket"
    assert entry["environment_variables"]["TASKFLEET_STAGE"] == "prod"
    assert entry["environment_variables"]["TASKFLEET_LOG_LEVEL"] == "debug"
    for name, function in entry["lambda_functions"].items():
        assert function["manage_iam_role"] is False
        assert function["iam_role_arn"] == (
            f"arn:aws:iam::123456789012:role/taskfleet-prod-eu-west-1-{name}"
        )


def test_changes_that_a_person_made_stay(chalice_dir: Path) -> None:
    write(chalice_dir, PROD, {"TASKFLEET_LOG_LEVEL": "debug"})
    path = chalice_dir / "config.json"
    config = json.loads(path.read_text())
    config["stages"]["prod"]["lambda_functions"]["api_handler"]["lambda_memory_size"] = 3008
    path.write_text(json.dumps(config))
    write(chalice_dir, PROD, {})
    entry = json.loads(path.read_text())["stages"]["prod"]
    assert entry["lambda_functions"]["api_handler"]["lambda_memory_size"] == 3008
    assert entry["environment_variables"]["TASKFLEET_LOG_LEVEL"] == "debug"


def test_writing_twice_changes_nothing(chalice_dir: Path) -> None:
    write(chalice_dir, PROD, {})
    first = {path: path.read_bytes() for path in chalice_dir.rglob("*.json")}
    write(chalice_dir, PROD, {})
    assert {path: path.read_bytes() for path in chalice_dir.rglob("*.json")} == first


def test_roles_of_a_stage_in_two_regions_have_different_names_that_iam_takes() -> None:
    processes = [
        *json.loads((CHALICE / "config.json").read_text())["stages"]["dev"]["lambda_functions"],
        "worker",
    ]
    longest = replace(PROD, name="a" * 16, region="us-isof-south-1")
    for process in processes:
        assert PROD.role_name(process) != replace(PROD, region="us-east-1").role_name(process)
        assert len(longest.role_name(process)) <= 64


def test_each_function_gets_a_role_with_its_exact_policy_path_and_boundary() -> None:
    stage = replace(PROD, role_path="/team/")
    boundary = "arn:aws:iam::123456789012:policy/bound"
    template = json.loads(roles.template(CHALICE, stage, boundary=boundary))
    made = [resource["Properties"] for resource in template["Resources"].values()]
    assert {role["RoleName"] for role in made} == {
        f"taskfleet-prod-eu-west-1-{name}" for name in policies(CHALICE, stage)
    }
    for role in made:
        assert (role["Path"], role["PermissionsBoundary"]) == ("/team/", boundary)
    text = json.dumps(template)
    assert "arn:aws:iam::123456789012:role/team/taskfleet-prod-eu-west-1-worker" in text
    assert len(text) < 51_200  # what CloudFormation takes in a call
    assert "PermissionsBoundary" not in roles.template(CHALICE, stage)


def test_functions_may_use_a_key_of_ones_own_through_the_services_alone() -> None:
    key = "arn:aws:kms:eu-west-1:123456789012:key/0-1"
    template = json.loads(roles.template(CHALICE, PROD, key=key))
    for role in template["Resources"].values():
        _, policy = role["Properties"]["Policies"]
        (statement,) = policy["PolicyDocument"]["Statement"]
        assert statement["Resource"] == [key]
        assert statement["Condition"]["StringLike"]["kms:ViaService"] == [
            "sqs.*",
            "dynamodb.*",
            "s3.*",
        ]
    assert "kms:" not in roles.template(CHALICE, PROD)


def test_the_template_fits_into_a_call() -> None:
    assert len(stack.TEMPLATE.read_bytes()) < 51_200


def test_stack_and_policies_use_the_stages_tag() -> None:
    template = stack.TEMPLATE.read_text()
    keys = re.findall(r"""\bKey:\s*["']?([^"',}\s]+)""", template)
    assert set(keys) == {STAGE_TAG, "Name"}
    assert set(re.findall(r"taskfleet:[\w-]+", template)) == {STAGE_TAG}
    policy = (CHALICE / "policy-tick.json").read_text()
    conditions = re.findall(r'"aws:(?:RequestTag|ResourceTag)/([^"]+)"', policy)
    assert set(conditions) == {STAGE_TAG}
    for path in CHALICE.glob("policy-*.json"):
        tags = set(re.findall(r"taskfleet:[\w-]+", path.read_text()))
        assert tags <= {STAGE_TAG, MARK_TAG}, path.name
