"""Counts the responses on `Processed_Task` into the progress of their batches. Owns how a response
is counted; `TaskMonitor.record_progress` makes sure that each is counted once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from taskfleet.batch import Tally
from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import Response, bundle_number, job_id
from taskfleet.errors import Undecodable
from taskfleet.log import fields
from taskfleet.pace import Sample
from taskfleet.ports import Clock, TaskMonitor
from taskfleet.wire.queues import LegacyResponseMessage, decode_response

_log = logging.getLogger(__name__)

_NUMBER_END = 1_000_000_000
"""First number that no bundle can have. The table can store every number below it."""


def collect(
    bodies: Mapping[str, str], monitor: TaskMonitor, clock: Clock, overhead: Spend = NOTHING
) -> list[str]:
    """Count responses. Returns the ids of messages that must stay on the queue: responses to
    programs of 2014, which read them from there themselves.

    bodies: message id -> body.
    overhead: what receiving these messages cost; it is divided among their batches.

    Raises TransientError when the table is busy; the caller then passes all of them again.
    """
    to_keep: list[str] = []
    tallies: dict[str, dict[int, Tally]] = {}
    spends: dict[str, Spend] = {}
    samples: dict[str, Sample] = {}
    for message_id, body in bodies.items():
        try:
            response = decode_response(body)
            if isinstance(response, LegacyResponseMessage):
                to_keep.append(message_id)
                continue
            number = _number_in_batch(response)
        except (Undecodable, ValueError) as error:
            # Trying again would not help. The bundle's record still holds the results.
            _log.error(
                "an unreadable response was dropped",
                extra=fields("response_undecodable", message_id=message_id, reason=str(error)),
            )
            continue
        batch_id = response.batch_id
        tallies.setdefault(batch_id, {})[number] = Tally.of(response.results)
        spends[batch_id] = spends.get(batch_id, NOTHING) + response.spend
        for kind, sample in response.timings.items():
            samples[kind] = samples.get(kind, Sample()) + sample
    for batch_id, by_number in tallies.items():
        spend = spends[batch_id] + overhead / len(tallies)
        if not monitor.record_progress(batch_id, by_number, clock.now(), spend):
            _log.warning(
                "responses for an unknown batch were dropped",
                extra=fields("batch_unknown", batch_id=batch_id, bundles=len(by_number)),
            )
    if samples:
        monitor.learn(samples)
    return to_keep


def _number_in_batch(response: Response) -> int:
    """Returns the bundle's number. Raises ValueError when its job id does not belong to its batch.

    A worker copies both ids from the message that it received, and anybody with access to the queue
    can send one. A wrong pair would be counted in place of another bundle.
    """
    number = bundle_number(response.job_id)
    possible = 0 <= number < _NUMBER_END
    expected = job_id(response.batch_id, number)
    if not response.batch_id or not possible or response.job_id != expected:
        raise ValueError(
            f"job {response.job_id!r:.60} is not a bundle of batch {response.batch_id!r:.60}"
        )
    return number
