"""`make deploy` and `make destroy` for real: CloudFormation, Chalice, Lambda in processes of its
own, API Gateway, the queue's mapping and the schedule, all as ministack plays them. What stock
ministack lacks for Chalice is in `ministack_shim.py`. One story, told in order."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import boto3
import botocore.loaders
import pytest
import requests
from botocore.config import Config

from localcloud import leash as leash_module
from taskfleet.wire import token
from tests.support.deployed import left
from tests.support.moto_aws import give_way_out
from tests.support.ports import free_port
from tests.support.waiting import eventually

pytestmark = [pytest.mark.deploy, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[2]
COPIED = (".chalice", "vendor", "chalice_app", "taskfleet", "animoto", "ec2_worker", "infra")
CHALICE = "import sys; from chalice.cli import main; sys.exit(main())"
FILES = ("app.py", "requirements.txt", "pyproject.toml")
REGION = "eu-west-1"
HEALTHY = (
    *("stage", "credentials", "region", "clock", "provisioner", "boots"),
    *("stack taskfleet-prod", "stack taskfleet-prod-Roles", "queues, table, bucket"),
    *("dead letters", "alarms"),
)
"""What `taskfleet doctor` can judge of a stage on ministack."""
FAULT = "refuse-imports"
"""File in ministack's folder while which `ministack_shim` refuses to create an API."""
STAGE = "prod"
TICK = f"taskfleet-{STAGE}-tick"
"""The provisioner's function. Its schedule's rule and a nudge have its name with a suffix."""
"""Not dev, whose entry in `.chalice/config.json` is there from the start."""


