"""A first deployment that fails half-way, a second one that succeeds, and a teardown that leaves
nothing. moto plays AWS, and `StandIn` plays Chalice: it makes what Chalice makes, in Chalice's
order, and a record at the end. So this shows what `infra` does with what is left, not how AWS or
Chalice fail; `tests/deploy` lets the real Chalice fail once, on ministack."""

from __future__ import annotations

import functools
import io
import json
import shutil
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner
from moto.cloudformation.models import cloudformation_backends

from infra import account, chalice, deploy, functions, software, stack
from infra.stage import Stage
from tests.support.deployed import left
from tests.support.moto_aws import NOT_IN_MOTO, moto_account

REGION = "eu-west-1"
ACCOUNT = "123456789012"
ROOT = Path(__file__).resolve().parents[2]
TAGS = {"aws-chalice": "version=1:stage=prod:app=taskfleet"}


@functools.cache
def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)  # type: ignore[call-overload]


class StandIn:
    """Plays `chalice.run`. It ends with a fault after `fails_after` steps, once."""

    STEPS = ("functions", "mappings", "schedule", "api", "record")

    def __init__(self, root: Path, fails_after: str = "") -> None:
        self._record = root / ".chalice" / "deployed" / "prod.json"
        self._config = root / ".chalice" / "config.json"
        self.fails_after = fails_after

    def __call__(self, _root: Path, command: str, stage: Stage) -> None:
        if command == "delete":  # by names and tags all goes anyway; Chalice's own is on ministack
            return
        for step in self.STEPS:
            getattr(self, step)(stage)
            if step == self.fails_after:
                self.fails_after = ""
                raise chalice.ChaliceFailed(f"after {step}")

    def functions(self, stage: Stage) -> None:
        entry = json.loads(self._config.read_text())["stages"]["prod"]
        for handler, function in entry["lambda_functions"].items():
            name = functions.name_of(stage, handler)
            if any(
                f["FunctionName"] == name for f in client("lambda").list_functions()["Functions"]
            ):
                continue
            client("lambda").create_function(
                FunctionName=name,
                Runtime="python3.11",
                Role=function["iam_role_arn"],
                Handler="app.app",
                Code={"ZipFile": zipped()},
                Tags=TAGS,
            )

    def mappings(self, stage: Stage) -> None:
        if self._record.exists():
            return
        for handler, queue in (
            (functions.COLLECTOR, "Processed_Task-prod"),
            (functions.EXPANDER, "Upload_to_expand-prod"),
        ):
            arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{queue}"
            listed = client("lambda").list_event_source_mappings(EventSourceArn=arn)
            assert not listed["EventSourceMappings"], "ResourceConflictException"
            client("lambda").create_event_source_mapping(
                EventSourceArn=arn, FunctionName=functions.name_of(stage, handler)
            )

    def schedule(self, stage: Stage) -> None:
        rule = f"{stage.function_prefix}-tick-event"
        client("events").put_rule(Name=rule, ScheduleExpression="rate(1 minute)")
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{stage.function_prefix}-tick"
        client("events").put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": arn}])

    def api(self, stage: Stage) -> None:
        if self._record.exists():
            return
        assert client("apigateway").get_rest_apis()["items"] == [], "a second API"
        gateway = client("apigateway")
        self.api_id = gateway.create_rest_api(name="taskfleet-prod")["id"]
        (root,) = gateway.get_resources(restApiId=self.api_id)["items"]
        where = {"restApiId": self.api_id, "resourceId": root["id"], "httpMethod": "GET"}
        gateway.put_method(**where, authorizationType="NONE")
        function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{stage.function_prefix}"
        gateway.put_integration(
            **where,
            type="AWS_PROXY",
            integrationHttpMethod="POST",
            uri=f"arn:aws:apigateway:{REGION}:lambda:path/2015-03-31/functions/{function}/invocations",
        )

    def record(self, stage: Stage) -> None:
        if self._record.exists():
            return
        entry = {
            "name": "rest_api",
            "rest_api_id": self.api_id,
            "rest_api_url": f"https://{self.api_id}.execute-api.{REGION}.amazonaws.com/api/",
            "lambda_arn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:taskfleet-prod",
        }
        self._record.parent.mkdir(exist_ok=True)
        self._record.write_text(json.dumps({"resources": [entry]}))


