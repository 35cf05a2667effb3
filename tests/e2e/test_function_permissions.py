"""The functions' policies against what the functions really call: each of them in a process of its
own, as on Lambda, on a local cloud, with its every request to AWS written down. Each policy must
allow them all, and grant nothing on anything that was not asked for, but for what is listed here
with its reason."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.config import Config

from infra.stage import Stage
from localcloud.cloud import IMAGE
from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.schedules import DynamoScheduleRecords
from taskfleet.aws.ec2 import STAGE_TAG
from taskfleet.bundle import Response, job_id
from taskfleet.clock import SystemClock
from taskfleet.schedule import ScheduleRecord
from taskfleet.settings import Settings
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire import calls
from taskfleet.wire.queues import (
    encode_response,
)
from tests.support.iam import ROOT, Request, denied, function_policy
from tests.support.ports import free_port
from tests.support.recorder import LOCAL_ACCOUNT, REGION, STAGE, never_used
from tests.support.waiting import eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

ONE_FUNCTION = str(Path(__file__).with_name("one_function.py"))
SECRET_NAME = "/taskfleet/dev/token-secret"
KINDS = '''
"""A kind whose results do not fit an item, and one whose results are shown with a signed URL."""
import os
from taskfleet.registry import task_kind

@task_kind("big")
def big(params, context):
    return os.urandom(400_000).hex()

@task_kind("movie", present=lambda result, store: store.url(result, expires_s=60))
def movie(params, context):
    context.store.put(key := f"movies/{context.batch_id}/0.mp4", b"...", content_type="video/mp4")
    return key
'''
LAMBDA = {
    ("Logs", f"logs:{call}") for call in ("CreateLogGroup", "CreateLogStream", "PutLogEvents")
}
"""Lambda writes the log itself."""


def poller(sid: str) -> set[tuple[str, str]]:
    """The event source reads the queue with the function's role."""
    return {
        (sid, f"sqs:{call}") for call in ("ReceiveMessage", "DeleteMessage", "GetQueueAttributes")
    }


TOPIC = {("EventsToATopic", "sns:Publish")}
"""The local cloud names no topic: `tests/functional` has one."""
NO_CALL_OF_ITS_OWN = {
    # A part of an open batch that is kept is read only by who finds it left behind.
    "api": LAMBDA | TOPIC | {("KeptParts", "s3:GetObject")},
    "authorize": LAMBDA,
    "collect": LAMBDA | TOPIC | poller("Responses"),
    # A kept part is read after an interruption only, and pages of a file of more than 250 bundles
    # when it takes several runs: `tests/contract` has that.
    "expand": LAMBDA
    | TOPIC
    | poller("Uploads")
    | {("Parts", "s3:GetObject"), ("Pages", "dynamodb:BatchGetItem")},
    # EC2 asks for these on behalf of CreateFleet: `tests/iam` has what each may be asked for.
    "tick": LAMBDA
    | {
        ("LaunchTaggedMachines", "ec2:CreateFleet"),
        ("LaunchTaggedMachinesOfTheseTypes", "ec2:RunInstances"),
        ("LaunchFromTheTemplate", "ec2:RunInstances"),
        ("AskAFleetWith", "ec2:CreateFleet"),
        ("LaunchWithTheTemplates", "ec2:RunInstances"),
        ("LaunchInASubnet", "ec2:RunInstances"),
        ("LaunchOnSpot", "ec2:RunInstances"),
        ("TagAtLaunch", "ec2:CreateTags"),
        ("GiveMachinesTheirRole", "iam:PassRole"),
    }
    # More machines than tasks, which here never work, and a schedule of a client that has too many
    # tasks, or a large batch: `tests/functional` and `tests/contract` have these.
    | {
        ("AskToLeave", "dynamodb:UpdateItem"),
        ("BatchesOfALimitedClient", "dynamodb:GetItem"),
        ("PagesOfALimitedClient", "dynamodb:BatchGetItem"),
    },
}
DEAD_LETTERS = {
    "tasks": "Task_to_process_dead",
    "responses": "Processed_Task_dead",
    "uploads": "Upload_to_expand_dead",
}
POLICY_OF = {
    "api_handler": "api",
    "authorize": "authorize",
    "collect_responses": "collect",
    "expand_upload": "expand",
    "tick": "tick",
}


