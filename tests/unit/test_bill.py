import pytest

from taskfleet.bill import (
    DYNAMODB_READ_USD,
    DYNAMODB_WRITE_USD,
    S3_GET_USD,
    S3_PUT_USD,
    SQS_REQUEST_USD,
    Odometer,
    Spend,
    event_source_spend,
    price_usd,
)
from taskfleet.ports import CALL_MAX_MESSAGES


@pytest.mark.parametrize(
    ("service", "operation", "sent", "answered", "usd"),
    [
        ("sqs", "ReceiveMessage", 100, 0, SQS_REQUEST_USD),
        ("sqs", "SendMessageBatch", 64 * 1024, 300, SQS_REQUEST_USD),
        ("sqs", "SendMessageBatch", 64 * 1024 + 1, 300, 2 * SQS_REQUEST_USD),
        ("sqs", "ReceiveMessage", 100, 640 * 1024, 10 * SQS_REQUEST_USD),
        ("dynamodb", "UpdateItem", 700, 9000, DYNAMODB_WRITE_USD),
        ("dynamodb", "UpdateItem", 5 * 1024, 0, 5 * DYNAMODB_WRITE_USD),
        ("dynamodb", "GetItem", 100, 900, DYNAMODB_READ_USD),
        ("dynamodb", "BatchGetItem", 100, 9000, 3 * DYNAMODB_READ_USD),
        ("s3", "PutObject", 10**6, 0, S3_PUT_USD),
        ("s3", "GetObject", 0, 0, S3_GET_USD),
        ("ssm", "GetParameter", 10, 10, 0.0),
    ],
)
def test_the_price_of_a_call(service, operation, sent, answered, usd):
    assert price_usd(service, operation, sent, answered) == pytest.approx(usd)


@pytest.mark.parametrize(("messages", "calls"), [(1, 2), (10, 2), (11, 4)])
def test_an_event_source_receives_and_deletes_a_call_s_messages_at_a_time(messages, calls):
    assert event_source_spend(messages, CALL_MAX_MESSAGES) == Spend(calls, calls * SQS_REQUEST_USD)


def test_an_odometer_bills_every_call_once():
    total = [Spend(3, 0.5)]
    odometer = Odometer(lambda: total[0])
    assert odometer.take() == Spend()
    total[0] = Spend(10, 2.0)
    assert odometer.take() == Spend(7, 1.5)
    assert odometer.take() == Spend()


def test_spends_are_shared_and_added():
    assert Spend(10, 1.0) / 4 + Spend(1, 0.5) == Spend(3.5, 0.75)
