"""Calls the handlers of the Chalice app as Lambda's event sources do: a queue handler with the
messages of its queue, a scheduled handler at its rate. A process of its own:

    python -m localcloud.pump

Like Lambda, the pump knows nothing of what the handlers do. Owns which handlers there are and the
process; `localcloud.queue_source` and `localcloud.schedule_source` own the calling.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import signal
import threading
from collections.abc import Iterator
from types import ModuleType

import boto3
from chalice.app import ScheduledEventConfig, ScheduleExpression, SQSEventConfig

from localcloud.events import interval_s
from localcloud.invoke import Invocations
from localcloud.queue_source import QueueSource
from localcloud.quotas import NO_QUOTAS, Quotas, Slots, of_environment
from localcloud.schedule_source import ScheduleSource
from taskfleet import log, settings
from taskfleet.aws.latency import delay_calls
from taskfleet.log import fields
from taskfleet.settings import Settings

_log = logging.getLogger(__name__)


def sources(
    module: ModuleType, conf: Settings, quotas: Quotas = NO_QUOTAS
) -> Iterator[QueueSource | ScheduleSource]:
    """Yields a source for each event source that the Chalice app `module.app` declares. Handlers
    are looked up in `module`, as Lambda does; a call beyond the quota waits until another ends.
    Raises SystemExit for a kind of event source other than a queue or a schedule."""
    slots = Slots(quotas.lambda_concurrency)
    for config in module.app.event_sources:
        handler = slots.around(getattr(module, config.handler_string.rpartition(".")[2]))
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
            schedule = config.schedule_expression
            if isinstance(schedule, ScheduleExpression):
                schedule = schedule.to_string()
            yield ScheduleSource(config.name, interval_s(schedule), handler, conf.region)
        else:
            raise SystemExit(
                f"the local cloud cannot feed {config.handler_string}: it plays queues and "
                f"schedules only, not {type(config).__name__}"
            )


def main() -> None:
    """Runs the pump until SIGTERM or SIGINT, then waits for the calls of queue handlers."""
    parser = argparse.ArgumentParser(prog="python -m localcloud.pump", description=__doc__)
    parser.add_argument(
        "--invoke-port", type=int, default=0, help="port of Lambda's Invoke; 0: any free (0)"
    )
    options = parser.parse_args()
    conf = settings.load()
    log.set_up(conf.log_level)
    end, signalled = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(signalled, b"."))
    stop = threading.Event()
    running = list(sources(importlib.import_module("app"), conf, of_environment(os.environ)))
    for source in running:
        threading.Thread(target=source.run, args=(stop,), name=source.name, daemon=True).start()
    functions = {
        f"taskfleet-{conf.stage}-{source.name}": source.invoke
        for source in running
        if isinstance(source, ScheduleSource)
    }
    invocations = Invocations(options.invoke_port, functions, os.environ["AWS_ACCESS_KEY_ID"])
    threading.Thread(target=invocations.serve, name="invocations", daemon=True).start()
    names = [source.name for source in running]
    _log.info("the handlers are being fed", extra=fields("pump_started", functions=names))
    os.read(end, 1)
    stop.set()
    for source in running:
        source.finish()


if __name__ == "__main__":
    main()
