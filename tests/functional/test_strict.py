"""The local cloud's emulator refuses what AWS refuses: by raw boto3 calls."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import pytest
import requests
from botocore.exceptions import ClientError

from localcloud.queue_source import QueueSource
from tests.support.emulated import Emulated, emulated
from tests.support.moto_aws import aws_credentials, moto_account

HOME, OTHER = "eu-west-1", "us-east-1"
TABLE = "Task_Monitor"
CREATE = {
    "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
    "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}],
    "BillingMode": "PAY_PER_REQUEST",
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    with aws_credentials(), emulated(tmp_path_factory.mktemp("strict")) as started:
        started.client("dynamodb", HOME).create_table(TableName=TABLE, **CREATE)
        started.client("sqs", HOME).create_queue(QueueName="q")
        started.client("ssm", HOME).put_parameter(Name="/p", Value="v", Type="String")
        started.client("s3", HOME).create_bucket(
            Bucket="home", CreateBucketConfiguration={"LocationConstraint": HOME}
        )
        started.client("s3", HOME).put_object(Bucket="home", Key="k", Body=b"v")
        started.client("cloudformation", HOME).create_stack(
            StackName="stack", TemplateBody='{"Resources":{"Q":{"Type":"AWS::SQS::Queue"}}}'
        )
        yield started


@pytest.fixture(scope="module")
def table(cloud: Emulated) -> Any:
    return cloud.client("dynamodb", HOME)


def code_of(call: Any, *arguments: Any, **options: Any) -> str:
    try:
        call(*arguments, **options)
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def put(table: Any, key: str) -> str:
    return code_of(table.put_item, TableName=TABLE, Item={"k": {"S": key}, "by": {"S": "put"}})


def transaction(*keys: str) -> dict[str, Any]:
    items = [{"Put": {"TableName": TABLE, "Item": {"k": {"S": key}}}} for key in keys]
    return {"TransactItems": items}


def together(*calls: Any) -> list[Any]:
    """Runs the calls in threads that start at once. Returns what they return."""
    line = threading.Barrier(len(calls))

    def run(call: Any) -> Any:
        line.wait(5)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_a_write_that_meets_a_transaction_is_refused(table: Any) -> None:
    seen = set()
    for _ in range(20):
        first, *writes = together(
            lambda: code_of(table.transact_write_items, **transaction("a", "b")),
            *[lambda: put(table, "a")] * 4,
        )
        assert first == "ok"
        seen.update(writes)
    assert seen == {"ok", "TransactionConflictException"}


def test_of_two_transactions_on_an_item_one_is_cancelled_with_reasons(table: Any) -> None:
    refused = []

    def transact(*keys: str) -> None:
        try:
            table.transact_write_items(**transaction(*keys))
        except table.exceptions.TransactionCanceledException as error:
            refused.append([r["Code"] for r in error.response["CancellationReasons"]])

    for _ in range(10):
        together(lambda: transact("x", "c"), lambda: transact("c", "y"))
    assert refused
    reasons = (["TransactionConflict", "None"], ["None", "TransactionConflict"])
    assert all(reason in reasons for reason in refused)


def test_reads_and_other_items_meet_no_conflict(table: Any) -> None:
    for _ in range(5):
        assert (
            together(
                lambda: code_of(table.transact_write_items, **transaction("d")),
                lambda: code_of(table.get_item, TableName=TABLE, Key={"k": {"S": "d"}}),
                lambda: put(table, "e"),
                lambda: code_of(table.transact_write_items, **transaction("f")),
            )
            == ["ok"] * 4
        )


def test_one_after_the_other_is_no_conflict(table: Any) -> None:
    for _ in range(5):
        assert code_of(table.transact_write_items, **transaction("g")) == "ok"
        assert put(table, "g") == "ok"


UNKNOWN = {
    "queue": (
        lambda c: c("sqs").get_queue_url(QueueName="q"),
        "AWS.SimpleQueueService.NonExistentQueue",
    ),
    "message": (
        lambda c: c("sqs").send_message(QueueUrl="http://x/000000000000/q", MessageBody="m"),
        "AWS.SimpleQueueService.NonExistentQueue",
    ),
    "table": (
        lambda c: c("dynamodb").get_item(TableName=TABLE, Key={"k": {"S": "a"}}),
        "ResourceNotFoundException",
    ),
    "parameter": (lambda c: c("ssm").get_parameter(Name="/p"), "ParameterNotFound"),
    "stack": (
        lambda c: c("cloudformation").describe_stacks(StackName="stack"),
        "ValidationError",
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_another_region_has_nothing_in_it(cloud: Emulated, what: str) -> None:
    call, code = UNKNOWN[what]
    assert code_of(call, lambda service: cloud.client(service, HOME)) == "ok"
    assert code_of(call, lambda service: cloud.client(service, OTHER)) == code


def test_a_bucket_of_another_region_says_where_it_is(cloud: Emulated) -> None:
    sign = {"Params": {"Bucket": "home", "Key": "k"}, "ExpiresIn": 60}
    for region, status in ((HOME, 200), (OTHER, 301)):
        url = cloud.client("s3", region).generate_presigned_url("get_object", **sign)
        answer = requests.get(url, allow_redirects=False, timeout=5)
        assert answer.status_code == status
    assert answer.headers["x-amz-bucket-region"] == HOME
    assert "PermanentRedirect" in answer.text


def test_a_form_for_a_bucket_of_another_region_is_refused(cloud: Emulated) -> None:
    for region, taken in ((HOME, True), (OTHER, False)):
        form = cloud.client("s3", region).generate_presigned_post("home", "form")
        answer = requests.post(
            form["url"], data=form["fields"], files={"file": b"x"}, timeout=5, allow_redirects=False
        )
        assert (answer.status_code < 300) is taken, answer.text


def test_moto_s_machines_are_of_one_region() -> None:
    with moto_account(HOME):
        run = {"ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1}
        made = boto3.client("ec2", region_name=HOME).run_instances(**run)["Instances"]
        there = boto3.client("ec2", region_name=OTHER)
        assert there.describe_instances()["Reservations"] == []
        ids = [machine["InstanceId"] for machine in made]
        assert code_of(there.terminate_instances, InstanceIds=ids) == "InvalidInstanceID.NotFound"


@pytest.fixture(scope="module")
def scarce(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulated]:
    quotas = {"LOCALCLOUD_QUOTAS": "messages_in_flight=3,table_writes=20"}
    with aws_credentials(), emulated(tmp_path_factory.mktemp("scarce"), **quotas) as started:
        yield started


def test_a_queue_at_its_quota_of_messages_in_flight_gives_no_more(scarce: Emulated) -> None:
    sqs = scarce.client("sqs")
    url = sqs.create_queue(QueueName="q")["QueueUrl"]
    for number in range(4):
        sqs.send_message(QueueUrl=url, MessageBody=str(number))
    held = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=3)["Messages"]
    assert len(held) == 3
    assert code_of(sqs.receive_message, QueueUrl=url) == "OverLimit"
    assert "Messages" not in sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=held[0]["ReceiptHandle"])
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1


def test_a_table_at_its_quota_of_writes_throttles_writes_and_no_reads(scarce: Emulated) -> None:
    table = scarce.client("dynamodb")
    table.create_table(TableName=TABLE, **CREATE)
    codes = [put(table, "a") for _ in range(60)]
    assert set(codes) == {"ok", "ThrottlingException"}
    assert codes[:20] == ["ok"] * 20
    assert code_of(table.get_item, TableName=TABLE, Key={"k": {"S": "a"}}) == "ok"


def test_moto_in_this_process_is_under_the_same_rule_of_conflicts() -> None:
    with moto_account():
        first, other = boto3.client("dynamodb"), boto3.client("dynamodb")
        first.create_table(TableName=TABLE, **CREATE)
        met: list[str] = []

        def meanwhile(**_: Any) -> None:
            met.append(put(other, "a"))
            met.append(code_of(other.transact_write_items, **transaction("a")))
            met.append(put(other, "c"))

        first.meta.events.register_first("before-send.dynamodb.TransactWriteItems", meanwhile)
        first.transact_write_items(**transaction("a", "b"))
        refused = ["TransactionConflictException", "TransactionCanceledException"]
        assert met == [*refused, "ok"]
        assert put(other, "a") == put(first, "b") == "ok"


ON_LAMBDA = {
    "messageId": "059f36b4-87a3-44ab-83d2-661975830a7d",
    "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a...",
    "body": "Test message.",
    "attributes": {
        "ApproximateReceiveCount": "1",
        "SentTimestamp": "1545082649183",
        "SenderId": "AIDAIENQZJOLO23YVJ4VO",
        "ApproximateFirstReceiveTimestamp": "1545082649185",
    },
    "messageAttributes": {
        "myAttribute": {
            "stringValue": "myValue",
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": "String",
        }
    },
    "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
    "eventSource": "aws:sqs",
    "eventSourceARN": "arn:aws:sqs:us-east-2:123456789012:my-queue",
    "awsRegion": "us-east-2",
}
"""The example of "Using Lambda with Amazon SQS", AWS Lambda Developer Guide."""


def test_a_queue_s_event_has_all_that_lambda_s_has(cloud: Emulated) -> None:
    sqs = cloud.client("sqs", HOME)
    url = sqs.create_queue(QueueName="events")["QueueUrl"]
    attributes: dict[str, Any] = {
        "myAttribute": {"StringValue": "myValue", "DataType": "String"},
        "raw": {"BinaryValue": b"\xff", "DataType": "Binary"},
    }
    sqs.send_message(QueueUrl=url, MessageBody="Test message.", MessageAttributes=attributes)
    events: list[Any] = []
    source = QueueSource(
        sqs, "events", "collect", lambda event, _: events.append(event), batch_size=10
    )
    source.deliver(source.receive())
    (record,) = events[0]["Records"]
    assert record.keys() >= ON_LAMBDA.keys()
    assert record["attributes"].keys() >= ON_LAMBDA["attributes"].keys()  # type: ignore[attr-defined]
    assert all(isinstance(value, str) for value in record["attributes"].values())
    assert record["messageAttributes"]["myAttribute"] == {
        "stringValue": "myValue",
        "stringListValues": [],
        "binaryListValues": [],
        "dataType": "String",
    }
    assert record["messageAttributes"]["raw"]["binaryValue"] == "/w=="
    assert (record["eventSource"], record["awsRegion"]) == ("aws:sqs", HOME)
    assert record["eventSourceARN"] == f"arn:aws:sqs:{HOME}:000000000000:events"