@dataclass
class Account:
    """An AWS account in ministack, and a checkout that is deployed to it."""

    project: Path
    endpoint: str
    environ: dict[str, str]
    url: str = ""
    api_id: str = ""
    token: str = ""
    said: list[str] = field(default_factory=list)

    def client(self, service: str) -> Any:
        return boto3.client(
            service,  # type: ignore[call-overload]
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(proxies={}),
        )

    def infra(self, *arguments: str, exits_with: int = 0) -> str:
        """What a command of `infra.deploy` prints."""
        return self.run("-m", "infra.deploy", *arguments, exits_with=exits_with)

    def doctor(self) -> dict[str, Any]:
        """What `taskfleet doctor` says of the stage, by subject."""
        done = subprocess.run(
            [sys.executable, "-m", "taskfleet", "doctor", "--stage", STAGE, "--json"],
            cwd=self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.stderr == ""
        rows = [json.loads(line) for line in done.stdout.splitlines()]
        return {row["subject"]: row for row in rows}

    def run(self, *arguments: str, exits_with: int = 0) -> str:
        """What Python prints; its notes are kept in `said`."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.project,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.said.append(done.stderr)
        assert done.returncode == exits_with, done.stdout + done.stderr
        return done.stdout

    @contextlib.contextmanager
    def refusing_apis(self) -> Iterator[None]:
        """Lets API Gateway refuse to create an API for the time of the `with` block."""
        fault = self.project.parent / "state" / FAULT
        fault.parent.mkdir(exist_ok=True)
        fault.touch()
        yield
        fault.unlink()

    def up(self, *arguments: str) -> None:
        told = dict(
            re.findall(
                r"^export (\w+)=(\S+)$", self.infra("up", "--stage", STAGE, *arguments), re.M
            )
        )
        found = re.fullmatch(
            rf"https://(\w+)\.execute-api\.{REGION}\.amazonaws\.com/(\w+)", told["TASKFLEET_URL"]
        )
        assert found is not None, told
        self.api_id = found[1]
        self.url = f"{self.endpoint}/_aws/execute-api/{found[1]}/{found[2]}"
        assert "TASKFLEET_TOKEN" not in told  # this is no terminal, but perhaps a log
        self.token = self.run(
            "-m", "taskfleet", "token", "--stage", STAGE, "--client-id", "me"
        ).strip()

    def call(self, method: str, path: str, bearer: str | None = None, **more: Any) -> Any:
        headers = {"Authorization": f"Bearer {bearer or self.token}"}
        return requests.request(method, self.url + path, headers=headers, timeout=30, **more)

    def response_types(self) -> list[list[str]]:
        """The settings of the collector's event source, the only one that answers for a batch in
        part."""
        found = self.client("lambda").list_event_source_mappings()["EventSourceMappings"]
        return [
            mapping["FunctionResponseTypes"]
            for mapping in found
            if mapping["EventSourceArn"].endswith(":Processed_Task-prod")
        ]

    def settings_of_functions(self) -> dict[str, Any]:
        """What the deployment set on the provisioner, and on the reader of uploads."""
        functions = self.client("lambda")
        tick = "taskfleet-prod-tick"
        events = functions.get_function_event_invoke_config(FunctionName=tick)
        loops = functions.get_function_recursion_config(FunctionName="taskfleet-prod-expand_upload")
        made = functions.get_function_configuration(FunctionName=tick)
        reserved = functions.get_function_concurrency(FunctionName=tick)
        return {
            "reserved": reserved.get("ReservedConcurrentExecutions"),
            "recursive loops": loops["RecursiveLoop"],
            "event age": events["MaximumEventAgeInSeconds"],
            "retries": events["MaximumRetryAttempts"],
            "architecture": made["Architectures"],
            "role": made["Role"].partition(":role")[2],
        }

    def machines(self) -> dict[str, str]:
        """The state of each machine, by its id."""
        reservations = self.client("ec2").describe_instances()["Reservations"]
        instances = [each for reservation in reservations for each in reservation["Instances"]]
        return {each["InstanceId"]: each["State"]["Name"] for each in instances}

    def logged(self, function: str, pattern: str) -> str | None:
        """The first line of a function's log with the pattern."""
        logs = self.client("logs")
        try:
            events = logs.filter_log_events(logGroupName=f"/aws/lambda/{function}")["events"]
        except logs.exceptions.ResourceNotFoundException:
            return None
        return next((e["message"] for e in events if pattern in e["message"]), None)


def prompt_waiters(folder: Path) -> Path:
    """A folder for AWS_DATA_PATH in which botocore finds waiters for Lambda that ask ten times a
    second. Its own ask every five seconds: a deployment of five functions would spend 25 s in
    them, and an update, which waits twice for each, 50 s."""
    loader = botocore.loaders.create_loader()
    version = loader.determine_latest_version("lambda", "waiters-2")
    model = loader.load_service_model("lambda", "waiters-2", version)
    for waiter in model["waiters"].values():
        waiter.update(delay=0.1, maxAttempts=600)
    target = folder / "lambda" / version
    target.mkdir(parents=True)
    (target / "waiters-2.json").write_text(json.dumps(model))
    return folder


def few_libraries(pyproject: Path) -> None:
    """Leave one library in the worker's archive. No machine unpacks it here, and to install and
    pack all of them, ffmpeg too, takes half a minute of two deployments;
    `tests/deploy/test_software.py` builds the archive whole."""
    text = pyproject.read_text()
    for name, kept in (("dependencies", '["msgspec>=0.19"]'), ("animoto", "[]")):
        text, count = re.subn(rf"^{name} = \[.*?\]$", f"{name} = {kept}", text, flags=re.M | re.S)
        assert count == 1, name
    pyproject.write_text(text)


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    project = tmp_path / "project"
    project.mkdir()
    for name in COPIED:
        ignored = shutil.ignore_patterns("__pycache__", "deployed", "deployments", "stages")
        shutil.copytree(ROOT / name, project / name, symlinks=True, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, project / name)
    few_libraries(project / "pyproject.toml")
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "TASKFLEET_"))}
    environ = {
        **kept,
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_DATA_PATH": str(prompt_waiters(tmp_path / "botocore")),
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": "",
    }
    ministack = {
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "PAGE_PORT": str(port),
        "LOG_LEVEL": "WARNING",
        "STATE_DIR": str(tmp_path / "state"),
        "SFTP_ENABLED": "0",
        "IOT_MTLS_ENABLED": "0",
        "DOCKER_HOST": f"unix://{tmp_path}/no-docker.sock",
    }
    with (tmp_path / "ministack.log").open("wb") as log:
        # On a leash: a test that is killed leaves no emulator behind.
        leash, held = os.pipe()
        shim = Path(__file__).with_name("ministack_shim.py")
        process = subprocess.Popen(
            [sys.executable, "-P", leash_module.__file__, str(shim)],
            env={**environ, **ministack, leash_module.VARIABLE: str(leash)},
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[leash],
        )
        os.close(leash)
    try:
        eventually(lambda: answers(f"{endpoint}/_ministack/ready"), 60, "ministack serves")
        yield Account(project, endpoint, environ)
    finally:
        os.close(held)
        process.wait(60)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False


@pytest.fixture
def start_worker(account: Account) -> Iterator[Callable[[], None]]:
    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        # It finds its stage by credentials and region.
        started.append(
            subprocess.Popen(
                [sys.executable, "ec2_worker/run.py", "--threads", "4", "--stage", STAGE],
                cwd=account.project,
                env={**account.environ, "TASKFLEET_RECEIVE_WAIT_S": "1"},
                stderr=subprocess.DEVNULL,
            )
        )

    yield start
    for process in started:
        process.terminate()
        process.wait(60)


