"""`TaskQueue` on SQS. Owns the splitting of calls by SQS's limits, and which error codes mean that
a receipt handle is no longer valid.

Sources: "Amazon SQS message quotas", "Amazon SQS visibility timeout" and "Amazon SQS fair queues",
Amazon SQS Developer Guide; "SendMessageBatch" and "ChangeMessageVisibility", Amazon SQS API
Reference.
"""

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
    HIGH,
    MESSAGE_MAX_BYTES,
    PRIORITY,
    Message,
    OutgoingMessage,
    QueueDepth,
    TaskQueue,
)

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

CALL_MAX_BYTES = 1_048_576
"""Most bytes of all messages in one call."""
PARALLEL_CALLS = 20
"""Least number of calls that are sent by several threads."""
SEND_THREADS = 8
"""Threads that send the calls of a large batch, most of whose time is spent waiting for answers."""
VISIBILITY_MAX_S = 43_200
"""Longest visibility time-out, in seconds: 12 hours."""
REASON_MAX_CHARS = 1_000
"""Most characters of the attribute `reason` on a dead letter."""
PRIORITY_BYTES = len(f"{PRIORITY}String{HIGH}")
"""Bytes by which the attribute `PRIORITY` adds to a message's size."""
_GROUP_ID = re.compile(r"[!-~]{1,128}")
"""The form of a message group id that SQS accepts."""

Entry = dict[str, Any]
"""One entry of a batch call, as boto3 takes it."""


