"""The plan of the faulty AWS: which faults exist for a call, and what counts as one."""

from __future__ import annotations

import json

import pytest

from tests.faults.aws.cells import FAULTS, Plan, exists
from tests.faults.aws.rows import row_of
from tests.support.hop import Call, Stale

BUNDLE = {"Key": {"Job_ID": {"S": f"{'b' * 26}:0"}}}
CLAIM = {**BUNDLE, "ExpressionAttributeValues": {":zero": {"N": "0"}}}
COMMIT = {**BUNDLE, "ExpressionAttributeValues": {":status": {"S": "DONE"}}}
QUEUE = {"QueueUrl": "http://sqs/0/Task_to_process"}
DEPTH = {**QUEUE, "AttributeNames": ["ApproximateNumberOfMessages"]}
INDEX = {"IndexName": "i", "ExpressionAttributeValues": {":client_id": {"S": "local"}}}
SURE = {**BUNDLE, "ConsistentRead": True}


def call(operation: str, given: object, service: str = "dynamodb", number: int = 1) -> Call:
    return Call("worker", service, operation, number, json.dumps(given).encode(), "POST /")


@pytest.mark.parametrize(
    ("made", "special"),
    [
        (call("UpdateItem", CLAIM), {"conflict"}),
        (call("GetItem", SURE), set()),
        (call("GetItem", BUNDLE), {"stale read"}),
        (call("Query", INDEX), {"stale read"}),
        (call("GetQueueAttributes", DEPTH, "sqs"), {"stale count"}),
        (call("GetQueueAttributes", QUEUE, "sqs"), set()),
        (call("GetObject", {}, "s3"), set()),
        (call("DescribeInstances", {}, "ec2"), {"stale read"}),
    ],
    ids=lambda value: value.operation if isinstance(value, Call) else str(value),
)
def test_only_faults_that_aws_can_make_exist(made: Call, special: set[str]) -> None:
    found = {name for name in FAULTS if exists(made, name)}
    assert found & {"conflict", "stale read", "stale count"} == special
    assert len(found - special) == 8


def test_a_row_tells_the_steps_of_a_bundle_apart() -> None:
    claim, commit = row_of(call("UpdateItem", CLAIM)), row_of(call("UpdateItem", COMMIT))
    assert (str(claim), str(commit)) == (
        "worker: UpdateItem bundle, claim",
        "worker: UpdateItem bundle, commit",
    )


def test_a_lost_reply_meets_one_request_of_a_call_and_all_of_the_next() -> None:
    plan = Plan({("worker", "UpdateItem", "bundle, claim"): "lost reply"})
    plan.begin(hangs=False)
    first, second = call("UpdateItem", CLAIM), call("UpdateItem", {**CLAIM, "again": 1})
    assert [plan(first) is not None for _ in range(2)] == [True, False]
    assert [plan(second) is not None for _ in range(5)] == [True] * 4 + [False]
    assert plan(call("UpdateItem", COMMIT)) is None


def test_a_cell_counts_only_if_its_fault_fired() -> None:
    plan = Plan({("worker", "GetQueueAttributes", ""): "stale count"})
    plan.begin(hangs=False)
    made = call("GetQueueAttributes", DEPTH, "sqs")
    given = plan(made)
    assert isinstance(given, Stale)
    assert plan.take([]) == 0  # there was no earlier answer
    assert not plan.fired
    again = plan(made)
    assert again is not None
    assert plan.take([(made, again)]) == 1
    assert list(plan.fired.values()) == [1]
