"""How often results are read for while a client waits for them."""

from __future__ import annotations

import math

import pytest

from taskfleet.scheduler.waiting import (
    FEW,
    FIRST_POLL_S,
    READ_S,
    SLOWEST_POLL_S,
    STEADY_POLL_S,
    first_poll_s,
    resumed_poll_s,
)


@pytest.mark.parametrize(
    ("age_s", "unchanged_s", "ended", "outstanding", "pause_s"),
    [
        (0.0, 0.0, 0, 64, FIRST_POLL_S),  # nothing is known
        (1.0, 1.0, 1_000, 64, FIRST_POLL_S),  # all come within a few of the least pauses
        (4.0, 4.0, 40, 24, 0.15),
        (4.0, 0.8, 40, 24, 0.15),
        (4.0, 0.03, 10, FEW - 1, 0.01),
        (4.0, 3.0, 0, 64, math.sqrt(0.009)),
        (3_600.0, 3_600.0, 0, 64, SLOWEST_POLL_S),
        (6.4, 6.4, 40, FEW, 0.04),
        (9.6, 9.6, 40, FEW - 1, 0.045),
        (6.4, 6.4, 40, 0, FIRST_POLL_S),
        (3_600.0, 3_600.0, 40, 24, STEADY_POLL_S),
        (3_600.0, 0.0, 40, 1, FIRST_POLL_S),  # it was idle for an hour
        (0.0, 0.0, 5, 24, FIRST_POLL_S),
    ],
)
def test_the_first_pause_follows_the_rhythm_of_results(
    age_s: float, unchanged_s: float, ended: int, outstanding: int, pause_s: float
) -> None:
    assert first_poll_s(age_s, unchanged_s, ended, outstanding) == pytest.approx(pause_s)


@pytest.mark.parametrize("waited_s", [0.5, 2.0, 8.0, 60.0])
def test_a_client_that_asks_again_loses_least_by_reads_and_by_waiting(waited_s: float) -> None:
    def lost_s(pause_s: float) -> float:
        return waited_s / pause_s * READ_S + pause_s / 2

    best_s = resumed_poll_s(waited_s)
    assert FIRST_POLL_S < best_s < SLOWEST_POLL_S
    assert lost_s(best_s) < min(lost_s(0.9 * best_s), lost_s(1.1 * best_s))


def test_the_pause_of_a_client_that_asks_again_has_bounds() -> None:
    assert resumed_poll_s(0.0) == resumed_poll_s(-5.0) == FIRST_POLL_S
    assert resumed_poll_s(1e6) == SLOWEST_POLL_S
