"""The rows of the table of faulty calls: a process, an operation and what it is about, such as the
worker's UpdateItem that claims a bundle.

No rows are what Lambda's poller asks before its first message, what a client sends to S3 by a form,
and what botocore asks of a bucket after a fault.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.support.hop import Call


class Row(NamedTuple):
    """A process, an operation of a service, and what the operation is about."""

    sender: str
    service: str
    operation: str
    about: str

    def __str__(self) -> str:
        return f"{self.sender}: {self.operation} {self.about}".strip()


def row_of(call: Call) -> Row | None:
    """Returns the row of a request, None if it is no call of Taskfleet's."""
    given = call.given
    if call.service == "s3" and call.operation.endswith("Bucket"):
        return None
    about = ""
    if call.service == "dynamodb":
        about = _of_item(call.operation, given)
    elif call.service == "sqs":
        about = str(given.get("QueueUrl", "")).rpartition("/")[2]
        queue = about or str(given.get("QueueName"))
        of_poller = ("collector", "Processed_Task"), ("reader", "Upload_to_expand")
        starts = call.operation in ("GetQueueUrl", "GetQueueAttributes")
        if starts and (call.sender, queue) in of_poller:
            return None
        if starts:
            about = "" if queue.startswith("Task_to_process") else about
    elif call.service == "s3":
        about = call.target.partition(" ")[2].split("/")[2].partition("?")[0]
    return Row(call.sender, call.service, call.operation, about)


def _of_item(operation: str, given: Mapping[str, Any]) -> str:
    values = given.get("ExpressionAttributeValues", {})
    if operation == "Query":
        client = values[":client_id"]["S"]
        return client.strip() if client.startswith("\n") else "batches"
    item = given.get("Key") or given.get("Item")
    if item is None:
        (asked,) = given["RequestItems"].values()
        item = asked["Keys"][0]
    key = str(item["Job_ID"]["S"])
    if key.startswith("fleet/"):
        return " ".join(key.split("/")[:2])
    head, slash, rest = key.partition("/")
    if slash:
        return "page" if len(head) == 26 and rest.isdigit() else head
    if ":" not in key:
        return "batch, count" if ":numbers" in values else "batch"
    if operation != "UpdateItem":
        return "bundle"
    return f"bundle, {_step(values)}"


def _step(values: Mapping[str, Any]) -> str:
    if ":zero" in values:
        return "claim"
    if ":status" not in values:
        return "unclaim"
    return {"RUNNING": "renew", "DONE": "commit", "QUEUED": "release"}[values[":status"]["S"]]
