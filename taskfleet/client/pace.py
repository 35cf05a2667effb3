"""How often a client asks for the state of a batch that it waits for, and when it lets the API hold
the answer. Owns that rule alone; `taskfleet.client.client` owns the asking.

A held answer keeps a function of the stage running, so a second of it costs as much as several
answers at once. A hold is asked for only where it makes the client see the end sooner: while the
wait is young, since most short batches end then, and when the end is expected within a few seconds.
In between the client asks now and then and is answered at once.
"""

from __future__ import annotations

from typing import NamedTuple

YOUNG_S = 40.0
"""Seconds from the start of a wait in which answers are held."""
NEAR_S = 8.0
"""Answers are held when the batch is expected to end within so many seconds."""
SILENT_S = 2.0
"""An expectation is worth nothing when no result has come for so many seconds more than it gives:
the last task may hang."""
HOLD_S = 20.0
"""Seconds for which the client lets the API hold an answer. The API may answer earlier."""
FASTEST_S = 0.1
"""Least seconds between the starts of two polls."""
SLOWEST_S = 8.0
"""Most seconds between the starts of two polls."""
SHARE = 20
"""The time between two polls is the age of the wait divided by this, so the end is seen later by at
most that part of the time that it took to come, and by half of it on average."""


class Poll(NamedTuple):
    """The next poll.

    period_s: seconds between the start of the last poll and its start.
    hold_s: seconds for which the API may hold its answer; 0 for an answer at once.
    """

    period_s: float
    hold_s: float


def next_poll(age_s: float, silent_s: float, eta_s: float | None) -> Poll:
    """Returns how to ask next.

    age_s: seconds since the wait began.
    silent_s: seconds since the state of the batch was last seen to change, or since the wait began.
    eta_s: seconds until the batch is expected to end, None when unknown.
    """
    expected = eta_s is not None and silent_s <= eta_s + SILENT_S
    period_s = age_s / SHARE
    if eta_s is not None and expected:
        period_s = min(period_s, eta_s / 2)
    near = eta_s is not None and expected and eta_s <= NEAR_S
    hold_s = HOLD_S if near or age_s < YOUNG_S else 0.0
    return Poll(min(max(FASTEST_S, period_s), SLOWEST_S), hold_s)
