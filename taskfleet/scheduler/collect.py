"""Counts the responses on `Processed_Task` into the progress of their batches. Owns how a response
is counted; `TaskMonitor.record_progress` makes sure that each is counted once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from taskfleet.batch import BatchRecord, Tally
from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import Response, bundle_number
from taskfleet.errors import Undecodable
from taskfleet.log import bound, fields
from taskfleet.pace import Sample
from taskfleet.ports import Clock, TaskMonitor
from taskfleet.scheduler.ended import UNHEARD, Ended
from taskfleet.wire.envelopes import decode_responses
from taskfleet.wire.queues import LegacyResponseMessage

_log = logging.getLogger(__name__)

_LONGEST_TASK_S = 30 * 86_400.0
"""Longest duration of a task that is believed, in seconds."""


def collect(
    bodies: Mapping[str, str],
    monitor: TaskMonitor,
    clock: Clock,
    overhead: Spend = NOTHING,
    *,
    ended: Ended = UNHEARD,
    learn: Callable[[Mapping[str, Sample]], None] | None = None,
) -> list[str]:
    """Count responses. Returns the ids of messages that must stay on the queue: responses to
    programs of 2014, which read them from there themselves.

    bodies: message id -> body.
    overhead: what receiving these messages cost; it is divided among their batches.
    ended: is told of each batch that has ended with one of these responses or an earlier one.
    learn: takes the durations of the tasks, by the name of their pace; by default the table does,
        at once.

    Raises TransientError when the table is busy, and what a listener of `ended` raises; the caller
    then passes all of them again.
    """
    to_keep: list[str] = []
    by_batch: dict[str, dict[int, Response]] = {}
    spends: dict[str, Spend] = {}
    samples: dict[str, Sample] = {}
    for message_id, body in bodies.items():
        decoded = decode_responses(body)
        if isinstance(decoded, LegacyResponseMessage):
            to_keep.append(message_id)
            continue
        for response in decoded:
            if isinstance(response, Undecodable):
                # Trying again would not help. The bundle's record still holds the results.
                reason = str(response)
                _log.error(
                    "an unreadable response was dropped",
                    extra=fields("response_undecodable", message_id=message_id, reason=reason),
                )
                continue
            batch_id = response.batch_id
            by_batch.setdefault(batch_id, {})[bundle_number(response.job_id)] = response
            spends[batch_id] = spends.get(batch_id, NOTHING) + response.spend
            for name, sample in response.timings.items():
                # The kind's own pace is that of all its tasks; the provisioner counts by kind.
                for each in {name, name.partition(":")[0]}:
                    samples[each] = samples.get(each, Sample()) + sample
    counted: list[BatchRecord] = []
    for batch_id, responses in by_batch.items():
        with bound(next(iter(responses.values())).trace_id):
            spend = spends[batch_id] + overhead / len(by_batch)
            batch = _count(monitor, responses, clock.now(), spend)
        if batch is not None:
            counted.append(batch)
    # Everything is counted first, so that an error of a listener keeps no result from its batch.
    for batch in counted:
        with bound(batch.trace_id):
            ended.tell(batch)
    if samples:
        (learn or monitor.learn)(samples)
    return to_keep


def _count(
    monitor: TaskMonitor, responses: Mapping[int, Response], now: float, spend: Spend
) -> BatchRecord | None:
    """Count the responses of one batch, by bundle number. Returns the batch as it is then, None if
    it has no bundle or task of the last ones. When the batch lacks a bundle or task of
    them, each half is counted by itself, so that a forged response takes no other with it."""
    batch_id = next(iter(responses.values())).batch_id
    tallies = {number: Tally.of(each.results) for number, each in responses.items()}
    checksums = {number: each.checksum for number, each in responses.items()}
    last_index = max(row.index for each in responses.values() for row in each.results)
    busy_ms = {number: _busy_ms(each) for number, each in responses.items()}
    batch = monitor.record_progress(
        batch_id,
        tallies,
        now,
        spend,
        last_index=last_index,
        checksums=checksums,
        busy_ms=busy_ms,
    )
    if batch is not None:
        return batch
    if len(responses) > 1:
        pairs = list(responses.items())
        halves = (pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :])
        first, second = (_count(monitor, dict(half), now, spend / 2) for half in halves)
        return second or first
    _log.warning(
        "a response for an unknown batch, bundle or task was dropped",
        extra=fields("batch_unknown", batch_id=batch_id, bundle=min(responses)),
    )
    return None


def _busy_ms(response: Response) -> int:
    """Milliseconds that the last executions of the tasks took. A response may be forged, so a
    duration that no task can have is left out."""
    durations_s = (row.duration_s or 0.0 for row in response.results)
    return round(1000 * sum(each for each in durations_s if 0 < each <= _LONGEST_TASK_S))
