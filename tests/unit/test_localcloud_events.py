"""Events have the form of Lambda's. What a handler does not take comes again, later each time."""

from __future__ import annotations

from typing import Any

import pytest
from chalice.app import CloudWatchEvent, SQSEvent

from localcloud.events import (
    failed_ids,
    interval_s,
    redelivery_delay_s,
    sqs_events,
)
from taskfleet.wire.schedule import schedule_event

ARN = "arn:aws:sqs:eu-west-1:000000000000:Processed_Task"
MESSAGE: dict[str, Any] = {
    "MessageId": "m-1",
    "ReceiptHandle": "r-1",
    "Body": '{"v":1}',
    "MD5OfBody": "d41d8",
    "Attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1530576251595"},
    "MessageAttributes": {"reason": {"StringValue": "because", "DataType": "String"}},
}


def test_a_queue_event_has_the_form_of_lambda() -> None:
    (event,) = sqs_events([MESSAGE], ARN)
    assert event == {
        "Records": [
            {
                "messageId": "m-1",
                "receiptHandle": "r-1",
                "body": '{"v":1}',
                "attributes": {"ApproximateReceiveCount": "2", "SentTimestamp": "1530576251595"},
                "messageAttributes": {
                    "reason": {
                        "stringValue": "because",
                        "dataType": "String",
                        "stringListValues": [],
                        "binaryListValues": [],
                    }
                },
                "md5OfBody": "d41d8",
                "eventSource": "aws:sqs",
                "eventSourceARN": ARN,
                "awsRegion": "eu-west-1",
            }
        ]
    }


def test_chalice_reads_both_events() -> None:
    records = list(SQSEvent(next(sqs_events([MESSAGE], ARN)), {}))
    assert [(record.body, record.receipt_handle) for record in records] == [('{"v":1}', "r-1")]
    schedule = CloudWatchEvent(schedule_event("tick", "e-1", "eu-west-1", 0.0), {})
    assert (schedule.source, schedule.detail_type) == ("aws.events", "Scheduled Event")
    assert schedule.time == "1970-01-01T00:00:00Z"
    assert schedule.resources == ["arn:aws:events:eu-west-1:000000000000:rule/tick"]


@pytest.mark.parametrize(
    ("answer", "stay"),
    [
        (None, set()),
        ({}, set()),
        ({"batchItemFailures": []}, set()),
        ({"batchItemFailures": None}, set()),
        ({"batchItemFailures": [{"itemIdentifier": "b"}]}, {"b"}),
        ({"batchItemFailures": [{"itemIdentifier": "b"}, {"itemIdentifier": "a"}]}, {"a", "b"}),
        # An answer that cannot be understood keeps all messages, so that none is lost.
        ({"batchItemFailures": [{"itemIdentifier": "other"}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": ""}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemIdentifier": None}]}, {"a", "b"}),
        ({"batchItemFailures": [{"itemidentifier": "a"}]}, {"a", "b"}),
        ({"batchItemFailures": ["a"]}, {"a", "b"}),
        ({"failures": []}, {"a", "b"}),
        ("fine", {"a", "b"}),
    ],
)
def test_a_handlers_answer_decides_which_messages_stay(answer: Any, stay: set[str]) -> None:
    assert failed_ids(answer, ["a", "b"]) == stay


@pytest.mark.parametrize(
    ("receive_count", "delay_s"), [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (1000, 60)]
)
def test_a_message_that_stays_is_delayed_longer_each_time(
    receive_count: int, delay_s: float
) -> None:
    assert redelivery_delay_s(receive_count) == delay_s


@pytest.mark.parametrize(
    ("expression", "seconds"),
    [
        ("rate(1 minute)", 60),
        ("rate(5 minutes)", 300),
        ("rate(1 hour)", 3600),
        ("rate(2 days)", 172_800),
        ("cron(0 12 * * ? *)", 60),
    ],
)
def test_a_rate_counts_and_a_cron_expression_means_every_minute(
    expression: str, seconds: float
) -> None:
    assert interval_s(expression) == seconds