class Functions:
    """The functions of a local cloud whose own do not run."""

    def __init__(self, cloud: Any, folder: Path) -> None:
        self.cloud = cloud
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self._invoke_port = free_port()
        kept = dict(cloud.child_environ)
        kept.pop("TASKFLEET_TOKEN_SECRET")  # on AWS it is a parameter
        self.environ = {
            **kept,
            "PYTHONPATH": os.pathsep.join(map(str, (ROOT, folder))),
            "AWS_ENDPOINT_URL_LAMBDA": f"http://127.0.0.1:{self._invoke_port}",
            "TASKFLEET_TOKEN_SECRET_SSM": SECRET_NAME,
            "TASKFLEET_NUDGE": "1",
            "TASKFLEET_LOOK_S": "1",
        }

    def start(
        self, function: str, *options: str, ready: str = "pump_started", **environ: str
    ) -> tuple[subprocess.Popen[bytes], str]:
        """Its process, and the line that said that it serves."""
        log = self._folder / f"{function}-{len(self._processes)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, ONE_FUNCTION, function, self._file(function), *options],
                env={**self.environ, **environ},
                stdout=out,
                stderr=out,
            )
        self._processes.append(process)

        def line() -> str:
            assert process.poll() is None, log.read_text()
            return next((line for line in log.read_text().splitlines() if ready in line), "")

        return process, eventually(line, 60, f"{function} serves")

    def start_tick(self, **environ: str) -> subprocess.Popen[bytes]:
        """It answers the nudges, too."""
        return self.start("tick", "--invoke-port", str(self._invoke_port), **environ)[0]

    def authorize(self, token: str) -> str:
        """Whom the authorizer takes the bearer for."""
        done = subprocess.run(
            [sys.executable, ONE_FUNCTION, "authorize", self._file("authorize")],
            input=token,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.splitlines()[-1]

    def calls(self, function: str) -> set[Request]:
        found = set()
        for line in Path(self._file(function)).read_text().splitlines():
            action, resource, context = json.loads(line)
            found.add(Request(action, resource, tuple((key, value) for key, value in context)))
        return found

    def called(self, function: str, action: str) -> bool:
        return any(request.action == action for request in self.calls(function))

    def end(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(60)

    def _file(self, function: str) -> str:
        return str(self._folder / f"{function}.calls")


@pytest.fixture
def functions(start_cloud: Callable[..., Any], tmp_path: Path) -> Iterator[Functions]:
    (tmp_path / "shown_kinds.py").write_text(KINDS)
    options = ("--workers", "1", "--no-provisioner", "--kinds", "shown_kinds")
    cloud = start_cloud(tmp_path / "cloud", *options, PYTHONPATH=str(tmp_path))
    (pump,) = (pid for pid, line in cloud.processes().items() if "localcloud.pump" in line)
    os.kill(pump, signal.SIGSTOP)
    functions = Functions(cloud, tmp_path)
    try:
        time.sleep(1.5)  # the long polls that it left behind are over
        yield functions
    finally:
        functions.end()
        os.kill(pump, signal.SIGCONT)
        cloud.stop()


def test_each_policy_is_what_its_function_calls_and_no_more(functions: Functions) -> None:
    cloud = functions.cloud
    secret = cloud.environ["TASKFLEET_TOKEN_SECRET"]
    cloud.client("ssm").put_parameter(Name=SECRET_NAME, Value=secret, Type="SecureString")
    no_machines = functions.start_tick(TASKFLEET_MAX_CAPACITY="0")
    functions.start("collect_responses")
    expander, _ = functions.start("expand_upload")
    # Its server plays the authorizer, too, which shall be alone here.
    alone = {"TASKFLEET_TOKEN_SECRET": secret, "TASKFLEET_TOKEN_SECRET_SSM": ""}
    _, served = functions.start("api_handler", "--port", "0", ready="serving http", **alone)
    url = served.split()[-1]

    def call(method: str, path: str, body: Any = None) -> Any:
        headers = {"Authorization": f"Bearer {cloud.token}"}
        answer = requests.request(method, url + path, headers=headers, json=body, timeout=30)
        assert answer.status_code < 500, answer.text
        return answer.json()

    def done(batch: dict[str, Any]) -> Any:
        path = f"/batches/{batch['batch_id']}?wait=5"
        return (found := call("GET", path))["status"] in ("DONE", "CANCELLED") and found

    assert functions.authorize(cloud.token) == "local"

    # A batch, sent twice, read in every way.
    tasks = ["sleep 1", {"kind": "big", "params": 1}, {"kind": "movie", "params": 1}]
    batch = call("POST", "/batches", {"tasks": tasks, "idempotency_key": "k"})
    again = call("POST", "/batches", {"tasks": tasks, "idempotency_key": "k"})
    assert again["batch_id"] == batch["batch_id"]
    assert eventually(lambda: done(batch), 60, "a batch")["succeeded"] == 3
    shown = call("GET", f"/batches/{batch['batch_id']}/results")["results"]
    assert "X-Amz-Signature" in shown[2]["result"]
    command = {"kind": "command", "params": {"shell": "echo > a", "outputs": ["a"]}}
    commanded = call("POST", "/batches", {"tasks": [command], "priority": "high"})
    eventually(lambda: done(commanded), 60, "a command")
    shown = call("GET", f"/batches/{commanded['batch_id']}/results")["results"]
    assert "X-Amz-Signature" in shown[0]["result"]["outputs"][0]["url"]
    function = calls.encode_function(lambda times: b"a result" * times)
    stored = calls.content_id(function)
    content = {"sha256": stored, "bytes": len(function)}
    assert call("POST", "/uploads", content)["upload_id"] == stored
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    cloud.client("s3").put_object(Bucket=bucket, Key=f"uploads/local/{stored}", Body=function)
    assert call("POST", "/uploads", content)["stored"]
    part = calls.params("f", stored, calls.encode_call([100_000], {})[0])
    called = call("POST", "/batches", {"tasks": [{"kind": "python", "params": part}]})
    eventually(lambda: done(called), 60, "a function")
    assert call("GET", f"/batches/{called['batch_id']}/audit")["balanced"]
    shown = call("GET", f"/batches/{called['batch_id']}/results?order=completion")["results"]
    assert "X-Amz-Signature" in shown[0]["result"]["url"]
    # A batch that grows by more than fits its record.
    grown = call("POST", "/batches", {"open": True})
    naps = [f"sleep 0.{number:06d}" for number in range(5_000)]
    call("POST", f"/batches/{grown['batch_id']}/tasks", {"first": 0, "tasks": naps})
    call("POST", f"/batches/{grown['batch_id']}/close")
    eventually(lambda: done(grown), 60, "a batch that grew")
    # One that ends when it is closed, and so with its request.
    empty = call("POST", "/batches", {"open": True})
    assert call("POST", f"/batches/{empty['batch_id']}/close")["status"] == "DONE"
    call("GET", "/kinds")
    printed(cloud, batch["batch_id"], "a line")
    assert call("GET", f"/batches/{batch['batch_id']}/tasks/0")["log_tail"] == "a line"
    assert len(call("GET", "/batches?limit=1")["batches"]) == 1
    call("GET", "/fleet")
    call("GET", "/fleet/history")
    for queue, name in DEAD_LETTERS.items():
        left_dead(cloud, name)
        shown = call("GET", f"/dead-letters?queue={queue}")["letters"]
        assert [letter["reason"] for letter in shown] == ["received too often"]
        assert call("POST", "/dead-letters/redrive", {"queue": queue}) == {"moved": 1}
    for answered in ("0" * 26, batch["batch_id"]):  # of no batch, and once more
        answered_again(cloud, answered)

    # An upload that takes the reader several runs, one whose file is gone, one that never was.
    file = b"sleep 0\n" * 5_998 + b'{"kind": "movie", "params": 1}\n' * 2
    upload = uploaded(functions, call, file)
    urgent = uploaded(functions, call, b"sleep 0\n", priority="high")
    assert eventually(lambda: done(urgent), 90, "an upload of high priority")["succeeded"] == 1
    assert eventually(lambda: done(upload), 90, "an upload")["succeeded"] == 6_000
    expander.send_signal(signal.SIGSTOP)
    try:
        time.sleep(1.5)  # its long poll is over
        lost = uploaded(functions, call, b"sleep 1\n")
        (key,) = objects(cloud, f"uploads/local/{lost['upload_id']}")
        cloud.client("s3").delete_object(Bucket=cloud.environ["TASKFLEET_BUCKET"], Key=key)
    finally:
        expander.send_signal(signal.SIGCONT)
    assert eventually(lambda: done(lost), 30, "a file that is gone")["status"] == "CANCELLED"
    assert call("POST", "/batches", {"upload_id": "0" * 26})["Code"] == "NotFoundError"

    # A schedule, and one whose time has come when the next `tick` starts.
    no_machines.terminate()
    no_machines.wait(60)
    schedule = {"name": "hourly", "every": "1h", "tasks": ["sleep 1"]}
    assert call("POST", "/schedules", schedule)["total"] == 1
    assert call("DELETE", "/schedules/hourly")["name"] == "hourly"
    come = ScheduleRecord("local", "now", 1.0, float(int(time.time())), ["sleep 1"], every_s=3_600)
    table = Settings().monitor_table
    clock = SystemClock()
    backoff = Backoff(clock, random.Random(0))
    DynamoScheduleRecords(cloud.client("dynamodb"), table, clock=clock, backoff=backoff).add(come)

    # A machine by the template, which never beats and has its strikes.
    ec2 = made_template(cloud)
    limits = {"TASKFLEET_MAX_CAPACITY": "3", "TASKFLEET_CLIENT_MAX_WAITING": "100000"}
    functions.start_tick(TASKFLEET_BOOT_S="0.3", **limits)
    (listed,) = call("GET", "/schedules")["schedules"]
    assert listed["name"] == "now"
    eventually(lambda: call("GET", "/schedules")["schedules"][0]["last_batch_id"], 30, "its batch")
    waiting = call("POST", "/batches", {"tasks": ["sleep 8000"] * 400})
    eventually(lambda: functions.called("tick", "ec2:TerminateInstances"), 60, "two strikes")
    answered_again(cloud, waiting["batch_id"], 300)  # of a bundle on a page of its own
    path = f"/batches/{waiting['batch_id']}"
    eventually(lambda: call("GET", path)["succeeded"] == 3, 20, "an answer on a page")
    call("DELETE", f"/batches/{waiting['batch_id']}")
    machines = [i for r in ec2.describe_instances()["Reservations"] for i in r["Instances"]]
    assert machines
    for machine in machines:
        assert {"Key": STAGE_TAG, "Value": STAGE} in machine["Tags"]

    stage = Stage(STAGE, REGION, LOCAL_ACCOUNT, cloud.environ["TASKFLEET_BUCKET"])
    made = {name: functions.calls(function) for function, name in POLICY_OF.items()}
    policies = {name: function_policy(name, stage) for name in made}
    refused = {name: denied(policies[name], sorted(made[name]), LOCAL_ACCOUNT) for name in made}
    assert not any(refused.values()), refused
    unused = {name: never_used(policies[name], made[name]) for name in made}
    assert unused == NO_CALL_OF_ITS_OWN


def answered_again(cloud: Any, batch_id: str, number: int = 0) -> None:
    """What a worker publishes that died before it had deleted its message, or what one invents."""
    results = [TaskResult(index, TaskStatus.SUCCEEDED) for index in range(3)]
    response = Response(job_id(batch_id, number), "local", batch_id, results)
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Processed_Task")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=encode_response(response))


def left_dead(cloud: Any, name: str) -> None:
    """Leave a dead letter that names no client."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="no message of ours")


def printed(cloud: Any, batch_id: str, text: str) -> None:
    """Store an output of the batch's first task as a worker does, and note it in the task's row."""
    key = f"logs/{batch_id}/0/worker"
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=text.encode())
    table = {"TableName": "Task_Monitor", "Key": {"Job_ID": {"S": job_id(batch_id, 0)}}}
    item = cloud.client("dynamodb").get_item(**table)["Item"]
    tasks, rows = json.loads(zlib.decompress(item["packed"]["B"]))
    (row,) = [row for row in rows if row[0] == 0]
    row[TaskResult.__struct_fields__.index("log")] = [key, 0, len(text), 0]
    cloud.client("dynamodb").update_item(
        **table,
        UpdateExpression="SET packed = :packed",
        ExpressionAttributeValues={
            ":packed": {"B": zlib.compress(json.dumps([tasks, rows]).encode())}
        },
    )


def uploaded(
    functions: Functions, call: Callable[..., Any], content: bytes, **options: str
) -> dict[str, Any]:
    """The batch of a new upload, with the upload's id."""
    form = call("POST", "/uploads")
    answer = requests.post(form["url"], data=form["fields"], files={"file": content}, timeout=30)
    assert answer.ok, answer.text
    batch = call("POST", "/batches", {"upload_id": form["upload_id"], **options})
    return {**batch, "upload_id": form["upload_id"]}


def objects(cloud: Any, prefix: str) -> list[str]:
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    found = cloud.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])
    return [entry["Key"] for entry in found]


def made_template(cloud: Any) -> Any:
    """EC2 with the launch template, which the local cloud keeps with the rest of its stack."""
    ec2 = boto3.client(
        "ec2",
        endpoint_url=cloud.environ["AWS_ENDPOINT_URL_EC2"],
        region_name=REGION,
        aws_access_key_id=cloud.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=cloud.environ["AWS_SECRET_ACCESS_KEY"],
        config=Config(proxies={}),
    )
    ec2.create_launch_template(
        LaunchTemplateName="taskfleet-dev",
        LaunchTemplateData={
            "ImageId": IMAGE,
            "InstanceType": "c7g.large",
        },
    )
    return ec2
