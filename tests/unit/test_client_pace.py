"""How often the client asks while it waits, and what that costs the API."""

from __future__ import annotations

import pytest

from taskfleet.client.pace import HOLD_S, next_poll


@pytest.mark.parametrize(
    ("age_s", "silent_s", "eta_s", "period_s", "hold_s"),
    [
        (0.0, 0.0, None, 0.1, HOLD_S),
        (10.0, 10.0, None, 0.5, HOLD_S),
        (39.9, 0.1, 300.0, 1.995, HOLD_S),
        (40.0, 40.0, None, 2.0, 0.0),
        (120.0, 1.0, 600.0, 6.0, 0.0),
        (3600.0, 3600.0, None, 8.0, 0.0),
        (3600.0, 1.0, 10.0, 5.0, 0.0),
        (3600.0, 1.0, 8.0, 4.0, HOLD_S),
        (3600.0, 1.0, 0.0, 0.1, HOLD_S),
        (3600.0, 10.0, 8.0, 4.0, HOLD_S),
        (3600.0, 10.1, 8.0, 8.0, 0.0),
        (3600.0, 600.0, 0.5, 8.0, 0.0),
    ],
    ids=[
        "new",
        "young",
        "young-far",
        "grown",
        "far",
        "old-without-a-result",
        "nearer",
        "near",
        "at-its-end",
        "still-expected",
        "overdue",
        "hangs",
    ],
)
def test_the_next_poll(
    age_s: float, silent_s: float, eta_s: float | None, period_s: float, hold_s: float
) -> None:
    assert next_poll(age_s, silent_s, eta_s) == pytest.approx((period_s, hold_s))
