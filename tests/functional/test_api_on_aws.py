"""The API on its AWS adapters, with moto as AWS: it works, and no function makes a call that its
policy file does not allow. `tests/e2e/test_function_permissions.py` checks the resources, and that
no policy allows more than is used."""

import json
import os
import random
from pathlib import Path

import boto3
import pytest
import requests
from chalice.test import Client

from chalice_app import events, wiring
from chalice_app.application import create_app
from taskfleet.aws.session import Aws
from taskfleet.bundle import Response
from taskfleet.clock import SystemClock
from taskfleet.ports import OutgoingMessage
from taskfleet.provisioner.records import WorkerRecord
from taskfleet.settings import load
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire import token
from taskfleet.wire.queues import (
    decode_bundle,
    encode_response,
)
from tests.support.moto_aws import create_stack, moto_account

ROOT = Path(__file__).resolve().parents[2]
SECRET = "a secret of more than thirty-two characters"
BUCKET = "taskfleet-test"
# The permission that an operation needs, where it has another name.
PERMISSIONS = {
    "sqs:SendMessageBatch": "sqs:SendMessage",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "lambda:Invoke": "lambda:InvokeFunction",
    "s3:HeadObject": "s3:GetObject",
}


class OnAws:
    """Every function of the app with adapters of its own, as in a process of its own on Lambda."""

    def __init__(self, monkeypatch):
        self.calls = {}
        self._made = []
        test = self

        class Watched(Aws):
            def __init__(self, *args, **options):
                super().__init__(*args, **options)
                test._made.append(self)

        monkeypatch.setattr(wiring, "Aws", Watched)
        monkeypatch.setattr(wiring, "set_up", lambda level: None)
        monkeypatch.setattr(events, "TICK_S", 0.0)  # one round is enough
        self.worker = Aws(load(), SystemClock())

    def function(self, name):
        """Returns a test client for an app that stands for the function `name`."""
        services = wiring.connect()
        self.calls[name] = self._made[-1].meter
        return Client(create_app(lambda: services))

    def permissions(self, name):
        operations = {f"{service}:{call}" for service, call in self.calls[name].counts()}
        return {PERMISSIONS.get(operation, operation) for operation in operations}

    def work(self, result):
        """Execute all waiting bundles as a worker does. Returns the bodies of the responses."""
        queue, monitor = self.worker.task_queue(), self.worker.monitor()
        bodies = []
        for message in queue.receive(10, wait_s=0, visibility_s=30):
            bundle = decode_bundle(message.body)
            claim = monitor.claim(bundle.job_id, owner="w", lease_s=30)
            results = [TaskResult(t.index, TaskStatus.SUCCEEDED, result) for t in bundle.tasks]
            monitor.commit(bundle.job_id, claim.lease, tasks=bundle.tasks, results=results)
            response = Response(bundle.job_id, bundle.client_id, bundle.batch_id, results)
            bodies.append(encode_response(response))
            queue.delete([message])
        return bodies


@pytest.fixture
def aws(monkeypatch):
    for name in [name for name in os.environ if name.startswith("TASKFLEET_")]:
        monkeypatch.delenv(name)
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    stage = config["stages"]["dev"]
    environ = {
        **config["environment_variables"],
        **stage["environment_variables"],
        "TASKFLEET_BUCKET": BUCKET,
        "TASKFLEET_KINDS": "",
    }
    with moto_account() as patch:
        for name, value in environ.items():
            if value:
                patch.setenv(name, value)
        create_stack("dev", BUCKET)
        boto3.client("ssm").put_parameter(
            Name=environ["TASKFLEET_TOKEN_SECRET_SSM"], Value=SECRET, Type="SecureString"
        )
        yield OnAws(patch)


def allowed(function):
    config = json.loads((ROOT / ".chalice" / "config.json").read_text())
    name = config["stages"]["dev"]["lambda_functions"][function]["iam_policy_file"]
    policy = json.loads((ROOT / ".chalice" / name).read_text())
    return {action for statement in policy["Statement"] for action in statement["Action"]}