class SqsQueue:
    """Implements `taskfleet.ports.TaskQueue`. Safe for any number of threads. Visibility time-outs
    are rounded up to whole seconds."""

    def __init__(self, client: SQSClient, name: str, backoff: Backoff) -> None:
        self._client = client
        self._name = name
        self._backoff = backoff

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        calls = _split_into_calls(messages)
        if len(calls) < PARALLEL_CALLS:
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
        self._call_batch(
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
                MessageSystemAttributeNames=["ApproximateReceiveCount", "SentTimestamp"],
                MessageAttributeNames=["All"],
            )
        return [
            Message(
                message_id=delivery["MessageId"],
                receipt_handle=delivery["ReceiptHandle"],
                body=delivery["Body"],
                receive_count=int(delivery["Attributes"]["ApproximateReceiveCount"]),
                attributes={
                    name: value["StringValue"]
                    for name, value in delivery.get("MessageAttributes", {}).items()
                    if "StringValue" in value
                },
                sent_at=int(delivery["Attributes"]["SentTimestamp"]) / 1000,
            )
            for delivery in response.get("Messages", [])
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
            stale_ids = self._call_batch(
                "change the visibility of messages in",
                lambda batch: self._client.change_message_visibility_batch(
                    QueueUrl=self._url, Entries=batch
                ),
                entries,
            )
            stale += [chunk[int(entry_id)][0] for entry_id in stale_ids]
        return stale

    def delete(self, messages: Sequence[Message]) -> None:
        for start in range(0, len(messages), CALL_MAX_MESSAGES):
            chunk = messages[start : start + CALL_MAX_MESSAGES]
            self._call_batch(
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
                MessageAttributes=_reason_attribute(message.body, reason)
                | _priority_attribute(high=message.high),
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

    def _call_batch(
        self, operation: str, call: Callable[[Any], Any], entries: Sequence[Entry]
    ) -> list[str]:
        """Make a batch call, and repeat it for entries with a transient failure. Returns the ids of
        entries whose receipt handle is no longer valid. Raises PermanentError if SQS refuses an
        entry for another reason, and TransientError if entries fail at every try."""
        stale_ids: list[str] = []
        code = ""
        for _ in self._backoff.tries():
            with self._translated(operation):
                failures = call(entries).get("Failed", [])
            retry_ids = set()
            for failure in failures:
                code = failure["Code"]
                if _is_stale(failure):
                    stale_ids.append(failure["Id"])
                elif failure.get("SenderFault") and not is_transient(code):
                    raise PermanentError(
                        f"could not {operation} queue {self._name}: {code}: "
                        f"{failure.get('Message', ''):.300}"
                    )
                else:
                    retry_ids.add(failure["Id"])
            entries = [entry for entry in entries if entry["Id"] in retry_ids]
            if not entries:
                return stale_ids
        raise TransientError(
            f"could not {operation} queue {self._name}: {code} for {len(entries)} messages; "
            "try again"
        )


def _split_into_calls(messages: Iterable[OutgoingMessage]) -> list[list[Entry]]:
    """Returns the entries of each call of SendMessageBatch, within SQS's limits. Raises TooLarge
    if a message is larger than `MESSAGE_MAX_BYTES`; no call has been made then."""
    calls: list[list[Entry]] = []
    free_bytes = 0
    for message in messages:
        size = len(message.body.encode()) + (PRIORITY_BYTES if message.high else 0)
        if size > MESSAGE_MAX_BYTES:
            raise TooLarge(
                f"a message of {size} bytes is over the cap of {MESSAGE_MAX_BYTES} bytes"
            )
        if size > free_bytes or len(calls[-1]) == CALL_MAX_MESSAGES:
            calls.append([])
            free_bytes = CALL_MAX_BYTES
        free_bytes -= size
        entry: Entry = {"Id": str(len(calls[-1])), "MessageBody": message.body}
        if message.group is not None:
            entry["MessageGroupId"] = _group_id(message.group)
        if message.high:
            entry["MessageAttributes"] = _priority_attribute(high=True)
        calls[-1].append(entry)
    return calls


def _group_id(group: str) -> str:
    """Returns `group` if SQS accepts it as a message group id, otherwise its hash."""
    return group if _GROUP_ID.fullmatch(group) else hashlib.sha256(group.encode()).hexdigest()


def _is_stale(failure: Any) -> bool:
    """Returns whether SQS refused an entry because its receipt handle is no longer valid: it has
    expired, belongs to an older delivery, or has reached the 12 hours that one delivery may last.
    """
    code = failure["Code"].removeprefix("AWS.SimpleQueueService.")
    if code in ("MessageNotInflight", "ReceiptHandleIsInvalid"):
        return True
    explanation = failure.get("Message", "")
    return code == "InvalidParameterValue" and (
        "ReceiptHandle" in explanation or "Total VisibilityTimeout" in explanation
    )


def _visibility(seconds: float) -> int:
    """Returns a visibility time-out that SQS accepts, in whole seconds."""
    return min(max(math.ceil(seconds), 0), VISIBILITY_MAX_S)


def _priority_attribute(*, high: bool) -> Any:
    """Returns the message attribute of messages that workers take before others."""
    return {PRIORITY: {"DataType": "String", "StringValue": HIGH}} if high else {}


def _reason_attribute(body: str, reason: str) -> Any:
    """Returns the message attribute `reason`, shortened and cleaned so that SQS accepts it: the
    attribute's name, type and value count towards the message's size, the value may not be empty,
    and it may hold only characters that XML allows. Empty if there is no room for it."""
    value = "".join(char if _is_xml(char) else "?" for char in reason[:REASON_MAX_CHARS])
    free_bytes = MESSAGE_MAX_BYTES - len(body.encode()) - len("reasonString") - PRIORITY_BYTES
    value = value.encode()[: max(free_bytes, 0)].decode(errors="ignore")
    return {"reason": {"DataType": "String", "StringValue": value}} if value else {}


def _is_xml(char: str) -> bool:
    """Returns whether XML 1.0 allows the character ("Extensible Markup Language (XML) 1.0", W3C,
    section 2.2)."""
    return (
        char in "\t\n\r"
        or " " <= char <= "\ud7ff"
        or "\ue000" <= char <= "\ufffd"
        or char > "\uffff"
    )
