"""How often results are read for while a client waits for them."""

from __future__ import annotations

import pytest

from taskfleet.scheduler.waiting import FEW, FIRST_POLL_S, STEADY_POLL_S, first_poll_s


@pytest.mark.parametrize(
    ("age_s", "unchanged_s", "ended", "outstanding", "pause_s"),
    [
        (0.0, 0.0, 0, 64, FIRST_POLL_S),  # nothing is known
        (1.0, 1.0, 1_000, 64, FIRST_POLL_S),  # all come within a few of the least pauses
        (4.0, 4.0, 40, 24, 0.15),
        (4.0, 0.8, 40, 24, 0.15),
        (4.0, 0.16, 10, FEW - 1, 0.02),
        (6.4, 6.4, 40, FEW, 0.04),
        (9.6, 9.6, 40, FEW - 1, 0.045),
        (6.4, 6.4, 40, 0, FIRST_POLL_S),
        (3_600.0, 3_600.0, 40, 24, STEADY_POLL_S),
        (3_600.0, 0.04, 40, 1, FIRST_POLL_S),  # it was idle for an hour
        (0.0, 0.0, 5, 24, FIRST_POLL_S),
    ],
)
def test_the_first_pause_follows_the_rhythm_of_results(
    age_s: float, unchanged_s: float, ended: int, outstanding: int, pause_s: float
) -> None:
    assert first_poll_s(age_s, unchanged_s, ended, outstanding) == pytest.approx(pause_s)
