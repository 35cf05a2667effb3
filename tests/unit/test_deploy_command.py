"""`infra.deploy` refuses bad usage before it calls AWS: one line, exit code 2."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from infra import deploy


@pytest.fixture(autouse=True)
def no_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("AWS was called")

    monkeypatch.setattr(deploy, "open_session", refuse)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--stage", "Prod!"], "TASKFLEET_STAGE"),
        (["up", "--set", "AlarmEmail"], "NAME=VALUE"),
        (["up", "--set", "TASKFLEET_LOG_LEVEL=loud"], "TASKFLEET_LOG_LEVEL"),
        (["up", "--set", "WorkerSha256=00"], "WorkerSha256"),
        (["up", "--set", "BaseImageId=ami-1"], "BaseImageId"),
        (["up", "--set", "TASKFLEET_TOKEN_SECRET=" + "x" * 40], "TASKFLEET_TOKEN_SECRET"),
        (["destroy", "--stage", "../dev"], "TASKFLEET_STAGE"),
        (["ami", "--stage", ""], "TASKFLEET_STAGE"),
    ],
)
def test_bad_usage_is_one_line(arguments: list[str], said: str) -> None:
    result = CliRunner().invoke(deploy.main, arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""


def test_a_variable_shared_by_functions_and_workers_is_set_for_both() -> None:
    parameters, variables = deploy._parameters_and_variables(
        ("TASKFLEET_KINDS=animoto,mine", "TASKFLEET_SLOTS=8", "AlarmEmail=a@example.com")
    )
    assert variables == {"TASKFLEET_KINDS": "animoto,mine", "TASKFLEET_SLOTS": "8"}
    assert parameters == {
        "Kinds": "animoto,mine",
        "Threads": "8",
        "AlarmEmail": "a@example.com",
    }


def test_destroy_deletes_only_when_the_stage_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        region_name = "us-east-1"

    monkeypatch.setattr(deploy, "open_session", Session)
    monkeypatch.setattr(deploy.account, "identity", lambda _: ("123456789012", "aws"))
    destroyed: list[str] = []
    monkeypatch.setattr(
        deploy.teardown, "destroy", lambda _session, stage, *_: destroyed.append(stage)
    )
    for answer in ("\n", "no\n", "prod\n"):
        assert CliRunner().invoke(deploy.main, ["destroy"], input=answer).exit_code == 2
    assert destroyed == []
    assert CliRunner().invoke(deploy.main, ["destroy"], input="dev\n").exit_code == 0
    assert destroyed == ["dev"]


def test_another_python_than_that_of_the_workers_deploys_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deploy.sys, "version_info", (3, 12, 4, "final", 0))
    result = CliRunner().invoke(deploy.main, ["up"])
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert "this is Python 3.12" in result.stderr
    assert "PYTHON=python3.11" in result.stderr


def test_the_region_is_that_of_aws_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    assert deploy.open_session().region_name == "eu-west-1"
