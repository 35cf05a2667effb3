"""The events that Lambda hands to a function, and the rules around them. Pure: owns their form,
not the calling (`localcloud.pump`).

Sources: the developer guides of AWS Lambda ("Using Lambda with Amazon SQS") and of EventBridge
("Schedule expression reference").
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

MAX_REDELIVERY_S = 60.0


def sqs_event(messages: Sequence[Mapping[str, Any]], queue_arn: str) -> dict[str, Any]:
    """The event for `messages`, given as SQS's ReceiveMessage returns them."""
    region = queue_arn.split(":")[3]
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": dict(message.get("Attributes", {})),
                "messageAttributes": {
                    name: _attribute(value)
                    for name, value in message.get("MessageAttributes", {}).items()
                },
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": queue_arn,
                "awsRegion": region,
            }
            for message in messages
        ]
    }


def _attribute(value: Mapping[str, Any]) -> dict[str, Any]:
    names = {"StringValue": "stringValue", "BinaryValue": "binaryValue", "DataType": "dataType"}
    found = {names[name]: part for name, part in value.items() if name in names}
    return {**found, "stringListValues": [], "binaryListValues": []}


def schedule_event(
    rule: str, event_id: str, region: str, account: str, at: float
) -> dict[str, Any]:
    """The event of a scheduled rule at epoch seconds `at`."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "region": region,
        "resources": [f"arn:aws:events:{region}:{account}:rule/{rule}"],
        "detail": {},
    }


def failed_ids(answer: Any, sent: Sequence[str]) -> set[str]:
    """Which of the message ids `sent` a handler's `answer` keeps on the queue. As in Lambda, an
    answer that is there but cannot be understood keeps them all."""
    if not answer:
        return set()
    try:
        found = {failure["itemIdentifier"] for failure in answer["batchItemFailures"] or []}
    except (TypeError, KeyError):
        return set(sent)
    return found if found <= set(sent) else set(sent)


def redelivery_delay_s(receive_count: int) -> float:
    """Seconds until a message that a handler left is seen again: 1, 2, 4 and so on up to a
    minute, so that another reader of the queue gets its turn."""
    return min(MAX_REDELIVERY_S, 2.0 ** (min(receive_count, 10) - 1))


def interval_s(expression: str) -> float:
    """Seconds between two calls of a schedule. A rate counts as it stands; a cron expression is
    not worked out here, its function is called every minute."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if rate is None:
        return 60.0
    return int(rate[1]) * {"minute": 60.0, "hour": 3600.0, "day": 86_400.0}[rate[2]]
