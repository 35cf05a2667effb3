"""The provisioner crashes at each point of its rounds, by SIGKILL, by SIGTERM, and by SIGSTOP while
another one looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.faults.crashes.lanes import Matrix
from tests.faults.crashes.machines import LAUNCH, STRIKE, MachineLane
from tests.faults.crashes.report import report
from tests.support.stage import stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]


def test_a_provisioner_that_crashes_launches_none_twice_and_goes_on(
    start_cloud: Any, tmp_path: Path, figures: Any, deep: bool
) -> None:
    if not deep:
        pytest.skip("launches take minutes: make faults")
    found = figures("crashes", unit="cells")
    with stage(start_cloud, tmp_path) as made:
        lane = MachineLane(Matrix(made))
        of_launch = lane.cells(LAUNCH)
        known = {cell.point for cell in of_launch}
        of_strikes = [cell for cell in lane.cells(STRIKE) if cell.point not in known]
        lane.run(LAUNCH, of_launch)
        lane.run(STRIKE, of_strikes)
    report(lane.matrix.outcomes, [], found)
