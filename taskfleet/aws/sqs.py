"""A `TaskQueue` on SQS. Owns batching within SQS's limits, and which of its answers mean a receipt
that no longer counts."""

from __future__ import annotations

import functools
import hashlib
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.errors import is_transient, translated
from taskfleet.errors import PermanentError, TaskfleetError, TooLarge, TransientError
from taskfleet.ports import (
    CALL_MAX_MESSAGES,
    MESSAGE_MAX_BYTES,
    Message,
    OutgoingMessage,
    QueueDepth,
    TaskQueue,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

CALL_MAX_BYTES = 1_048_576
MANY_CALLS = 20
SEND_THREADS = 8
"""Tasks that travel singly make thousands of calls, each of which mostly waits for its answer."""
VISIBILITY_MAX_S = 43_200
REASON_MAX_CHARS = 1_000
_GROUP_ID = re.compile(r"[!-~]{1,128}")

Entry = dict[str, Any]


class SqsQueue:
    """`TaskQueue` for any number of threads. Visibility is counted in whole seconds, rounded up."""

    def __init__(self, client: SQSClient, name: str, backoff: Backoff) -> None:
        self._client = client
        self._name = name
        self._backoff = backoff

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        calls = _calls(messages)
        if len(calls) < MANY_CALLS:
            for entries in calls:
                self._send(entries)
            return
        with ThreadPoolExecutor(SEND_THREADS, thread_name_prefix="send") as pool:
            try:
                for _ in pool.map(self._send, calls):
                    pass
            except TaskfleetError:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(self, entries: Sequence[Entry]) -> None:
        self._each(
            "send to",
            lambda batch: self._client.send_message_batch(QueueUrl=self._url, Entries=batch),
            entries,
        )

    def receive(self, max_messages: int, *, wait_s: float, visibility_s: float) -> list[Message]:
        with self._translated("receive from"):
            response = self._client.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=max_messages,
                WaitTimeSeconds=math.ceil(wait_s),
                VisibilityTimeout=_visibility(visibility_s),
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
                MessageAttributeNames=["All"],
            )
        return [
            Message(
                message_id=found["MessageId"],
                receipt_handle=found["ReceiptHandle"],
                body=found["Body"],
                receive_count=int(found["Attributes"]["ApproximateReceiveCount"]),
                attributes={
                    name: value["StringValue"]
                    for name, value in found.get("MessageAttributes", {}).items()
                    if "StringValue" in value
                },
            )
            for found in response.get("Messages", [])
        ]

    def change_visibility(self, changes: Sequence[tuple[Message, float]]) -> list[Message]:
        stale: list[Message] = []
        for start in range(0, len(changes), CALL_MAX_MESSAGES):
            chunk = changes[start : start + CALL_MAX_MESSAGES]
            entries: list[Entry] = [
                {
                    "Id": str(place),
                    "ReceiptHandle": message.receipt_handle,
                    "VisibilityTimeout": _visibility(seconds),
                }
                for place, (message, seconds) in enumerate(chunk)
            ]
            refused = self._each(
                "change the visibility of messages in",
                lambda batch: self._client.change_message_visibility_batch(
                    QueueUrl=self._url, Entries=batch
                ),
                entries,
            )
            stale += [chunk[int(place)][0] for place in refused]
        return stale

    def delete(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), CALL_MAX_MESSAGES):
            chunk = messages[start : start + CALL_MAX_MESSAGES]
            self._each(
                "delete messages from",
                lambda batch: self._client.delete_message_batch(QueueUrl=self._url, Entries=batch),
                [
                    {"Id": str(place), "ReceiptHandle": message.receipt_handle}
                    for place, message in enumerate(chunk)
                ],
            )

    def dead_letter(self, message: Message, reason: str) -> None:
        dead = self._dead_letters
        with dead._translated("send to"):
            self._client.send_message(
                QueueUrl=dead._url,
                MessageBody=message.body,
                MessageAttributes=_reason_attribute(message.body, reason),
            )
        self.delete([message])

    def depth(self) -> QueueDepth:
        with self._translated("read the depth of"):
            attributes = self._client.get_queue_attributes(
                QueueUrl=self._url,
                AttributeNames=[
                    "ApproximateNumberOfMessages",
                    "ApproximateNumberOfMessagesDelayed",
                    "ApproximateNumberOfMessagesNotVisible",
                ],
            )["Attributes"]
        return QueueDepth(
            backlog=int(attributes["ApproximateNumberOfMessages"])
            + int(attributes["ApproximateNumberOfMessagesDelayed"]),
            in_flight=int(attributes["ApproximateNumberOfMessagesNotVisible"]),
        )

    def dead_letters(self) -> TaskQueue:
        return self._dead_letters

    @functools.cached_property
    def _dead_letters(self) -> SqsQueue:
        with self._translated("read the redrive policy of"):
            attributes = self._client.get_queue_attributes(
                QueueUrl=self._url, AttributeNames=["RedrivePolicy"]
            ).get("Attributes", {})
        policy = json.loads(attributes.get("RedrivePolicy", "{}"))
        arn = policy.get("deadLetterTargetArn")
        if arn is None:
            raise PermanentError(f"queue {self._name} has no dead-letter queue")
        return SqsQueue(self._client, arn.rpartition(":")[2], self._backoff)

    @functools.cached_property
    def _url(self) -> str:
        with self._translated("find"):
            return self._client.get_queue_url(QueueName=self._name)["QueueUrl"]

    def _translated(self, operation: str) -> Any:
        return translated(operation, f"queue {self._name}")

    def _each(
        self, operation: str, call: Callable[[Any], Any], entries: Sequence[Entry]
    ) -> list[str]:
        """Make a batch call, again for entries that failed of themselves. Returns the ids of those
        whose receipt SQS refused; PermanentError for any other that it will not take."""
        refused: list[str] = []
        code = ""
        for _ in self._backoff.tries():
            with self._translated(operation):
                failures = call(entries).get("Failed", [])
            again = set()
            for failure in failures:
                code = failure["Code"]
                if _is_stale(failure):
                    refused.append(failure["Id"])
                elif failure.get("SenderFault") and not is_transient(code):
                    raise PermanentError(
                        f"could not {operation} queue {self._name}: {code}: "
                        f"{failure.get('Message', ''):.300}"
                    )
                else:
                    again.add(failure["Id"])
            entries = [entry for entry in entries if entry["Id"] in again]
            if not entries:
                return refused
        raise TransientError(
            f"could not {operation} queue {self._name}: {code} for {len(entries)} messages; "
            "try again"
        )


