"""Calls a handler as Lambda's event source mapping of a queue does. Owns the receiving, and what
becomes of a message after the call; `localcloud.events` owns the form of the event and the reading
of the answer."""

from __future__ import annotations

import json
import logging
import math
import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError, ClientError

from localcloud.events import failed_ids, redelivery_delay_s, sqs_events
from localcloud.handler import Context, Handler
from taskfleet.log import fields
from taskfleet.ports import CALL_MAX_MESSAGES

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_log = logging.getLogger(__name__)

VISIBILITY_S = int(os.environ.get("LOCALCLOUD_VISIBILITY_S", "30"))
"""Seconds that a received message stays hidden if the pump dies with it. Lambda uses the queue's
own visibility time-out, which would only be a longer wait here. Tests that kill the pump set the
variable to wait less."""
ERROR_PAUSE_S = 1.0
"""Seconds between a failed receive and the next one."""
POLITE_PAUSE_S = (0.2, 0.5)
"""Least and most seconds between two receives while another reader's messages are on the queue.
Without a long poll of the pump, the long poll of that reader mostly comes first. The pause is
random, since a regular one could meet every message just as it becomes visible."""
POLITE_AFTER_S = 2.0
"""Seconds for which the other reader keeps its precedence once its messages are visible again."""


class QueueSource:
    """Feeds one queue to one handler, one call at a time.

    batch_size: most messages in one call.
    wait_s: length of a long poll, in seconds.
    """

    def __init__(
        self,
        sqs: SQSClient,
        queue: str,
        name: str,
        handler: Handler,
        *,
        batch_size: int,
        wait_s: int = 0,
        now: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
    ) -> None:
        self.name = name
        self._sqs = sqs
        self._handler = handler
        self._batch_size = batch_size
        self._wait_s = wait_s
        self._url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        answer = sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        self._arn = answer["Attributes"]["QueueArn"]
        self._now = now
        self._rng = rng or random.Random()
        self._polite_until = -math.inf
        self._delivering = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Receives and delivers until `stop` is set."""
        while not stop.is_set():
            try:
                messages = self.receive()
                with self._delivering:
                    if messages and not stop.is_set():
                        self.deliver(messages)
                if not messages and self._is_polite():
                    stop.wait(self._rng.uniform(*POLITE_PAUSE_S))
            except (BotoCoreError, ClientError):
                _log.exception(
                    "a queue could not be read",
                    extra=fields("receive_failed", function=self.name),
                )
                stop.wait(ERROR_PAUSE_S)

    def finish(self) -> None:
        """Waits until the messages of a running call are settled, but not for a long poll. The
        `stop` of `run` must be set before, so that no further call begins."""
        with self._delivering:
            return

    def receive(self) -> list[MessageTypeDef]:
        """Returns the next batch, empty when the long poll ends without a message. Waits for the
        first message only."""
        messages: list[MessageTypeDef] = []
        while len(messages) < self._batch_size:
            wanted = min(CALL_MAX_MESSAGES, self._batch_size - len(messages))
            received = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=wanted,
                VisibilityTimeout=VISIBILITY_S,
                WaitTimeSeconds=0 if messages or self._is_polite() else self._wait_s,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            messages += received
            if len(received) < wanted:
                break
        return messages

    def deliver(self, messages: Sequence[MessageTypeDef]) -> None:
        """Calls the handler, once for as many messages as an event holds, deletes the messages that
        it took, and delays the others. A handler that raises took none."""
        received = {message["MessageId"]: message for message in messages}
        for event in sqs_events(messages, self._arn):
            ids = [record["messageId"] for record in event["Records"]]
            failed = self._call(event, ids)
            for start in range(0, len(ids), CALL_MAX_MESSAGES):
                some = ids[start : start + CALL_MAX_MESSAGES]
                self._settle([received[message_id] for message_id in some], failed)

    def _call(self, event: Any, ids: Sequence[str]) -> set[str]:
        """Calls the handler with messages of these ids. Returns the ids of those that stay. Event
        and answer are JSON on their way, as on Lambda."""
        try:
            answer = self._handler(json.loads(json.dumps(event)), Context.of(self.name))
            return failed_ids(json.loads(json.dumps(answer)), ids)
        except Exception:  # noqa: BLE001 - Lambda survives whatever a handler raises
            _log.exception(
                "a queue handler failed: its messages come again",
                extra=fields("handler_failed", function=self.name, messages=len(ids)),
            )
            return set(ids)

    def _is_polite(self) -> bool:
        """Returns whether messages for another reader are on the queue, as far as is known."""
        return self._now() < self._polite_until

    def _settle(self, messages: Sequence[MessageTypeDef], failed: set[str]) -> None:
        """Deletes `messages`, at most ten, but those whose id is in `failed`, which it delays."""
        receipts = {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        delays = {
            message["MessageId"]: int(redelivery_delay_s(_receive_count(message)))
            for message in messages
            if message["MessageId"] in failed
        }
        faults = []
        if len(delays) < len(messages):
            deleted = self._sqs.delete_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": message_id, "ReceiptHandle": receipt}
                    for message_id, receipt in receipts.items()
                    if message_id not in delays
                ],
            )
            faults += deleted.get("Failed", [])
        if delays:
            self._polite_until = self._now() + max(delays.values()) + POLITE_AFTER_S
            delayed = self._sqs.change_message_visibility_batch(
                QueueUrl=self._url,
                Entries=[
                    {
                        "Id": message_id,
                        "ReceiptHandle": receipts[message_id],
                        "VisibilityTimeout": delay_s,
                    }
                    for message_id, delay_s in delays.items()
                ],
            )
            faults += delayed.get("Failed", [])
        for fault in faults:
            # Nothing is lost: the message comes again when its visibility time-out ends.
            _log.warning(
                "a message could not be deleted or delayed",
                extra=fields("settle_failed", function=self.name, reason=fault.get("Message")),
            )


def _receive_count(message: MessageTypeDef) -> int:
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))
