"""How long an answer is held for a client that waits, and how often the table is read meanwhile.
Owns these rules alone; `taskfleet.scheduler.results` and `taskfleet.scheduler.completed` read.
"""

from __future__ import annotations

import math

from taskfleet.batch import BatchRecord

FIRST_POLL_S = 0.01
"""Seconds until the first read of a waiting request, at least."""
QUICK_POLL_S = 0.005
"""The same for a client that waits for the results of few bundles."""
SLOWEST_POLL_S = 1.0
"""Most seconds between two reads of a waiting request."""
POLL_GROWTH = 1.08
"""Factor between two pauses. A change is seen later by at most about 1/12 of the time that it took
to come. One read costs about an eight-millionth of a dollar, and up to 21 times as much while a
batch of more than 250 bundles runs."""
BLIND_GROWTH = 1.25
"""The same before the first result of many bundles, which is seldom all that a client waits for. It
is seen later by at most a fifth of the time that it took."""
READ_S = 0.0015
"""Time that one read takes from the tasks where API, table and tasks share two cores: it costs 3 ms
of their processor."""
STEADY_POLL_S = 0.5
"""Most seconds of the first pause while results come steadily (`first_poll_s`)."""
STEADY_SHARE = 16
"""Divides the expected time until the end of the batch (`first_poll_s`)."""
LAST_SHARE = 32
"""The same for few bundles. The end is often twice as near as expected, since nothing of bundles
that run is counted."""
FEW = 4
"""Fewer outstanding bundles than this may be what a client waits for to go on."""
LOOKED_AT_S = 10.0
"""Seconds after the last tasks in which so few bundles are looked at themselves. They are seen as
soon as they are recorded, and not about 10 ms later when they are counted, and come with that read.
A bundle that runs has a small record, so the read costs at most four times as much. Later the
difference is little, and the record of a bundle that was renewed may have 400 KB, which cost a
hundred times as much."""
WAIT_HOLD_S = 2.0
"""Seconds for which an answer is held for a batch that is not about to end. A held answer takes one
of the functions that the account may run at a time (1,000, or 10 in a new account). With 1,000
clients that wait for long batches, each asking for 20 s, 1,000 functions were held all the time.
Taskfleet's client (`taskfleet.client.pace`) asks for a hold only while its wait is young and near
the end of the batch. One that asks again at once is bounded by the API's limit of calls only."""
NEAR_HOLD_S = 8.0
"""Most seconds for which an answer is held for a batch that is about to end. API Gateway lets 100
calls a second through (`infra.functions`), so whoever asks for such batches without a pause holds
at most 800 of the account's 1,000 functions."""
_SETTLE_S = (0.1, 2.0)
"""Least and most seconds for which an answer is held after the first change, since others often
follow. In between, it is the age of the batch divided by `_SETTLE_SHARE`: who waits for a long
batch and asks again at once would otherwise be answered, and bill a call, at each of its tasks. The
end of the batch is answered at once."""
_SETTLE_SHARE = 10
"""Divides the age of a batch (`_SETTLE_S`)."""


def hold_s(batch: BatchRecord, now: float, wait_s: float) -> float:
    """Returns the seconds for which the answer to a client that waits up to `wait_s` is held. An
    expectation is worth nothing when no result has come for longer than the time that it gives: the
    last task may hang."""
    near_s = min(wait_s, NEAR_HOLD_S)
    eta_s = batch.eta_s(now)
    if eta_s is not None and eta_s <= near_s and batch.progressed_at is not None:
        silent_s = now - batch.progressed_at
        if silent_s <= eta_s + WAIT_HOLD_S:
            return near_s
    return min(wait_s, WAIT_HOLD_S)


def settle_s(age_s: float) -> float:
    """Returns the seconds for which an answer about a batch of this age is held after a change."""
    least_s, most_s = _SETTLE_S
    return min(max(least_s, age_s / _SETTLE_SHARE), most_s)


def first_poll_s(eta_s: float | None, unchanged_s: float, outstanding: int) -> float:
    """Returns the pause before the first read for results of a batch that is expected to end in
    `eta_s` (None if nothing is known), got its last tasks `unchanged_s` ago, and has so many
    bundles whose results were not given. Where results come one after the other, few clients gain
    by the news of one of them at once, and each read costs the processor of the API and of the
    table. The pause is then 1/16 of the time until the end, up to `STEADY_POLL_S`. Results come
    later by half of that in the mean, so a client that hands in a task for each result, and no more
    tasks than slots, loses 1/32 of their time. Few bundles may be all that a client waits for. For
    these it is 1/32, and at most what `best_poll_s` gives for the time until the end and for the
    time since the last tasks. Before the first result it is the latter."""
    least_s = QUICK_POLL_S if outstanding < FEW else FIRST_POLL_S
    if eta_s is None:
        return max(least_s, best_poll_s(unchanged_s))
    pause_s = eta_s / STEADY_SHARE
    if outstanding < FEW:
        pause_s = min(eta_s / LAST_SHARE, best_poll_s(min(eta_s, unchanged_s)))
    return min(max(least_s, pause_s), STEADY_POLL_S)


def best_poll_s(wait_s: float) -> float:
    """Returns the pause for a wait of so many seconds, below 0 where clocks differ. News are late
    by half a pause, and the reads take `wait_s / pause * READ_S` from the work: this pause makes
    the sum of both least. The square root forgives much: with half or twice the time, the sum is
    larger by 6 %."""
    best_s = math.sqrt(2 * READ_S * max(0.0, wait_s))
    return min(max(QUICK_POLL_S, best_s), SLOWEST_POLL_S)


def is_looked_at(outstanding: int, unchanged_s: float) -> bool:
    """Returns whether the bundles of a batch are looked at themselves: so many were not given, and
    the last tasks came so many seconds ago."""
    return outstanding < FEW and unchanged_s < LOOKED_AT_S


def next_poll_s(
    poll_s: float, waited_s: float = 0.0, eta_s: float | None = None, outstanding: int = 1
) -> float:
    """Returns the pause after one of `poll_s` in a wait of `waited_s` so far, for so many bundles,
    the last of which was expected to end in `eta_s` from its start (None if nothing was known). Up
    to then the pauses stay as they are."""
    if eta_s is not None and waited_s < eta_s:
        return poll_s
    growth = BLIND_GROWTH if eta_s is None and outstanding >= FEW else POLL_GROWTH
    return min(poll_s * growth, SLOWEST_POLL_S)


def completion_settle_s(waited_s: float) -> float:
    """Returns the seconds for which an answer with results is held after the first one came, since
    others often follow: a tenth of the time that it took to come, from 0.03 to 0.5. It is short,
    since a client may hand in its next tasks when it has them."""
    return min(max(0.03, waited_s / 10), 0.5)