def _calls(messages: Iterable[OutgoingMessage]) -> list[list[Entry]]:
    """The entries of one SendMessageBatch after the other, each within SQS's limits. All are cut
    before the first is sent, so that TooLarge comes before anything is on the queue."""
    calls: list[list[Entry]] = []
    room = 0
    for message in messages:
        size = len(message.body.encode())
        if size > MESSAGE_MAX_BYTES:
            raise TooLarge(f"a message of {size} bytes is over {MESSAGE_MAX_BYTES}")
        if size > room or len(calls[-1]) == CALL_MAX_MESSAGES:
            calls.append([])
            room = CALL_MAX_BYTES
        room -= size
        entry: Entry = {"Id": str(len(calls[-1])), "MessageBody": message.body}
        if message.group is not None:
            entry["MessageGroupId"] = _group_id(message.group)
        calls[-1].append(entry)
    return calls


def _group_id(group: str) -> str:
    """`group` itself when SQS takes it, otherwise a hash of it."""
    return group if _GROUP_ID.fullmatch(group) else hashlib.sha256(group.encode()).hexdigest()


def _is_stale(failure: Any) -> bool:
    """Whether SQS refused an entry for its receipt: expired, of an older delivery, or in flight for
    the 12 hours that one delivery may last at most."""
    code = failure["Code"].removeprefix("AWS.SimpleQueueService.")
    if code in ("MessageNotInflight", "ReceiptHandleIsInvalid"):
        return True
    text = failure.get("Message", "")
    return code == "InvalidParameterValue" and (
        "ReceiptHandle" in text or "Total VisibilityTimeout" in text
    )


def _visibility(seconds: float) -> int:
    return min(max(math.ceil(seconds), 0), VISIBILITY_MAX_S)


def _reason_attribute(body: str, reason: str) -> Any:
    """As much of `reason` as SQS takes: it counts towards the message's size, may not be empty and
    holds only what XML can."""
    text = "".join(char if _is_xml(char) else "?" for char in reason[:REASON_MAX_CHARS])
    room = MESSAGE_MAX_BYTES - len(body.encode()) - len("reasonString")
    text = text.encode()[: max(room, 0)].decode(errors="ignore")
    return {"reason": {"DataType": "String", "StringValue": text}} if text else {}


def _is_xml(char: str) -> bool:
    return (
        char in "\t\n\r"
        or " " <= char <= "\ud7ff"
        or "\ue000" <= char <= "\ufffd"
        or char > "\uffff"
    )
