"""Keeping a batch's progress from the responses on `Processed_Task`. Owns what a response counts
for; that each counts once is the monitor's promise (`TaskMonitor.record_progress`)."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from taskfleet.batch import (
    Tally,
)
from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import Response, bundle_number, job_id
from taskfleet.errors import Undecodable
from taskfleet.log import fields
from taskfleet.pace import Sample
from taskfleet.ports import Clock, TaskMonitor
from taskfleet.wire.queues import (
    LegacyResponseMessage,
    decode_response,
)

_log = logging.getLogger(__name__)

_NUMBER_END = 1_000_000_000
"""Beyond any bundle's number, within any table's."""


def collect(
    bodies: Mapping[str, str], monitor: TaskMonitor, clock: Clock, overhead: Spend = NOTHING
) -> list[str]:
    """Count the responses, given as message id -> body. Returns the ids of those that are not for
    this reader and should stay on the queue: answers to programs of 2014, which read it
    themselves. `overhead` is what bringing them here cost. Raises TransientError when the table
    would not have it: collect all again.
    """
    stay: list[str] = []
    tallies: dict[str, dict[int, Tally]] = {}
    spends: dict[str, Spend] = {}
    samples: dict[str, Sample] = {}
    for message_id, body in bodies.items():
        try:
            response = decode_response(body)
            if isinstance(response, LegacyResponseMessage):
                stay.append(message_id)
                continue
            number = _number_in_batch(response)
        except (Undecodable, ValueError) as error:
            # Nothing could ever count it; its bundle's item still holds the results.
            _log.error(
                "a response that cannot be read was dropped",
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
    return stay


def _number_in_batch(response: Response) -> int:
    """A worker answers whatever bundle anybody put on the queue, under the names it came with: one
    that is not its batch's would be counted in the place of another. ValueError for such."""
    number = bundle_number(response.job_id)
    theirs = job_id(response.batch_id, number)
    possible = 0 <= number < _NUMBER_END
    if not response.batch_id or not possible or response.job_id != theirs:
        raise ValueError(f"{response.job_id!r:.60} is no bundle of {response.batch_id!r:.60}")
    return number
