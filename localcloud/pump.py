"""Calls the handlers of the Chalice app as Lambda's event sources would: the queue handlers with
what is on their queues, the scheduled ones at their rate. A process of its own:

    python -m localcloud.pump

Owns the calling and what becomes of a message after it; the form of events and the rules are in
`localcloud.events`. Like Lambda it knows nothing of what the handlers do.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import math
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError
from chalice.app import ScheduledEventConfig, ScheduleExpression, SQSEventConfig

from localcloud.events import (
    failed_ids,
    interval_s,
    redelivery_delay_s,
    schedule_event,
    sqs_event,
)
from localcloud.invoke import Invocations
from taskfleet import log, settings
from taskfleet.aws.latency import delay_calls
from taskfleet.log import fields
from taskfleet.ports import CALL_MAX_MESSAGES
from taskfleet.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_sqs.client import SQSClient
    from mypy_boto3_sqs.type_defs import MessageTypeDef

_log = logging.getLogger(__name__)

LAMBDA_TIMEOUT_S = 30.0
"""SQS's limit of messages for one call; a larger batch takes several."""
VISIBILITY_S = int(LAMBDA_TIMEOUT_S)
"""How long a message stays hidden when the pump dies with it; Lambda takes the queue's own
time-out, which here would only be a longer wait."""
ERROR_PAUSE_S = 1.0
POLITE_PAUSE_S = (0.2, 0.5)
"""Between two looks at a queue on which messages for another reader wait: without a long poll of
the pump's own that reader's mostly comes first. Random, since an even rhythm would meet every
message just as it becomes visible."""

Handler = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Context:
    """The second argument of a Lambda handler."""

    function_name: str
    deadline: float = field(default_factory=lambda: time.monotonic() + LAMBDA_TIMEOUT_S)
    aws_request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "128"

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


class QueueSource:
    """Feeds one queue to one handler, at most `batch_size` messages a call; `wait_s` is the long
    poll's."""

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
        found = sqs.get_queue_attributes(QueueUrl=self._url, AttributeNames=["QueueArn"])
        self._arn = found["Attributes"]["QueueArn"]
        self._now = now
        self._rng = rng or random.Random()
        self._polite_until = -math.inf
        self._in_hand = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Receive and deliver until `stop`."""
        while not stop.is_set():
            try:
                messages = self.receive()
                with self._in_hand:
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

    def _is_polite(self) -> bool:
        return self._now() < self._polite_until

    def finish(self) -> None:
        """Wait for the messages in hand; a long poll is not waited for."""
        self._in_hand.acquire()

    def receive(self) -> list[MessageTypeDef]:
        """The next batch; waits only for its first message."""
        found: list[MessageTypeDef] = []
        while len(found) < self._batch_size:
            wanted = min(CALL_MAX_MESSAGES, self._batch_size - len(found))
            more = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=wanted,
                VisibilityTimeout=VISIBILITY_S,
                WaitTimeSeconds=0 if found or self._is_polite() else self._wait_s,
                MessageSystemAttributeNames=["All"],
                MessageAttributeNames=["All"],
            ).get("Messages", [])
            found += more
            if len(more) < wanted:
                break
        return found

    def deliver(self, messages: Sequence[MessageTypeDef]) -> None:
        """Call the handler; delete what it took, leave the rest to be seen again."""
        ids = [message["MessageId"] for message in messages]
        try:
            left = failed_ids(
                self._handler(sqs_event(messages, self._arn), Context(self.name)), ids
            )
        except Exception:  # noqa: BLE001 - as Lambda does, whatever it is
            _log.exception(
                "a queue handler failed: its messages come again",
                extra=fields("handler_failed", function=self.name, messages=len(ids)),
            )
            left = set(ids)
        for start in range(0, len(messages), CALL_MAX_MESSAGES):
            self._settle(messages[start : start + CALL_MAX_MESSAGES], left)

    def _settle(self, messages: Sequence[MessageTypeDef], left: set[str]) -> None:
        receipts = {message["MessageId"]: message["ReceiptHandle"] for message in messages}
        delays = {
            message["MessageId"]: int(redelivery_delay_s(_receive_count(message)))
            for message in messages
            if message["MessageId"] in left
        }
        failures = []
        if len(delays) < len(messages):
            answer = self._sqs.delete_message_batch(
                QueueUrl=self._url,
                Entries=[
                    {"Id": message_id, "ReceiptHandle": receipt}
                    for message_id, receipt in receipts.items()
                    if message_id not in delays
                ],
            )
            failures += answer.get("Failed", [])
        if delays:
            self._polite_until = self._now() + max(delays.values()) + 2.0
            changed = self._sqs.change_message_visibility_batch(
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
            failures += changed.get("Failed", [])
        for failure in failures:
            # Nothing is lost: the message comes again when its visibility ends.
            _log.warning(
                "a message could not be settled",
                extra=fields("settle_failed", function=self.name, reason=failure.get("Message")),
            )


def _receive_count(message: MessageTypeDef) -> int:
    return int(message.get("Attributes", {}).get("ApproximateReceiveCount", "1"))


@dataclass(frozen=True)
class ScheduleSource:
    """Calls one handler now and then every `every_s` seconds; a call that takes longer than that
    is not overtaken by the next. Like Lambda it does not wait for the handler at the end."""

    name: str
    every_s: float
    handler: Handler
    region: str
    account: str = "000000000000"
    turn: threading.Lock = field(default_factory=threading.Lock)
    """The function's reserved concurrency of one: an event waits for the call before it."""
    queued: threading.Lock = field(default_factory=threading.Lock)

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            started = time.monotonic()
            self.call(time.time())
            stop.wait(max(0.0, self.every_s - (time.monotonic() - started)))

    def call(self, at: float) -> None:
        event = schedule_event(self.name, str(uuid.uuid4()), self.region, self.account, at)
        try:
            with self.turn:
                self.handler(event, Context(self.name))
        except Exception:  # noqa: BLE001 - as Lambda does, whatever it is
            _log.exception(
                "a scheduled handler failed", extra=fields("handler_failed", function=self.name)
            )

    def invoke(self) -> None:
        """An event out of turn; one that waits already does for all."""
        if self.queued.acquire(blocking=False):
            try:
                with self.turn:
                    pass
            finally:
                self.queued.release()
            self.call(time.time())

    def finish(self) -> None:
        return


