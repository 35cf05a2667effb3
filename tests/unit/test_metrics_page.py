"""The page about metrics lists every metric of the code, as the code describes it."""

from __future__ import annotations

import re
from pathlib import Path

from taskfleet.measure import METRICS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_table_has_the_metrics_of_the_code() -> None:
    rows = [
        f"| `{metric.name}` | {'seconds' if metric.is_time else 'counter'} "
        f"| {', '.join(f'`{label}`' for label in metric.labels) or 'none'} | {metric.about} |"
        for metric in METRICS
    ]
    assert re.findall(r"^\| `[a-z_]+` \| (?:seconds|counter) .*$", PAGE, re.MULTILINE) == rows


def test_no_two_metrics_share_a_name() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert re.fullmatch(r"[a-z_]+", metric.name)
        assert metric.is_time == metric.name.endswith("_seconds")