def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("app.py", "")
    return packed.getvalue()


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkout that deploys to an empty account."""
    (tmp_path / ".chalice").mkdir()
    for path in [ROOT / ".chalice" / "config.json", *(ROOT / ".chalice").glob("policy-*.json")]:
        shutil.copy(path, tmp_path / ".chalice")
    monkeypatch.setattr(deploy, "ROOT", tmp_path)
    monkeypatch.setattr(software, "build", lambda *_: b"the worker's software")
    # `make check` lints the template; moto would do so three times a deployment.
    monkeypatch.setattr("moto.cloudformation.models.validate_template_cfn_lint", lambda _: [])
    # moto knows none of these two.
    monkeypatch.setattr(functions, "_allow_recursion", lambda *_: None)
    monkeypatch.setattr(functions, "_throttle", lambda *_: None)
    with moto_account(REGION):
        client.cache_clear()
        yield tmp_path


def run(*arguments: str) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", NOT_IN_MOTO, UserWarning)
        return CliRunner().invoke(deploy.main, [*arguments, "--stage", "prod"])


def once(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: Exception) -> None:
    """Makes the function fail at its first call, before it does anything."""
    real = getattr(module, name)

    def failing(*arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(module, name, real)
        raise error

    monkeypatch.setattr(module, name, failing)


def rolled_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the first creation of a stack end as CloudFormation's does that fails."""
    real = stack.bring_up

    def failing(client: Any, name: str, *arguments: Any, **more: Any) -> Any:
        monkeypatch.setattr(stack, "bring_up", real)
        client.create_stack(StackName=name, TemplateBody=json.dumps(NOTHING))
        (made,) = cloudformation_backends[ACCOUNT][REGION].stacks.values()
        made.status = "ROLLBACK_COMPLETE"
        raise stack.StackFailed("ROLLBACK_COMPLETE")

    monkeypatch.setattr(stack, "bring_up", failing)


NOTHING = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "the stack": rolled_back,
    "the software": lambda patch: once(patch, account, "upload", software.BuildFailed("no")),
    "the service roles": lambda patch: once(
        patch, account, "create_service_roles", software.BuildFailed("no")
    ),
    "the secret": lambda patch: once(patch, account, "secret", software.BuildFailed("no")),
    "before Chalice": lambda patch: once(patch, chalice, "run", chalice.ChaliceFailed("no")),
    "what Chalice cannot set": lambda patch: once(
        patch, functions, "configure", chalice.ChaliceFailed("no")
    ),
}


@pytest.mark.parametrize("step", [*FAULTS, "api", "record"])
def test_after_a_deployment_that_failed_the_next_succeeds_and_a_teardown_leaves_nothing(
    step: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = left(client)
    monkeypatch.setattr(chalice, "run", StandIn(root, "" if step in FAULTS else step))
    if step in FAULTS:
        FAULTS[step](monkeypatch)
    first = run("up")
    assert isinstance(first.exception, deploy.FAILURES), first.output
    second = run("up")
    assert second.exit_code == 0, second.output
    assert "export TASKFLEET_URL=https://" in second.stdout
    assert run("destroy", "--yes").exit_code == 0
    assert left(client) == before


@pytest.mark.parametrize("step", ["the stack", "the software", "mappings", "api"])
def test_a_teardown_leaves_nothing_of_a_deployment_that_failed(
    step: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = left(client)
    monkeypatch.setattr(chalice, "run", StandIn(root, "" if step in FAULTS else step))
    if step in FAULTS:
        FAULTS[step](monkeypatch)
    assert run("up").exit_code != 0
    shutil.rmtree(root / ".chalice" / "deployed", ignore_errors=True)
    for _ in range(2):  # a second time there is nothing to do
        done = run("destroy", "--yes")
        assert done.exit_code == 0, (done.output, done.exception)
        assert left(client) == before
