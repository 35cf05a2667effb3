"""The handlers that no client calls: responses on `Processed_Task`, uploads on `Upload_to_expand`,
and the minute's tick. Owns their envelopes; what a response counts for is
`taskfleet.scheduler.collect`'s, what becomes of an upload `taskfleet.scheduler.expand`'s."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from chalice.app import Chalice, CloudWatchEvent, SQSEvent

from chalice_app.services import Services
from taskfleet.bill import event_source_spend
from taskfleet.log import fields
from taskfleet.ports import CALL_MAX_MESSAGES
from taskfleet.scheduler.collect import collect
from taskfleet.settings import Settings, load
from taskfleet.wire.queues import (
    decode_upload,
)

_log = logging.getLogger(__name__)

RESPONSES_A_CALL = CALL_MAX_MESSAGES
"""Messages handed to one call of the collector: what Lambda's poller receives at a time. More would
make it wait for company, while clients wait for these."""
LOOKS_S = 50.0
"""For how long one tick goes on looking: it must be over when the next one comes."""
CALLS_AT_A_TIME = 2
"""The least that Lambda takes: collectors of one batch write the same item, and progress may not
take the account's concurrency from the API."""
UPLOADS_AT_A_TIME = 5
"""So that one client's large file does not hold up the next client's."""


def stage_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings by which queues are called, which the decorators must know at import. `chalice`
    puts the stage's `environment_variables` into the environment before it imports the app, to
    package it, to deploy it and to run it; so does Lambda. Without them names are those of 2014."""
    environ = os.environ if environ is None else environ
    return load({k: v for k, v in environ.items() if k == "TASKFLEET_STAGE"})


def add_events(app: Chalice, services: Callable[[], Services]) -> None:
    names = stage_settings()

    @app.on_sqs_message(
        queue=names.response_queue,
        batch_size=RESPONSES_A_CALL,
        maximum_concurrency=CALLS_AT_A_TIME,
    )
    def collect_responses(event: SQSEvent) -> dict[str, Any]:
        """The answer is Lambda's partial batch response: ids that stay on the queue."""
        bodies = {record.to_dict()["messageId"]: record.body for record in event}
        spent = services().odometer.take() + event_source_spend(len(bodies), RESPONSES_A_CALL)
        stay = collect(bodies, services().monitor, services().clock, spent)
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in stay]}

    @app.on_sqs_message(
        queue=names.upload_queue, batch_size=1, maximum_concurrency=UPLOADS_AT_A_TIME
    )
    def expand_upload(event: SQSEvent) -> None:
        """What cannot be read comes again until the queue's redrive makes it a dead letter."""
        context: Any = event.context
        for record in event:
            services().expansion.expand(
                decode_upload(record.body), lambda: context.get_remaining_time_in_millis() / 1000
            )

    @app.schedule("rate(1 minute)")
    def tick(_event: CloudWatchEvent) -> None:
        """How much waits and runs, as a log line to plot and to alarm on; then the provisioner,
        for most of a minute while there is something to look after."""
        known = services()
        depth = known.tasks.depth()
        _log.info(
            "queue depth",
            extra=fields("queue_depth", backlog=depth.backlog, in_flight=depth.in_flight),
        )
        if known.provisioner is not None:
            ends_at = known.clock.now() + LOOKS_S
            known.provisioner.run(lambda: ends_at - known.clock.now())
