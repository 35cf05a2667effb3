"""What waits, of which kinds, and how much arrives: estimated from the totals of demand, the
queue's own count and the workers' reports. Pure; the reading belongs to
`taskfleet.provisioner.reconcile`.

The queue counts messages, and its count may be a minute old. The totals of demand say of which
kinds the newest messages are; the workers say how many messages they have claimed.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import msgspec

from taskfleet.pace import ASSUMED_TASK_S
from taskfleet.provisioner.policy import KindLoad
from taskfleet.provisioner.records import (
    Demand,
    FleetState,
    KindDemand,
    Reading,
    Snapshot,
    WorkerRecord,
    total_by_kind,
)

RECENT_S = 150.0
"""Snapshots younger than this are all kept; older ones are thinned out."""
KEPT_OLD = 20
"""Most snapshots older than `RECENT_S`."""
STALE_S = 60.0
"""How old the queue's count may be."""
EMPTY_S = 20.0
"""How long a worker's report that the queue is empty is believed."""
RATE_WINDOW_S = 15.0
"""Length of the windows in which arrivals are counted."""
STREAM_BATCHES = 4
"""Batches in a window from which on arrivals count as a stream that goes on."""
UNKNOWN_KIND = "?"
"""Kind of messages that did not come through the API."""

Totals = Sequence[tuple[float, float]]
"""(time, all that ever came until then), oldest first."""


class Estimate(msgspec.Struct, frozen=True):
    """The work of a stage, as the policy is told of it.

    loads: tasks that wait and run, by kind.
    arriving: slots that a stream of tasks keeps busy (tasks a second times seconds each); 0 when
        what arrives is no stream.
    trickling: whether some tasks arrive all the time.
    """

    loads: list[KindLoad]
    arriving: float
    trickling: bool


def claimed_since(
    before: FleetState, workers: Sequence[WorkerRecord]
) -> tuple[float, dict[str, int]]:
    """The messages that workers were ever seen to claim, and each worker's own count now."""
    claimed = {w.worker_id: w.bundles for w in workers}
    more = sum(max(0, n - before.claimed.get(name, 0)) for name, n in claimed.items())
    return (before.history[-1].started if before.history else 0.0) + more, claimed


