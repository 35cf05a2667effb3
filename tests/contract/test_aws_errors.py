"""The translation of AWS's errors, alone and through the adapters."""

from __future__ import annotations

import random

import boto3
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    MetadataRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    ReadTimeoutError,
)
from botocore.stub import Stubber

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.monitor import DynamoMonitor
from taskfleet.aws.dynamodb.table import Table
from taskfleet.aws.errors import ConditionFailed, Denied, WouldSucceed, is_absent, translated
from taskfleet.aws.sqs import SqsQueue
from taskfleet.aws.ssm import read_secret
from taskfleet.batch import BatchRecord, Tally
from taskfleet.errors import NotFound, PermanentError, TransientError
from taskfleet.lease import Lease
from taskfleet.memory import ManualClock, MemoryStore

LEASE = Lease("me", 1, 1_700_000_030.0)


def answer(code: str, status: int = 400, headers: dict | None = None, **more) -> ClientError:
    response = {
        "Error": {"Code": code, "Message": "the service's words"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers or {}},
        **more,
    }
    return ClientError(response, "AnyOperation")


def translate(error: Exception) -> Exception:
    with pytest.raises(Exception) as caught, translated("read", "table Task_Monitor"):  # noqa: PT011
        raise error
    assert caught.value.__cause__ is error
    assert str(caught.value).startswith("could not read table Task_Monitor")
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        *[
            answer(code)
            for code in (
                "ThrottlingException",
                "ProvisionedThroughputExceededException",
                "RequestLimitExceeded",
                "OverLimit",
                "AWS.SimpleQueueService.OverLimit",
                "RequestThrottled",
                "KMS.ThrottlingException",
                "RequestTimeout",
                "ExpiredTokenException",
                "ExpiredToken",
            )
        ],
        answer("RequestExpired"),  # EC2's own code for expired credentials
        answer("400"),  # HeadObject with expired credentials: its answer has no body
        answer("SlowDown", 503),
        answer("", 502),
        answer("SomethingNew", 500),
        answer("SomethingNew", 429),
        EndpointConnectionError(endpoint_url="http://127.0.0.1:1"),
        ConnectTimeoutError(endpoint_url="http://127.0.0.1:1"),
        ReadTimeoutError(endpoint_url="http://127.0.0.1:1"),
        ConnectionClosedError(endpoint_url="http://127.0.0.1:1"),
        IncompleteReadError(actual_bytes=1, expected_bytes=2),
        MetadataRetrievalError(error_msg="no answer"),
    ],
    ids=str,
)
def test_errors_that_may_pass_are_transient(error):
    assert type(translate(error)) is TransientError


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (answer("AccessDeniedException"), "permissions"),
        (answer("InvalidClientTokenId", 403), "credentials"),
        (answer("ResourceNotFoundException"), "ResourceNotFoundException: the service's words"),
        (answer("AWS.SimpleQueueService.NonExistentQueue"), "NonExistentQueue"),
        (answer("ValidationException"), "the service's words"),
        (NoCredentialsError(), "AWS_ACCESS_KEY_ID"),
        (ParamValidationError(report="bad"), "bad"),
    ],
    ids=str,
)
def test_other_aws_errors_are_permanent_and_say_what_to_do(error, hint):
    found = translate(error)
    assert isinstance(found, PermanentError)
    assert isinstance(found, Denied) == (hint in ("permissions", "credentials"))
    assert hint in str(found)


@pytest.mark.parametrize("code", ["NoSuchKey", "404", "ParameterNotFound"])
def test_a_missing_object_or_parameter_is_not_found(code):
    assert type(translate(answer(code, 404))) is NotFound


@pytest.mark.parametrize(("given", "expected"), [("7", 7.0), ("-1", 0.0), ("soon", None)])
def test_the_header_retry_after_is_passed_on(given, expected):
    found = translate(answer("ServiceUnavailable", 503, {"retry-after": given}))
    assert isinstance(found, TransientError)
    assert found.retry_after_s == expected


def test_a_failed_condition_carries_the_existing_item():
    item = {"Job_ID": {"S": "b:0"}}
    found = translate(answer("ConditionalCheckFailedException", Item=item))
    assert isinstance(found, ConditionFailed)
    assert found.item == item


def test_errors_of_other_origin_pass_unchanged():
    with pytest.raises(KeyError), translated("read", "table"):
        raise KeyError("a bug")


# --- through the adapters ---