def test_a_batch_goes_all_the_way_within_each_functions_policy(aws):
    # The authorizer that comes with the API is a function of its own on AWS.
    authorizer = aws.function("authorize").http._app.handler_map["authorize"]
    api = aws.function("api_handler")
    bearer = "Bearer " + token.make(SECRET, "alice", 600, SystemClock().now())
    event = {"type": "TOKEN", "authorizationToken": bearer, "methodArn": "arn:aws:x:y:z:a/b/c"}
    assert authorizer(event, None)["principalId"] == "alice"

    def call(method, path, body=None):
        gateway = api.http._local_gateway
        event = gateway._generate_lambda_event(
            method, path, {}, json.dumps(body).encode() if body else None
        )
        event["requestContext"]["authorizer"] = {"principalId": "alice"}
        answer = api.http._app(event, None)
        return answer["statusCode"], json.loads(answer["body"])

    tasks = ["sleep 1500"] * 3
    status, batch = call("POST", "/batches", {"tasks": tasks, "idempotency_key": "k"})
    assert (status, batch["total"]) == (202, 3)
    assert call("POST", "/batches", {"tasks": tasks, "idempotency_key": "k"}) == (202, batch)
    path = batch["url"]
    status, form = call("POST", "/uploads")
    assert status == 201
    file = {"file": b"sleep 1500\n" * 3}
    assert requests.post(form["url"], data=form["fields"], files=file, timeout=5).ok
    status, upload = call("POST", "/batches", {"upload_id": form["upload_id"]})
    assert (status, upload["total"]) == (202, 0)
    queue = aws.worker.upload_queue()
    reader = aws.function("expand_upload")
    (message,) = queue.receive(1, wait_s=0, visibility_s=30)
    no_time = type("Context", (), {"get_remaining_time_in_millis": lambda self: 0})()
    reader.lambda_._app.handler_map["expand_upload"](
        {"Records": [{"messageId": "m", "receiptHandle": "r", "body": message.body}]}, no_time
    )
    _, read = call("GET", upload["url"])
    assert (read["status"], read["total"]) == ("QUEUED", 3)
    assert call("DELETE", upload["url"])[1]["status"] == "CANCELLED"
    assert call("POST", "/batches", {"upload_id": "0" * 26})[0] == 404

    now = SystemClock().now()
    aws.worker.fleet_records().report(WorkerRecord("w", None, 16, [], now, now, leaving=True))
    depth = aws.function("tick")
    tick = depth.events.generate_cw_event("aws.events", "Scheduled Event", {}, [])
    depth.lambda_.invoke("tick", tick)

    bodies = aws.work(random.Random(0).randbytes(400_000).hex())  # over what an item takes
    collector = aws.function("collect_responses")
    records = [
        {"messageId": str(n), "receiptHandle": "r", "body": body} for n, body in enumerate(bodies)
    ]
    for _ in range(2):
        answer = collector.lambda_.invoke("collect_responses", {"Records": records})
        assert answer.payload == {"batchItemFailures": []}

    status, done = call("GET", f"{path}?wait=5")
    assert (status, done["status"], done["succeeded"]) == (200, "DONE", 3)
    _, page = call("GET", f"{path}/results")
    _, stream = call("GET", f"{path}/stream")
    assert [row[0] for row in stream["rows"]] == [0, 1, 2]
    assert (stream["kinds"], stream["cursor"]) == (["sleep"], None)
    assert call("GET", f"{path}/results?status=FAILED")[1] == {"results": [], "cursor": None}
    status, again = call("POST", f"{path}/retry", {"status": ["FAILED"]})
    assert (status, again["Code"]) == (422, "UnprocessableEntityError")
    _, runs = call("POST", "/batches", {"tasks": ["sleep 1"]})
    assert call("POST", f"{runs['url']}/retry", {})[0] == 409
    _, found = call("GET", "/batches?kind=sleep&status=DONE")
    assert [batch["batch_id"] for batch in found["batches"]] == [done["batch_id"]]
    assert len(call("GET", "/fleet/history")[1]["points"]) == 1
    aws.worker.task_queue().dead_letters().send([OutgoingMessage("no bundle")])
    assert len(call("GET", "/dead-letters")[1]["letters"]) == 1
    assert call("POST", "/dead-letters/redrive", {"queue": "tasks"}) == (202, {"moved": 1})
    rows = page["results"]
    while page["cursor"]:
        _, page = call("GET", f"{path}/results?cursor={page['cursor']}")
        rows += page["results"]
    assert [row["index"] for row in rows] == [0, 1, 2]
    assert len(rows[0]["result"]) == 800_000
    _, listed = call("GET", "/batches?limit=1")
    assert listed["cursor"]
    assert len(call("GET", f"/batches?limit=1&cursor={listed['cursor']}")[1]["batches"]) == 1
    assert call("GET", "/batches?cursor=nonsense")[0] == 422

    for function in ("api_handler", "authorize", "collect_responses", "expand_upload", "tick"):
        used = aws.permissions(function)
        assert used, function
        assert used <= allowed(function), function
