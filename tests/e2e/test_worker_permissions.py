"""The worker's role against what a worker really calls: the real worker on a local cloud, with its
every request to AWS written down, through everything that can become of a task."""

from __future__ import annotations

import fnmatch
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from iam_kit import Request, denied

from ec2_worker import wiring
from ec2_worker.worker import Worker
from taskfleet.aws.session import Aws
from taskfleet.registry import Registry
from taskfleet.settings import load

pytestmark = pytest.mark.e2e

ACCOUNT = "000000000000"
KINDS = '''
"""Kinds that take a worker everywhere it can get."""
import os
from taskfleet.errors import TransientError
from taskfleet.registry import task_kind

@task_kind("big")
def big(params, context):
    return os.urandom(400_000).hex()  # over what an item takes

@task_kind("flaky")
def flaky(params, context):
    if context.attempt == 1:
        raise TransientError("not yet")

@task_kind("movie")
def movie(params, context):
    context.store.put(f"movies/{context.batch_id}/0.mp4", b"...", content_type="video/mp4")
'''
BY_OTHER_PROGRAMS = {
    ("Software", "s3:GetObject"),  # the user data, at boot
    ("Logs", "logs:CreateLogStream"),  # the CloudWatch agent
    ("Logs", "logs:PutLogEvents"),
}
BATCHED = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
}


class Recorder:
    """Every request as IAM sees it."""

    def __init__(self) -> None:
        self.requests: set[Request] = set()

    def watch(self, client: Any) -> None:
        client.meta.events.register("provide-client-params", self._on_call)

    def _on_call(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        service = model.service_model.service_name
        action = f"{service}:{model.name}"
        for resource in self._resources(service, params):
            if action == "dynamodb:TransactWriteItems":
                for item in params["TransactItems"]:
                    (operation,) = item
                    self.requests.add(Request(f"dynamodb:{operation}Item", resource))
            else:
                self.requests.add(Request(BATCHED.get(action, action), resource))

    def _resources(self, service: str, params: dict[str, Any]) -> list[str]:
        prefix = f"arn:aws:{service}:us-east-1:{ACCOUNT}:"
        if service == "sqs":
            return [prefix + params.get("QueueName", params.get("QueueUrl", "")).split("/")[-1]]
        if service == "s3":
            return [f"arn:aws:s3:::{params['Bucket']}/{params['Key']}"]
        assert service == "dynamodb", service
        if "TransactItems" in params:
            tables = [table for item in params["TransactItems"] for table in item.values()]
            return [f"{prefix}table/{table['TableName']}" for table in tables]
        if "RequestItems" in params:
            return [f"{prefix}table/{table}" for table in params["RequestItems"]]
        index = f"/index/{params['IndexName']}" if "IndexName" in params else ""
        return [f"{prefix}table/{params['TableName']}{index}"]


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    make = Aws._make

    def watched(self: Aws, service: str) -> Any:
        client = make(self, service)
        recorder.watch(client)
        return client

    monkeypatch.setattr(Aws, "_make", watched)
    return recorder


@pytest.fixture
def cloud(
    start_cloud: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Any]:
    (tmp_path / "everywhere.py").write_text(KINDS)
    monkeypatch.syspath_prepend(tmp_path)
    cloud = start_cloud(
        tmp_path / "cloud",
        "--workers",
        "0",
        "--no-provisioner",
        "--kinds",
        "everywhere",
        PYTHONPATH=str(tmp_path),
    )
    for name, value in cloud.environ.items():
        monkeypatch.setenv(name, value)
    yield cloud
    cloud.stop()


def run_worker(cloud: Any, done: Callable[[], bool]) -> None:
    conf = load({**cloud.environ, "TASKFLEET_LEASE_S": "3", "TASKFLEET_HEARTBEAT_S": "1"})
    registry = Registry.load(["everywhere"])
    worker = Worker(
        wiring.aws_ports(conf, 4),
        registry,
        conf,
        threads=4,
        worker_id=f"w-{time.monotonic_ns()}",
        rng=random.Random(0),
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while not done():
            assert time.monotonic() < deadline, "the batch was not done"
            time.sleep(0.3)
    finally:
        worker.drain()
        thread.join(30)


def test_the_role_is_what_a_worker_needs_and_no_more(cloud: Any, recorder: Recorder) -> None:
    tasks: list[Any] = ["sleep 5000", "sleep 0"]
    tasks += [{"kind": kind, "params": 1} for kind in ("big", "flaky", "movie")]
    batch = cloud.api("POST", "/batches", json={"tasks": tasks}).json()
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="no bundle")
    path = batch["url"].removeprefix(cloud.url)
    sent = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    run_worker(cloud, lambda: cloud.api("GET", path).json()["status"] == "DONE")
    # All comes once more: what is done is answered again, large results among it.
    for message in sent["Messages"]:
        sqs.send_message(QueueUrl=url, MessageBody=message["Body"])
    run_worker(cloud, lambda: empty(sqs, url))
    rows = cloud.api("GET", f"{path}/results").json()["results"]
    assert {row["status"] for row in rows} == {"SUCCEEDED"}

    role = cloud.client("iam").get_role_policy(RoleName="taskfleet-dev-worker", PolicyName="worker")
    policy = role["PolicyDocument"]
    asked = sorted(recorder.requests)
    assert len(asked) > 10
    assert denied(policy, asked, ACCOUNT) == []
    granted = {
        (statement["Sid"], action)
        for statement in policy["Statement"]
        for action in listed(statement["Action"])
    }
    used = {
        (statement["Sid"], request.action)
        for statement in policy["Statement"]
        for request in asked
        for resource in listed(statement["Resource"])
        if fnmatch.fnmatchcase(request.resource, resource)
        and request.action in listed(statement["Action"])
    }
    assert granted - used == BY_OTHER_PROGRAMS


def empty(sqs: Any, url: str) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return all(found[name] == "0" for name in names)


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]
