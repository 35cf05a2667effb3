"""The event that Lambda hands to a queue's function, and the rules of its event sources. Pure
functions; `localcloud.queue_source` and `localcloud.schedule_source` do the calling,
`taskfleet.wire.schedule` owns a schedule's event.

Sources: the developer guides of AWS Lambda ("Using Lambda with Amazon SQS") and of EventBridge
("Schedule expression reference").
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from taskfleet.wire.payload import EVENT_MAX_BYTES

_FRAME_BYTES = len('{"Records": []}')
MAX_REDELIVERY_S = 60.0
"""Longest delay of a message that a handler did not take, in seconds."""


def sqs_events(messages: Iterable[Mapping[str, Any]], queue_arn: str) -> Iterator[dict[str, Any]]:
    """Yields the events for `messages`, which have the form of SQS's ReceiveMessage: as many of
    them in each event as Lambda takes bytes."""
    records: list[dict[str, Any]] = []
    room = EVENT_MAX_BYTES - _FRAME_BYTES
    for message in messages:
        record = _record(message, queue_arn)
        size = len(json.dumps(record, ensure_ascii=False).encode()) + len(", ")
        if records and size > room:
            yield {"Records": records}
            records, room = [], EVENT_MAX_BYTES - _FRAME_BYTES
        records.append(record)
        room -= size
    if records:
        yield {"Records": records}


def _record(message: Mapping[str, Any], queue_arn: str) -> dict[str, Any]:
    record = {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": dict(message.get("Attributes", {})),
        "messageAttributes": {
            name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": queue_arn,
        "awsRegion": queue_arn.split(":")[3],
    }
    if "MD5OfMessageAttributes" in message:
        record["md5OfMessageAttributes"] = message["MD5OfMessageAttributes"]
    return record


def _attribute(attribute: Mapping[str, Any]) -> dict[str, Any]:
    named: dict[str, Any] = {
        "stringValue": attribute.get("StringValue"),
        "binaryValue": attribute.get("BinaryValue"),
    }
    if named["binaryValue"] is not None:
        named["binaryValue"] = base64.b64encode(named["binaryValue"]).decode()
    given = {name: value for name, value in named.items() if value is not None}
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    return {**given, **lists, "dataType": attribute["DataType"]}


def failed_ids(answer: Any, sent: Sequence[str]) -> set[str]:
    """Returns the message ids that a handler's `answer` leaves on the queue. `sent` are the ids
    that it was called with. Like Lambda, an empty answer leaves none, and an answer that cannot be
    understood leaves them all."""
    if not answer:
        return set()
    try:
        failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"] or []}
    except (TypeError, KeyError):
        return set(sent)
    return failed if failed <= set(sent) else set(sent)


def redelivery_delay_s(receive_count: int) -> float:
    """Returns the seconds until a message that a handler did not take is visible again: 1, 2, 4 and
    so on up to `MAX_REDELIVERY_S`, so that another reader of the queue gets its turn."""
    return min(MAX_REDELIVERY_S, 2.0 ** (min(receive_count, 10) - 1))


def interval_s(expression: str) -> float:
    """Returns the seconds between two calls of a schedule. A `rate(...)` counts as written. A
    `cron(...)` is not evaluated: its function is called every minute."""
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", expression)
    if rate is None:
        return 60.0
    return int(rate[1]) * {"minute": 60.0, "hour": 3600.0, "day": 86_400.0}[rate[2]]