@pytest.fixture
def dynamodb():
    client = boto3.client("dynamodb", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        yield client, stubber
        stubber.assert_no_pending_responses()


def monitor_on(client) -> DynamoMonitor:
    clock = ManualClock()
    return DynamoMonitor(
        client,
        "Task_Monitor",
        store=MemoryStore(),
        clock=clock,
        backoff=Backoff(clock, random.Random(0)),
        ttl_days=30,
    )


CALLS = {
    "update_item claim": lambda m: m.claim("b:0", owner="me", lease_s=30),
    "update_item renew": lambda m: m.renew("b:0", LEASE, lease_s=30, tasks=[], results=[]),
    "update_item commit": lambda m: m.commit("b:0", LEASE, tasks=[], results=[]),
    "update_item release": lambda m: m.release("b:0", LEASE, tasks=[], results=[]),
    "get_item read batch": lambda m: m.start_batch("b", 1.0, seen=True),
    "update_item start": lambda m: m.start_batch("b", 1.0),
    "get_item read": lambda m: m.batch("b"),
    "batch_get_item read": lambda m: m.bundles(["b:0"]),
    "query list": lambda m: m.batches("c", limit=1, cursor=None),
    "update_item count": lambda m: m.record_progress("b", {0: Tally(1)}, 1.0),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("code", "status"),
    [("ProvisionedThroughputExceededException", 400), ("InternalServerError", 500)],
)
def test_the_monitor_reports_a_throttle_or_fault_as_transient(dynamodb, call, code, status):
    client, stubber = dynamodb
    operation, verb = call.split()[:2]
    stubber.add_client_error(operation, code, "slow down", status)
    with pytest.raises(TransientError, match=f"could not {verb} .*table Task_Monitor: {code}"):
        CALLS[call](monitor_on(client))


def test_unprocessed_keys_are_requested_again(dynamodb):
    client, stubber = dynamodb
    item = {"status": {"S": "QUEUED"}, "owner": {"S": "x"}}
    keys = [{"Job_ID": {"S": f"b:{n}"}} for n in range(3)]
    asked = {"Task_Monitor": {"Keys": keys, "ConsistentRead": True}}
    left = {"Task_Monitor": {"Keys": keys[1:], "ConsistentRead": True}}
    answers = [
        (asked, {"UnprocessedKeys": asked}),
        (asked, {"Responses": {"Task_Monitor": [keys[0] | item]}, "UnprocessedKeys": left}),
        (left, {"Responses": {"Task_Monitor": [keys[2] | item, keys[1] | item]}}),
    ]
    for request, response in answers:
        stubber.add_response("batch_get_item", response, {"RequestItems": request})
    records = monitor_on(client).bundles(["b:0", "b:1", "b:2"])
    assert [record.job_id for record in records] == ["b:0", "b:1", "b:2"]


def test_keys_that_stay_unprocessed_are_a_throttle(dynamodb):
    client, stubber = dynamodb
    left = {"Task_Monitor": {"Keys": [{"Job_ID": {"S": "b:0"}}], "ConsistentRead": True}}
    for _ in range(6):
        stubber.add_response("batch_get_item", {"UnprocessedKeys": left})
    with pytest.raises(TransientError, match="Task_Monitor"):
        monitor_on(client).bundles(["b:0"])


WRITES = {
    "update_item": lambda m: m.record_progress("b", {0: Tally(1)}, 1.0),
    "put_item": lambda m: m.create_batch(BatchRecord("b", "c", None, 1.0, 1, 1, "0", True)),
}


class TestConflict:
    """A write that meets a transaction on its item. botocore does not try it again by itself, and
    emulators never raise it."""

    @pytest.mark.parametrize("operation", WRITES)
    @pytest.mark.parametrize(
        "code", ["TransactionConflictException", "ReplicatedWriteConflictException"]
    )
    def test_is_tried_again(self, dynamodb, operation, code):
        client, stubber = dynamodb
        for _ in range(5):
            stubber.add_client_error(operation, code)
        stubber.add_response(operation, {})
        WRITES[operation](monitor_on(client))

    def test_of_adding_to_totals_is_tried_again(self, dynamodb):
        client, stubber = dynamodb
        stubber.add_client_error("update_item", "TransactionConflictException")
        stubber.add_response("update_item", {"Attributes": {"n": {"N": "2"}}})
        clock = ManualClock()
        table = Table(client, "Task_Monitor", clock, Backoff(clock, random.Random(0)), 30)
        assert table.add("count in", "fleet/demand", {"n": 2}) == {"n": {"N": "2"}}

    def test_at_every_try_is_a_throttle(self, dynamodb):
        client, stubber = dynamodb
        for _ in range(6):
            stubber.add_client_error("update_item", "TransactionConflictException")
        with pytest.raises(TransientError, match=r"batch b .*TransactionConflictEx"):
            monitor_on(client).record_progress("b", {0: Tally(1)}, 1.0)


def test_a_queue_that_is_not_there_is_named():
    client = boto3.client("sqs", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        stubber.add_client_error(
            "get_queue_url", "AWS.SimpleQueueService.NonExistentQueue", "no such queue"
        )
        queue = SqsQueue(client, "Task_to_process", Backoff(ManualClock(), random.Random(0)))
        with pytest.raises(PermanentError, match="could not find queue Task_to_process"):
            queue.depth()


def test_a_secret_is_read_and_a_missing_one_not_found():
    client = boto3.client("ssm", "us-east-1", aws_access_key_id="a", aws_secret_access_key="b")
    with Stubber(client) as stubber:
        stubber.add_response(
            "get_parameter",
            {"Parameter": {"Name": "/taskfleet/secret", "Value": "s3cret"}},
            {"Name": "/taskfleet/secret", "WithDecryption": True},
        )
        stubber.add_client_error("get_parameter", "ParameterNotFound")
        assert read_secret(client, "/taskfleet/secret") == "s3cret"
        with pytest.raises(NotFound, match="/taskfleet/none"):
            read_secret(client, "/taskfleet/none")


def test_a_dry_run_that_passes_is_no_failure():
    assert type(translate(answer("DryRunOperation", 412))) is WouldSucceed


@pytest.mark.parametrize(
    ("code", "message", "absent"),
    [
        ("AWS.SimpleQueueService.NonExistentQueue", "", True),
        ("ResourceNotFoundException", "", True),
        ("404", "Not Found", True),
        ("ValidationError", "Stack with id taskfleet-dev does not exist", True),
        ("ValidationError", "Template error", False),
        ("AccessDenied", "", False),
    ],
)
def test_what_does_not_exist_is_known_by_each_services_own_words(code, message, absent):
    error = ClientError({"Error": {"Code": code, "Message": message}}, "AnyOperation")
    assert is_absent(error) is absent
