"""The worker's role against what a worker really calls: the real worker on a local cloud, with its
every request to AWS written down, through everything that can become of a task."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from ec2_worker import wiring
from ec2_worker.worker import Worker
from taskfleet.aws.session import Aws
from taskfleet.registry import Registry
from taskfleet.settings import load
from taskfleet.wire import calls
from tests.support.iam import Request, denied
from tests.support.recorder import LOCAL_ACCOUNT, Recorder, never_used
from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

KINDS = '''
"""Kinds that take a worker everywhere it can get."""
import base64
import os
from taskfleet.errors import NotFound, TransientError
from taskfleet.registry import task_kind

@task_kind("big")
def big(params, context):
    return os.urandom(400_000).hex()  # an object of its own

@task_kind("half_big", expected_s=lambda params: 1e-6)
def half_big(params, context):
    return base64.b64encode(os.urandom(22_000)).decode()  # forty are over what an item takes

@task_kind("flaky")
def flaky(params, context):
    print("what a task prints is stored")
    if context.attempt == 1:
        raise TransientError("not yet")

@task_kind("movie", deterministic=True)
def movie(params, context):
    key = f"movies/{context.batch_id}/0.mp4"
    context.store.put(key, b"...", content_type="video/mp4")
    context.store.url(key, expires_s=60)

@task_kind("of_a_file")
def of_a_file(params, context):
    try:
        return context.store.get(f"uploads/{context.client_id}/{params}").decode()
    except NotFound:
        return "gone"
'''
UPLOAD = "0123456789abcdefghjkmnpqrs"
BY_OTHER_PROGRAMS = {
    ("Software", "s3:GetObject"),  # the user data, at boot
    ("Logs", "logs:CreateLogStream"),  # the CloudWatch agent
    ("Logs", "logs:PutLogEvents"),
}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[Request]:
    """Every request of this process."""
    made: set[Request] = set()
    monkeypatch.setattr(Aws, "_make_client", Recorder(made.add).patched())
    return made


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
    conf = load({**cloud.environ, "TASKFLEET_LEASE_S": "3"})
    registry = Registry.load(["everywhere", "taskfleet.kinds.command", "taskfleet.kinds.python"])
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
        eventually(done, 90, "the worker is through")
    finally:
        worker.drain()
        thread.join(60)


def test_the_role_is_what_a_worker_needs_and_no_more(cloud: Any, made: set[Request]) -> None:
    tasks: list[Any] = ["sleep 5000", "sleep 0"]
    tasks += [{"kind": kind, "params": 1} for kind in ("big", "flaky")]
    tasks.append({"kind": "movie", "params": 1, "reuse": True})
    tasks += [{"kind": "half_big"}] * 40
    tasks += [{"kind": "of_a_file", "params": name} for name in ("there", "expired")]
    command = {"shell": "cp a b", "inputs": {"a": f"upload:{UPLOAD}"}, "outputs": ["b"]}
    tasks.append({"kind": "command", "params": command})
    function = calls.encode_function(lambda times: b"a result" * times)
    stored, part = calls.content_id(function), calls.encode_call([100_000], {})[0]
    tasks.insert(0, {"kind": "python", "params": calls.params("f", stored, part)})
    bucket = cloud.environ["TASKFLEET_BUCKET"]
    for name, body in (("there", b"a picture"), (UPLOAD, b"a picture"), (stored, function)):
        cloud.client("s3").put_object(Bucket=bucket, Key=f"uploads/local/{name}", Body=body)
    batch = cloud.api("POST", "/batches", json={"tasks": tasks}).json()
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="no bundle")
    of_2014 = {"clientID": "alice", "jobID": 1, "task": "sleep 0"}
    sqs.send_message(QueueUrl=url, MessageBody=json.dumps(of_2014))
    first = {"tasks": ["sleep 4000"], "priority": "high"}  # longer than a lease
    high = cloud.api("POST", "/batches", json=first).json()
    path, high_path = (made["url"].removeprefix(cloud.url) for made in (batch, high))
    sent = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
    run_worker(
        cloud,
        lambda: all(cloud.api("GET", one).json()["status"] == "DONE" for one in (path, high_path)),
    )
    # All comes once more: what is done is answered again, large results among it.
    for message in sent["Messages"]:
        sqs.send_message(QueueUrl=url, MessageBody=message["Body"])
    run_worker(cloud, lambda: empty(sqs, url))
    rows = cloud.api("GET", f"{path}/results").json()["results"]
    assert {row["status"] for row in rows} == {"SUCCEEDED"}
    assert [row["result"] for row in rows[-3:-1]] == ["a picture", "gone"]
    assert requests.get(rows[-1]["result"]["outputs"][0]["url"], timeout=30).text == "a picture"
    returned = calls.decode_result(
        rows[0]["result"], lambda result: requests.get(result["url"], timeout=30).content
    )
    assert returned == b"a result" * 100_000

    role = cloud.client("iam").get_role_policy(
        RoleName="taskfleet-dev-us-east-1-worker", PolicyName="worker"
    )
    policy = role["PolicyDocument"]
    assert len(made) > 10
    assert denied(policy, sorted(made), LOCAL_ACCOUNT) == []
    assert never_used(policy, made) == BY_OTHER_PROGRAMS


def empty(sqs: Any, url: str) -> bool:
    names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
    found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return all(found[name] == "0" for name in names)