def test_from_nothing_to_a_batch_and_back_to_nothing(
    account: Account, start_worker: Callable[[], None]
) -> None:
    give_way_out(account.client("ec2"))
    before = left(account.client)
    # ministack knows an image of x86_64, and this type. The first deployment ends with functions,
    # without a record of them.
    given = ("Architecture=x86_64", "InstanceType=c5.large")
    choices = [word for choice in given for word in ("--set", choice)]
    with account.refusing_apis():
        account.infra("up", "--stage", STAGE, *choices, exits_with=1)
    assert "LimitExceeded" in account.said[-1]
    assert "functions" in left(account.client)
    account.up()
    assert account.response_types() == [["ReportBatchItemFailures"]]

    logs = account.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/")
    assert {g["logGroupName"]: g.get("retentionInDays") for g in logs["logGroups"]} == {
        f"/aws/lambda/{f['FunctionName']}": 30
        for f in account.client("lambda").list_functions()["Functions"]
    }
    assert account.settings_of_functions() == {
        "reserved": None,  # a new account has none to give
        "recursive loops": "Allow",
        "event age": 60,
        "retries": 0,
        "architecture": ["x86_64"],
        "role": "/taskfleet-prod-eu-west-1-tick",
    }
    (stage,) = account.client("apigateway").get_stages(restApiId=account.api_id)["item"]
    assert stage["methodSettings"]["*/*"]["throttlingRateLimit"] == 100
    (api,) = account.client("apigateway").get_rest_apis()["items"]
    assert api["endpointConfiguration"]["types"] == ["REGIONAL"]

    # Who has no token of ours gets nowhere.
    forged = token.make("of another secret, as long as it takes", "me", 600, time.time())
    expired = expired_token(account)
    for bearer in ("nonsense", forged, expired):
        assert account.call("GET", "/batches", bearer).status_code == 403
    assert requests.get(f"{account.url}/batches", timeout=30).status_code == 401
    assert requests.get(f"{account.url}/health", timeout=30).status_code == 200

    # A batch through API Gateway, SQS, a worker, the table and the queue's function.
    tasks = [f"sleep {n}" for n in range(50)]
    posted_at = time.time()
    answer = account.call("POST", "/batches", json={"tasks": tasks})
    assert answer.status_code == 202, answer.text
    batch_id = answer.json()["batch_id"]
    start_worker()
    eventually(
        lambda: account.call("GET", f"/batches/{batch_id}").json()["status"] == "DONE",
        90,
        "the batch is done",
    )
    results = account.call("GET", f"/batches/{batch_id}/results").json()["results"]
    assert [row["task"] for row in results] == tasks
    assert {row["status"] for row in results} == {"SUCCEEDED"}

    # Changed code by Chalice alone: the same API, the same tokens, partial answers still.
    source = account.project / "taskfleet" / "__init__.py"
    source.write_text(re.sub(r'__version__ = ".*"', '__version__ = "9.9.9"', source.read_text()))
    account.run("-c", CHALICE, "deploy", "--stage", STAGE)
    assert requests.get(f"{account.url}/health", timeout=30).json()["version"] == "9.9.9"
    assert account.call("GET", f"/batches/{batch_id}").json()["status"] == "DONE"
    assert account.response_types() == [["ReportBatchItemFailures"]]

    # The whole again, with a setting, from a checkout that knows nothing of the first time.
    shutil.rmtree(account.project / ".chalice" / "deployed")
    url, bearer = account.url, account.token
    account.up("--set", "TASKFLEET_LOG_LEVEL=debug")
    assert account.url == url
    assert account.call("GET", f"/batches/{batch_id}", bearer).json()["status"] == "DONE"
    assert account.response_types() == [["ReportBatchItemFailures"]]
    functions = account.client("lambda").list_functions()["Functions"]
    levels = {f["Environment"]["Variables"]["TASKFLEET_LOG_LEVEL"] for f in functions}
    assert levels == {"debug"}

    # The schedule has fired by itself, and logs are kept.
    eventually(lambda: account.logged(TICK, f'"{TICK}-event"'), 90, "the schedule's tick")
    # So has the API, since there was no machine. ministack shows a call's log when the call ends.
    nudged = eventually(lambda: account.logged(TICK, f'"{TICK}-nudge"'), 90, "the nudge's tick")
    looked_at = datetime.fromisoformat(json.loads(nudged)["at"]).timestamp()
    assert 0 < looked_at - posted_at < 10, "the tick looks within seconds of the POST"

    # What a person sees of the stage; a smoke test would delete it.
    machines = account.machines()  # the schedule may have launched some
    told = account.doctor()
    assert {told[name]["level"] for name in HEALTHY} == {"ok"}, told
    states = {state for name, state in account.machines().items() if name not in machines}
    assert states == {"terminated"}  # ministack knows no dry runs
    account.run("-m", "infra.smoke", "--stage", STAGE, exits_with=2)
    assert "smoke: stage prod exists" in account.said[-1]

    account.infra("destroy", "--stage", STAGE, "--yes")
    assert left(account.client) == before


def expired_token(account: Account) -> str:
    parameter = account.client("ssm").get_parameter(
        Name="/taskfleet/prod/token-secret", WithDecryption=True
    )["Parameter"]
    assert parameter["Type"] == "SecureString"
    return token.make(parameter["Value"], "me", 60, time.time() - 3600)
