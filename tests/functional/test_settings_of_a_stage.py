"""A stage is found by credentials, region and name alone: by workers, `redrive` and the other
commands (moto plays AWS, a stand-in plays Chalice)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from animoto.kind import process_settings
from ec2_worker import run as worker
from infra import chalice
from taskfleet.aws.stage import settings_of_stage
from taskfleet.cli.main import main
from taskfleet.cli.redrive import open_queue
from taskfleet.ports import OutgoingMessage
from tests.support.deployment import REGION, StandIn, checkout, client, run
from tests.support.moto_aws import moto_account

PARAMETER = "/taskfleet/prod/settings"


@pytest.fixture(autouse=True)
def nothing_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A folder and an environment that say nothing of a stage, also after `run.py` has completed
    the environment."""
    for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
        del os.environ[name]


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a deployment of `prod` wrote."""
    folder = tmp_path_factory.mktemp("checkout")
    with checkout(folder), pytest.MonkeyPatch.context() as patch:
        patch.setattr(chalice, "run", StandIn(folder))
        choices = ["TASKFLEET_LEASE_S=40", "TASKFLEET_SLOTS=8", "IdleSeconds=20"]
        done = run("up", *(word for choice in choices for word in ("--set", choice)))
        assert done.exit_code == 0, (done.output, done.exception)
        parameter = client("ssm").get_parameter(Name=PARAMETER)["Parameter"]
        assert parameter["Type"] == "String"
        yield json.loads(parameter["Value"])


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """The workers that `run.py` makes, which do not run."""
    made: list[tuple[Any, dict[str, Any]]] = []

    def make(*arguments: Any, **options: Any) -> Any:
        made.append((arguments, options))
        return SimpleNamespace(run=lambda: True, drain=lambda **_: None, leave_when_idle=print)

    monkeypatch.setattr(worker, "Worker", make)
    monkeypatch.setattr(worker.signal, "signal", lambda *_: None)
    monkeypatch.setattr(worker.log, "set_up", lambda _: None)
    monkeypatch.setattr(worker, "watch", lambda *_: None)
    monkeypatch.setattr(worker, "Imds", lambda _: SimpleNamespace(instance_id=str))
    return made


def start(*arguments: str) -> Any:
    return CliRunner().invoke(worker.main, arguments)


def test_where_the_environment_names_the_bucket_nothing_is_read() -> None:
    environ = {"TASKFLEET_BUCKET": "b", "TASKFLEET_STAGE": "prod"}
    assert settings_of_stage(environ).bucket == "b"  # without an account, region or network


NOT_DEPLOYED = (
    "stage prod is not deployed in eu-west-1 (no SSM parameter /taskfleet/prod/settings): "
    "make deploy STAGE=prod"
)


@pytest.mark.parametrize(
    ("missing", "held", "said"),
    [
        ((), None, NOT_DEPLOYED),
        (("AWS_DEFAULT_REGION",), None, "no AWS region: set AWS_REGION or AWS_DEFAULT_REGION"),
        (("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), None, "no AWS credentials; set AWS_"),
        ((), "{", "SSM parameter /taskfleet/prod/settings is no JSON object of texts"),
        ((), '{"TASKFLEET_LEASE_S": "soon"}', "TASKFLEET_LEASE_S='soon'"),
        ((), "{}", "TASKFLEET_BUCKET must name the S3 bucket"),
    ],
)
@pytest.mark.parametrize("command", ["worker", "redrive"])
@pytest.mark.usefixtures("started")
def test_what_is_missing_is_one_sentence_and_exit_code_2(
    missing: tuple[str, ...],
    held: str | None,
    said: str,
    command: str,
) -> None:
    with moto_account(REGION) as patch:
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        if held is not None:
            boto3.client("ssm").put_parameter(Name=PARAMETER, Value=held, Type="String")
        for name in missing:
            patch.delenv(name)
        if command == "worker":
            done = start("--stage", "prod")
        else:
            done = CliRunner().invoke(main, ["redrive", "--stage", "prod"])
    if held == "{}" and command == "redrive":
        return  # it needs no bucket
    assert done.exit_code == 2, (done.output, done.exception)
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


# --- with a deployment, the last of these tests deletes it ---


def test_a_worker_finds_all_of_its_stage_by_credentials_alone(
    deployed: dict[str, str], started: list[Any]
) -> None:
    done = start("--stage", "prod")
    assert done.exit_code == 0, (done.output, done.exception)
    ((ports, registry, conf), options) = started[0]
    assert (conf.stage, conf.lease_s, conf.kinds) == ("prod", 40.0, ["animoto"])
    assert conf.bucket.startswith("taskfleet-prod")
    assert options["threads"] == 8
    assert options["exit_when_idle_s"] is None  # it runs on no machine of the fleet
    assert "animoto" in registry.names
    assert ports.tasks.depth().backlog == 0  # the queue is there
    assert process_settings.__wrapped__().lease_s == 40.0  # kinds find their settings, too
    ports.store.put("spill/x", b"x", content_type="text/plain")


def test_the_command_line_goes_before_the_environment_and_that_before_the_stage(
    deployed: dict[str, str], started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKFLEET_STAGE", "nowhere")
    monkeypatch.setenv("TASKFLEET_LEASE_S", "50")
    monkeypatch.setenv("TASKFLEET_SLOTS", "7")
    monkeypatch.setenv("TASKFLEET_INSTANCE_ID", "i-1")
    assert start("--stage", "prod", "--threads", "3").exit_code == 0
    ((_, _, conf), options) = started[0]
    assert (options["threads"], conf.slots, conf.lease_s, conf.stage) == (3, 3, 50.0, "prod")
    assert options["exit_when_idle_s"] == conf.idle_s == 20.0
    assert start("--stage", "prod", "--exit-when-idle", "2").exit_code == 0
    assert started[1][1]["exit_when_idle_s"] == 2.0


def test_no_secret_is_written(deployed: dict[str, str]) -> None:
    assert deployed["TASKFLEET_TOKEN_SECRET_SSM"] == "/taskfleet/prod/token-secret"
    secret = client("ssm").get_parameter(Name="/taskfleet/prod/token-secret")["Parameter"]["Value"]
    assert secret not in json.dumps(deployed)
    assert "TASKFLEET_TOKEN_SECRET" not in deployed


def test_every_command_finds_the_stage_in_the_same_way(deployed: dict[str, str]) -> None:
    open_queue("tasks", "prod").dead_letters().send([OutgoingMessage("x")])
    listed = CliRunner().invoke(main, ["redrive", "--list", "--stage", "prod"])
    assert (listed.exit_code, listed.stdout.count("\n")) == (0, 1), listed.output
    token = CliRunner().invoke(main, ["token", "--client-id", "ann", "--stage", "prod"])
    assert token.exit_code == 0
    assert CliRunner().invoke(main, ["keys", "show", "--stage", "prod"]).exit_code == 0


def test_destroy_deletes_the_settings(deployed: dict[str, str]) -> None:
    done = run("destroy", "--yes")
    assert done.exit_code == 0, (done.output, done.exception)
    with pytest.raises(client("ssm").exceptions.ParameterNotFound):
        client("ssm").get_parameter(Name=PARAMETER)
