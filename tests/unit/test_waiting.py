"""How often results are read for while a client waits for them."""

from __future__ import annotations

import math

import pytest

from taskfleet.scheduler.waiting import (
    BLIND_GROWTH,
    FEW,
    FIRST_POLL_S,
    LOOKED_AT_S,
    POLL_GROWTH,
    QUICK_POLL_S,
    READ_S,
    SLOWEST_POLL_S,
    STEADY_POLL_S,
    best_poll_s,
    first_poll_s,
    is_looked_at,
    next_poll_s,
)


@pytest.mark.parametrize(
    ("eta_s", "unchanged_s", "outstanding", "pause_s"),
    [
        (None, 0.0, 64, FIRST_POLL_S),  # nothing is known
        (None, 3.0, 64, math.sqrt(0.009)),
        (None, 3_600.0, 64, SLOWEST_POLL_S),
        (0.1, 1.0, 64, FIRST_POLL_S),  # all come within a few of the least pauses
        (2.4, 4.0, 24, 0.15),
        (2.4, 0.8, 24, 0.15),
        (2.4, 0.03, FEW - 1, math.sqrt(0.003 * 0.03)),  # the wait so far is shorter
        (2.4, 5.0, FEW - 1, 0.075),
        (9.0, 9.6, FEW - 1, math.sqrt(0.003 * 9.0)),  # the time left is shorter
        (0.05, 1.0, FEW - 1, QUICK_POLL_S),
        (None, 0.0, FEW - 1, QUICK_POLL_S),
        (0.64, 6.4, FEW, 0.04),
        (0.72, 9.6, FEW - 1, 0.0225),
        (0.0, 6.4, 0, QUICK_POLL_S),
        (3_600.0, 3_600.0, 24, STEADY_POLL_S),
        (90.0, 0.0, 1, QUICK_POLL_S),
    ],
)
def test_the_first_pause_follows_the_rhythm_of_results(
    eta_s: float | None, unchanged_s: float, outstanding: int, pause_s: float
) -> None:
    assert first_poll_s(eta_s, unchanged_s, outstanding) == pytest.approx(pause_s)


@pytest.mark.parametrize("waited_s", [0.5, 2.0, 8.0, 60.0])
def test_a_client_that_asks_again_loses_least_by_reads_and_by_waiting(waited_s: float) -> None:
    def lost_s(pause_s: float) -> float:
        return waited_s / pause_s * READ_S + pause_s / 2

    best_s = best_poll_s(waited_s)
    assert QUICK_POLL_S < best_s < SLOWEST_POLL_S
    assert lost_s(best_s) < min(lost_s(0.9 * best_s), lost_s(1.1 * best_s))


def test_the_pause_of_a_client_that_asks_again_has_bounds() -> None:
    assert best_poll_s(0.0) == best_poll_s(-5.0) == QUICK_POLL_S
    assert best_poll_s(1e6) == SLOWEST_POLL_S


@pytest.mark.parametrize(
    ("waited_s", "eta_s", "outstanding", "growth"),
    [
        (0.5, None, FEW, BLIND_GROWTH),
        (0.5, None, FEW - 1, POLL_GROWTH),
        (0.5, 0.4, FEW, POLL_GROWTH),
        (0.5, 0.6, 1, 1.0),
        (0.5, 60.0, 1_000, 1.0),
    ],
)
def test_pauses_grow_when_nobody_knows_when_results_come(
    waited_s: float, eta_s: float | None, outstanding: int, growth: float
) -> None:
    assert next_poll_s(0.1, waited_s, eta_s, outstanding) == pytest.approx(0.1 * growth)
    assert next_poll_s(SLOWEST_POLL_S, waited_s, eta_s, outstanding) == SLOWEST_POLL_S


@pytest.mark.parametrize(
    ("outstanding", "unchanged_s", "looked_at"),
    [
        (1, 0.0, True),
        (FEW - 1, LOOKED_AT_S - 0.1, True),
        (FEW, 0.0, False),
        (1, LOOKED_AT_S, False),
        (1, -3.0, True),  # where clocks differ
    ],
)
def test_the_last_few_bundles_are_looked_at_soon_after_the_last_tasks(
    outstanding: int, unchanged_s: float, looked_at: bool
) -> None:
    assert is_looked_at(outstanding, unchanged_s) is looked_at
