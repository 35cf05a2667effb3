"""Deployments in the test's own process: moto plays AWS, and `StandIn` plays Chalice. It makes what
Chalice makes, in Chalice's order, and a record at the end."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
from click.testing import CliRunner

from infra import chalice, deploy, functions, software
from infra.stage import Stage
from tests.support.moto_aws import NOT_IN_MOTO, give_way_out, moto_account

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


@contextlib.contextmanager
def checkout(folder: Path) -> Iterator[Path]:
    """A checkout in `folder` that deploys to an empty account, for the time of the block."""
    (folder / ".chalice").mkdir()
    for path in [ROOT / ".chalice" / "config.json", *(ROOT / ".chalice").glob("policy-*.json")]:
        shutil.copy(path, folder / ".chalice")
    with moto_account(REGION) as patch:
        patch.setattr(deploy, "ROOT", folder)
        patch.setattr(software, "build", lambda *_: b"the worker's software")
        # `make check` lints the template; moto would do so three times a deployment.
        patch.setattr("moto.cloudformation.models.validate_template_cfn_lint", lambda _: [])
        # moto knows none of these two.
        patch.setattr(functions, "_allow_recursion", lambda *_: None)
        patch.setattr(functions, "_throttle", lambda *_: None)
        client.cache_clear()
        give_way_out(client("ec2"))
        yield folder


def run(*arguments: str, command: Any = deploy.main) -> Any:
    """Runs a command of `infra.deploy`, or another, for the stage `prod`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", NOT_IN_MOTO, UserWarning)
        return CliRunner().invoke(command, [*arguments, "--stage", "prod"])
