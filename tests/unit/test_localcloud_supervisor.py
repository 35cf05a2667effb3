"""The pauses between the restarts of a part that keeps ending."""

from __future__ import annotations

import pytest

from localcloud.supervisor import restart_delay_s


@pytest.mark.parametrize(
    ("quick_ends", "delay_s"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 4), (6, 16), (7, 30), (99, 30)]
)
def test_a_part_that_ends_soon_after_each_start_waits_longer_each_time(
    quick_ends: int, delay_s: float
) -> None:
    assert restart_delay_s(quick_ends) == delay_s
