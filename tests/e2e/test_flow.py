"""The whole way, over real HTTP and through real processes: in by the API, out by the results."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.waiting import eventually

pytestmark = pytest.mark.e2e

TEXT = {"Content-Type": "text/plain"}


def submit(cloud: Any, tasks: list[Any], **options: Any) -> str:
    answer = cloud.api("POST", "/batches", json={"tasks": tasks, **options})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


def finished(cloud: Any, batch_id: str) -> dict[str, Any]:
    def batch() -> dict[str, Any] | None:
        found: dict[str, Any] = cloud.api("GET", f"/batches/{batch_id}?wait=5").json()
        return found if found["finished_at"] is not None else None

    return eventually(batch, 90, "the batch is finished") or {}


def results(cloud: Any, batch_id: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = cloud.api("GET", f"/batches/{batch_id}/results?limit=5000&cursor={cursor}").json()
        rows += page["results"]
        cursor = page["cursor"]
    return rows


def depth(cloud: Any, name: str) -> int:
    sqs = cloud.client("sqs")
    attributes = sqs.get_queue_attributes(
        QueueUrl=sqs.get_queue_url(QueueName=name)["QueueUrl"], AttributeNames=["All"]
    )["Attributes"]
    return int(attributes["ApproximateNumberOfMessages"]) + int(
        attributes["ApproximateNumberOfMessagesNotVisible"]
    )


def put(cloud: Any, body: str) -> None:
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Task_to_process")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody=body)


def test_a_batch_of_text_comes_back_as_results(cloud):
    text = "# a comment\nsleep 20\n\nsleep 10\n"
    answer = cloud.api("POST", "/batches?name=text", data=text, headers=TEXT)
    assert answer.status_code == 202
    batch = finished(cloud, answer.json()["batch_id"])
    assert (batch["status"], batch["name"]) == ("DONE", "text")
    rows = results(cloud, batch["batch_id"])
    assert [(row["index"], row["task"], row["status"]) for row in rows] == [
        (0, "sleep 20", "SUCCEEDED"),
        (1, "sleep 10", "SUCCEEDED"),
    ]
    assert rows[0]["duration_s"] >= 0.02
    assert rows[0]["attempts"] == 1


def test_ten_thousand_tasks_each_have_one_result(cloud):
    batch_id = submit(cloud, ["sleep 0"] * 10_000)
    batch = finished(cloud, batch_id)
    assert batch["succeeded"] == 10_000
    assert [row["index"] for row in results(cloud, batch_id)] == list(range(10_000))


def test_one_idempotency_key_is_one_batch_and_runs_once(cloud):
    tasks = ["sleep 1"] * 50
    first = submit(cloud, tasks, idempotency_key="once")
    assert submit(cloud, tasks, idempotency_key="once") == first
    assert finished(cloud, first)["total"] == 50
    assert submit(cloud, tasks, idempotency_key="once") == first
    rows = results(cloud, first)
    assert Counter(row["index"] for row in rows) == Counter(range(50))
    assert {row["attempts"] for row in rows} == {1}
    other = cloud.api("POST", "/batches", json={"tasks": ["sleep 2"], "idempotency_key": "once"})
    assert other.status_code == 409


def test_a_message_of_2014_is_answered_on_processed_task(cloud):
    put(cloud, json.dumps({"clientID": 56783, "jobID": 152, "task": "sleep 80"}))
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Processed_Task")["QueueUrl"]

    def answer() -> Any:
        found = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=5, WaitTimeSeconds=2
        )
        for message in found.get("Messages", []):
            body = json.loads(message["Body"])
            if body.get("jobID") == 152:
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                return body
        return None

    assert eventually(answer, what="the message is answered") == {
        "clientID": 56783,
        "jobID": 152,
        "status": "SUCCEEDED",
        "result": None,
    }


def test_what_is_wrong_on_the_queue_ends_where_it_belongs_and_blocks_nothing(cloud):
    put(cloud, "{nonsense")
    unknown = json.dumps({"clientID": "x", "jobID": 0, "task": "no_such_kind"})
    put(cloud, unknown)
    forged = json.dumps(
        {
            "v": 1,
            "job_id": "0" * 26 + ":0",
            "client_id": "x",
            "batch_id": "0" * 26,
            "tasks": [[0, "sleep", 1]],
        }
    )
    put(cloud, forged)
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName="Task_to_process_dead")["QueueUrl"]
    reasons: dict[str, str] = {}

    def all_three() -> bool:
        found = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        )
        for message in found.get("Messages", []):
            reasons[message["Body"]] = message["MessageAttributes"]["reason"]["StringValue"]
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return reasons.keys() >= {"{nonsense", unknown, forged}  # among what others left

    eventually(all_three, what=lambda: f"all three are dead letters: {reasons}")
    assert reasons["{nonsense"].startswith("not a bundle")
    assert "unknown kind 'no_such_kind'" in reasons[unknown]
    assert "there is no batch" in reasons[forged]
    item = cloud.client("dynamodb").get_item(
        TableName="Task_Monitor", Key={"Job_ID": {"S": "x;0"}}
    )["Item"]
    assert item["status"]["S"] == "DONE"
    assert finished(cloud, submit(cloud, ["sleep 0"]))["succeeded"] == 1


def test_cancelling_keeps_what_ran_and_ends_the_rest(cloud):
    batch_id = submit(cloud, ["sleep 1500"] * 64)
    eventually(
        lambda: cloud.api("GET", f"/batches/{batch_id}").json()["status"] == "RUNNING",
        what="the batch runs",
    )
    assert cloud.api("DELETE", f"/batches/{batch_id}").status_code == 202
    batch = finished(cloud, batch_id)
    assert batch["status"] == "CANCELLED"
    assert batch["cancelled"] > 0
    assert batch["succeeded"] + batch["cancelled"] == 64
    statuses = Counter(row["status"] for row in results(cloud, batch_id))
    assert statuses["CANCELLED"] == batch["cancelled"]


def workers(cloud: Any) -> list[int]:
    return [pid for pid, command in cloud.processes().items() if "ec2_worker/run.py" in command]


def test_killing_a_worker_loses_nothing(start_cloud, tmp_path: Path):
    cloud = start_cloud(
        tmp_path,
        "--workers",
        "2",
        TASKFLEET_LEASE_S="5",
    )
    batch_id = submit(cloud, ["sleep 500"] * 200)
    eventually(
        lambda: cloud.api("GET", f"/batches/{batch_id}").json()["succeeded"] > 20,
        what="more than 20 tasks are done",
    )
    victim = workers(cloud)[0]
    os.kill(victim, signal.SIGKILL)
    batch = finished(cloud, batch_id)
    assert (batch["succeeded"], batch["failed"]) == (200, 0)
    assert Counter(row["index"] for row in results(cloud, batch_id)) == Counter(range(200))
    eventually(
        lambda: depth(cloud, "Task_to_process") == depth(cloud, "Processed_Task") == 0,
        what="the queues are empty",
    )
    assert depth(cloud, "Task_to_process_dead") == 0
    eventually(
        lambda: len(workers(cloud)) == 2 and victim not in workers(cloud),
        what="another worker took the place of the killed one",
    )


def test_a_batch_has_the_trace_of_its_post(cloud: Any) -> None:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    answer = cloud.api("POST", "/batches", json={"tasks": ["sleep 0"]}, headers=headers)
    assert answer.status_code == 202, answer.text
    batch = finished(cloud, answer.json()["batch_id"])
    assert batch["trace_id"] == trace_id
