"""`EventSink` on Amazon EventBridge and on Amazon SNS. Owns the calls; not the event's form
(`taskfleet.wire.events`).

Sources: "PutEvents", Amazon EventBridge API Reference; "Publish", Amazon SNS API Reference.
"""

from __future__ import annotations

from typing import Any

import msgspec

from taskfleet.aws.errors import is_transient, translated
from taskfleet.errors import PermanentError, TransientError
from taskfleet.wire.events import BATCH_FINISHED, SOURCE, Event, FinishedBatch


class EventBus:
    """The default event bus of the region. Safe for any number of threads."""

    # The stubs of boto3's clients for events and topics are not among the project's.
    def __init__(self, client: Any) -> None:
        self._client = client

    def send(self, event: FinishedBatch) -> None:
        entry = {
            "Source": SOURCE,
            "DetailType": BATCH_FINISHED,
            "Detail": msgspec.json.encode(event).decode(),
        }
        with translated("send an event to", "the event bus"):
            answer = self._client.put_events(Entries=[entry])
        if answer["FailedEntryCount"]:
            (refused,) = answer["Entries"]
            code = str(refused.get("ErrorCode", ""))
            message = f"the event bus refused an event: {code}: {refused.get('ErrorMessage', '')}"
            passing = is_transient(code) or code in ("InternalException", "InternalFailure")
            raise (TransientError if passing else PermanentError)(message)


class Topic:
    """A topic of SNS. Safe for any number of threads.

    arn: the topic's ARN.
    """

    def __init__(self, client: Any, arn: str) -> None:
        self._client = client
        self._arn = arn

    def send(self, event: FinishedBatch) -> None:
        attributes = {
            name: {"DataType": "String", "StringValue": str(value)}
            for name, value in (("stage", event.stage), ("status", event.status))
        }
        with translated("send an event to", f"topic {self._arn}"):
            self._client.publish(
                TopicArn=self._arn,
                Message=msgspec.json.encode(Event(event)).decode(),
                MessageAttributes=attributes,
            )