def extended(history: Sequence[Snapshot], newest: Snapshot) -> list[Snapshot]:
    """The history with one more snapshot, thinned out, oldest first. It begins anew when the totals
    did, as after the table's item has expired."""
    if history and newest.demand.messages < history[-1].demand.messages:
        history = []
    recent = [s for s in history if newest.at - s.at <= RECENT_S]
    old = [s for s in history if newest.at - s.at > RECENT_S]
    if len(old) > KEPT_OLD:
        old = [*old[: KEPT_OLD // 2 : 2], *old[KEPT_OLD // 2 :]]
    if not history:
        # Nobody knows when the messages came. When nothing was started, all may be new.
        ago_s = RECENT_S if newest.started else 1.0
        old = [Snapshot(newest.at - ago_s, Demand(), 0.0)]
    return [*old, *recent, newest]


def estimate(
    reading: Reading,
    history: Sequence[Snapshot],
    alive: Sequence[WorkerRecord],
    slots_a_machine: int,
) -> Estimate:
    """Estimate the work from a reading. `history` ends with the snapshot of this reading, `alive`
    are the workers that report."""
    loads = _loads(reading, history, alive, slots_a_machine)
    rate = steady_rate([(s.at, float(s.demand.tasks)) for s in history], reading.at)
    return Estimate(loads, _arriving(history, loads, rate, reading.at), rate > 0)


def steady_rate(totals: Totals, now: float) -> float:
    """What arrives steadily, a second: the median of the last three windows. A single burst, which
    is a backlog and no stream, counts as nothing."""
    edges = [_total_at(totals, now - n * RATE_WINDOW_S) for n in range(4)]
    counts = sorted(late - early for late, early in itertools.pairwise(edges))
    return max(0.0, counts[1] / RATE_WINDOW_S)


def is_stream(batches_a_s: float) -> bool:
    """Whether batches that arrive at this steady rate are a stream that goes on; a few large
    batches one after the other are not."""
    return batches_a_s * RATE_WINDOW_S >= STREAM_BATCHES


def waiting_at_least(arrived: Totals, started: Totals, now: float) -> float:
    """How many messages that arrived lately cannot have been started yet, whatever the queue's old
    count says."""
    since = now - STALE_S
    came = _total_at(arrived, now) - _total_at(arrived, since)
    return max(0.0, came - (_total_at(started, now) - _total_at(started, since)))


def _total_at(totals: Totals, moment: float) -> float:
    found = totals[0][1] if totals else 0.0
    for at, total in totals:
        if at > moment:
            break
        found = total
    return found


def _loads(
    reading: Reading,
    history: Sequence[Snapshot],
    alive: Sequence[WorkerRecord],
    slots_a_machine: int,
) -> list[KindLoad]:
    messages = _messages_waiting(reading, history, alive)
    mix = _newest(history, messages)
    share = messages / mix.messages if mix.messages else 0.0
    waiting = {name: kind.tasks * share for name, kind in mix.kinds.items()}
    if messages and not mix.messages:
        waiting[UNKNOWN_KIND] = float(messages)
    running: dict[str, int] = {}
    limits: dict[str, int] = {}
    for worker in alive:
        running = total_by_kind(running, worker.running)
        limits |= worker.limits
        for name, count in worker.pending.items():
            waiting[name] = waiting.get(name, 0.0) + count
    return [
        KindLoad(
            name,
            waiting.get(name, 0.0),
            running.get(name, 0),
            _mean_s(name, mix, history, reading.means_s),
            max(1.0, slots_a_machine / limits[name]) if limits.get(name) else 1.0,
        )
        for name in {**waiting, **running}
        if waiting.get(name) or running.get(name)
    ]


def _messages_waiting(
    reading: Reading, history: Sequence[Snapshot], alive: Sequence[WorkerRecord]
) -> float:
    """The queue's count, corrected: what came after it was taken waits too, and a worker that finds
    the queue empty knows better."""
    least = waiting_at_least(
        [(s.at, float(s.demand.messages)) for s in history],
        [(s.at, s.started) for s in history],
        reading.at,
    )
    if any(w.finds_queue_empty and reading.at - w.reported_at < EMPTY_S for w in alive):
        came_since = _newest_since(history, reading.at - EMPTY_S).messages
        return min(least, float(came_since))
    return max(float(reading.depth.backlog), least)


def _newest(history: Sequence[Snapshot], messages: float) -> Demand:
    """The demand of the newest `messages` messages, or of a few more. They are what waits, since
    the queue is nearly first in, first out."""
    newest = history[-1].demand
    for snapshot in reversed(history):
        found = newest.since(snapshot.demand)
        if found.messages and found.messages >= messages:
            return found
    return newest.since(history[0].demand)


def _newest_since(history: Sequence[Snapshot], moment: float) -> Demand:
    earlier = [s for s in history if s.at <= moment] or history[:1]
    return history[-1].demand.since(earlier[-1].demand)


def _mean_s(
    name: str, mix: Demand, history: Sequence[Snapshot], learned: Mapping[str, float]
) -> float | None:
    """Mean seconds of one task of the kind: as its kind says beforehand, else as learned."""
    known = mix.kinds.get(name, KindDemand())
    if not known.known:
        known = history[-1].demand.kinds.get(name, KindDemand())
    if known.known:
        return known.known_s / known.known
    return learned.get(name)


def _arriving(
    history: Sequence[Snapshot], loads: Sequence[KindLoad], tasks_a_s: float, now: float
) -> float:
    """Slots that the stream keeps busy; 0 when what arrives is no stream."""
    if not is_stream(steady_rate([(s.at, float(s.demand.batches)) for s in history], now)):
        return 0.0
    came = _newest_since(history, now - RECENT_S / 2)
    means = {load.kind: load.mean_s for load in loads}
    busy_s = sum(
        kind.known_s + (kind.tasks - kind.known) * (means.get(name) or ASSUMED_TASK_S)
        for name, kind in came.kinds.items()
    )
    return tasks_a_s * busy_s / max(1, came.tasks)