def sources(module: ModuleType, conf: Settings) -> Iterator[QueueSource | ScheduleSource]:
    """What the Chalice app `module.app` is to be fed with; its handlers are found in `module`, as
    Lambda finds them."""
    for config in module.app.event_sources:
        handler = getattr(module, config.handler_string.rpartition(".")[2])
        if isinstance(config, SQSEventConfig):
            queue = config.queue or str(config.queue_arn).rpartition(":")[2]
            sqs = boto3.client("sqs", region_name=conf.region)
            delay_calls(sqs, conf.aws_latency_ms)
            yield QueueSource(
                sqs,
                queue,
                config.name,
                handler,
                batch_size=config.batch_size,
                wait_s=max(1, int(conf.receive_wait_s)),
            )
        elif isinstance(config, ScheduledEventConfig):
            given = config.schedule_expression
            text = given.to_string() if isinstance(given, ScheduleExpression) else given
            yield ScheduleSource(config.name, interval_s(text), handler, conf.region)
        else:
            raise SystemExit(
                f"the local cloud cannot feed {config.handler_string}: it plays queues and "
                f"schedules only, not {type(config).__name__}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m localcloud.pump", description=__doc__)
    parser.add_argument("--invoke-port", type=int, default=0, help="of Lambda's Invoke (any free)")
    options = parser.parse_args()
    conf = settings.load()
    log.set_up(conf.log_level)
    end, signalled = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(signalled, b"."))
    stop = threading.Event()
    running = list(sources(importlib.import_module("app"), conf))
    for source in running:
        threading.Thread(target=source.run, args=(stop,), name=source.name, daemon=True).start()
    functions = {
        f"taskfleet-{conf.stage}-{source.name}": source.invoke
        for source in running
        if isinstance(source, ScheduleSource)
    }
    invocations = Invocations(options.invoke_port, functions)
    threading.Thread(target=invocations.serve, name="invocations", daemon=True).start()
    names = [source.name for source in running]
    _log.info("feeding the handlers", extra=fields("pump_started", functions=names))
    os.read(end, 1)
    stop.set()
    for source in running:
        source.finish()


if __name__ == "__main__":
    main()
