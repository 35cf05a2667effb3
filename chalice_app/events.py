"""The handlers that queues and schedules call: for responses on `Processed_Task`, uploads on
`Upload_to_expand`, and once a minute. Owns how events are unpacked; not counting responses
(`taskfleet.scheduler.collect`), reading uploads (`taskfleet.scheduler.expand`) nor provisioning
(`taskfleet.provisioner.reconcile`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chalice.app import Chalice, CloudWatchEvent, SQSEvent

from chalice_app.services import Services
from taskfleet.bill import event_source_spend
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.measure import COLLECTOR_LAG_SECONDS
from taskfleet.ports import CALL_MAX_MESSAGES
from taskfleet.scheduler.collect import collect
from taskfleet.settings import Settings, load
from taskfleet.wire.queues import decode_upload

_log = logging.getLogger(__name__)

RESPONSES_A_CALL = CALL_MAX_MESSAGES
"""Most responses in one call of the collector: as many as Lambda's poller receives at a time. With
a larger number Lambda would wait for more, while clients wait for these."""
TICK_S = 50.0
"""Seconds for which one tick runs rounds of the provisioner. It must end before the next tick,
which comes a minute after it."""
SCHEDULES_S = 20.0
"""Seconds of a tick for which it submits batches of schedules."""
_AT_IMPORT = ("TASKFLEET_STAGE", "TASKFLEET_COLLECTORS")
UPLOADS_AT_A_TIME = 5
"""Most files that are read at a time, so that one client's large file does not delay the others."""


def stage_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Returns only the settings that decorators need at import: the stage, which names the queues,
    and the number of collectors.

    Both `chalice` and Lambda set the stage's `environment_variables` before they import the app.
    Without TASKFLEET_STAGE, the names are those of the stage `dev`.
    """
    environ = os.environ if environ is None else environ
    return load({name: value for name, value in environ.items() if name in _AT_IMPORT})


def add_events(app: Chalice, services: Callable[[], Services]) -> None:
    """Adds the handlers to the app."""
    names = stage_settings()

    @app.on_sqs_message(
        queue=names.response_queue,
        batch_size=RESPONSES_A_CALL,
        maximum_concurrency=names.collectors,
    )
    def collect_responses(event: SQSEvent) -> dict[str, Any]:
        """Counts responses. Returns Lambda's partial batch response: the messages that stay."""
        records = [record.to_dict() for record in event]
        bodies = {record["messageId"]: record["body"] for record in records}
        services().recorder.observe(COLLECTOR_LAG_SECONDS, _ages_s(records, services().clock.now()))
        spent = services().odometer.take() + event_source_spend(len(bodies), RESPONSES_A_CALL)
        current = services()
        to_keep = collect(
            bodies,
            current.monitor,
            current.clock,
            spent,
            ended=current.ended,
            learn=current.learner.learn,
        )
        return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in to_keep]}

    @app.on_sqs_message(
        queue=names.upload_queue, batch_size=1, maximum_concurrency=UPLOADS_AT_A_TIME
    )
    def expand_upload(event: SQSEvent) -> None:
        """Reads the file of a batch. A message that cannot be decoded raises an error, so that SQS
        delivers it again and at last moves it to the dead-letter queue."""
        context: Any = event.context
        for record in event:
            wanted = decode_upload(record.body)
            services().expansion.expand(
                wanted.batch_id,
                lambda: context.get_remaining_time_in_millis() / 1000,
                ended=wanted.ended,
                again=_received(record.to_dict()) > 1,
            )

    @app.schedule("rate(1 minute)")
    def tick(event: CloudWatchEvent) -> None:
        """Logs who calls, and how many messages wait and are in flight, for dashboards and alarms.
        Then submits the batches of schedules that are due, and runs the provisioner, for up to
        `TICK_S` while there is work or a machine. Raises what made either fail, after both had
        their turn, so that Lambda counts an error and the alarm on them fires."""
        current = services()
        ends_at = current.clock.now() + TICK_S
        depth = current.task_queue.depth()
        _log.info(
            "queue depth",
            extra=fields(
                "queue_depth",
                backlog=depth.backlog,
                in_flight=depth.in_flight,
                called_by=[resource.rpartition("/")[2] for resource in event.resources],
            ),
        )
        failure = None
        try:
            until = ends_at - TICK_S + SCHEDULES_S
            current.schedules.submit_due(lambda: until - current.clock.now())
        except TaskfleetError as error:  # machines are needed all the same
            failure = error
        if current.provisioner is not None:
            current.provisioner.run(lambda: ends_at - current.clock.now(), depth)
        if failure is not None:
            raise failure


def _received(record: Mapping[str, Any]) -> int:
    """Returns how often the message of an event was received, as far as SQS tells."""
    return int(record.get("attributes", {}).get("ApproximateReceiveCount", 1))


def _ages_s(records: Iterable[Mapping[str, Any]], now: float) -> list[float]:
    """Returns the seconds since the messages of an event were sent. SQS tells when, in
    milliseconds; an event made by hand may not."""
    sent = [record.get("attributes", {}).get("SentTimestamp") for record in records]
    return [now - int(milliseconds) / 1000 for milliseconds in sent if milliseconds]
