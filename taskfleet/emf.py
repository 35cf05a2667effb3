"""Metrics as lines of the log, from which CloudWatch makes them without a call and without an
agent of their own. Owns the form of "Specification: Embedded metric format", Amazon CloudWatch User
Guide; not what is measured (`taskfleet.measure`) nor how lines are written (`taskfleet.log`).

CloudWatch bills each combination of a metric and its dimensions as one custom metric, so this is
off unless `TASKFLEET_METRICS=emf`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from taskfleet.log import fields
from taskfleet.measure import NOTHING, Distribution, Labels, Metric, Reading, Series

_log = logging.getLogger(__name__)
_log.setLevel(logging.INFO)  # metrics are asked for by their own setting, not by the log's level

NAMESPACE = "Taskfleet"
"""The namespace of the metrics in CloudWatch."""
VALUES_MAX = 100
"""Most values of one metric in one line (same specification)."""


class EmfLog:
    """Writes what was recorded since it last wrote.

    stage: value of the dimension `Stage`, which every metric has.
    now: returns the time in epoch seconds.
    """

    def __init__(self, stage: str, now: Callable[[], float]) -> None:
        self._stage = stage
        self._now = now
        self._written = NOTHING

    def write(self, reading: Reading) -> None:
        """Write a line for each combination of dimensions that changed."""
        since, self._written = reading - self._written, reading
        for document in documents(since, self._stage, self._now()):
            _log.info("metrics", extra=fields("metrics", **document))


def documents(since: Reading, stage: str, now: float) -> Iterator[dict[str, Any]]:
    """Yields a document of the format for each combination of dimensions in `since`."""
    counts: dict[Series, int] = {}
    for (metric, labels), count in since.counts.items():
        key = metric, _dimensions(metric, labels)
        counts[key] = counts.get(key, 0) + count
    times: dict[Series, Distribution] = {}
    for (metric, labels), time in since.times.items():
        key = metric, _dimensions(metric, labels)
        times[key] = times.get(key, Distribution()) + time
    members: dict[tuple[Labels, Labels], dict[Metric, Any]] = {}
    told = {series: some_values(time) for series, time in times.items()}
    for (metric, values), value in [*counts.items(), *told.items()]:
        members.setdefault((_names(metric), values), {})[metric] = value
    for (names, values), found in members.items():
        dimensions = {"Stage": stage, **dict(zip(map(str.capitalize, names), values, strict=True))}
        directive = {
            "Namespace": NAMESPACE,
            "Dimensions": [list(dimensions)],
            "Metrics": [
                {"Name": metric.name, "Unit": "Seconds" if metric.is_time else "Count"}
                for metric in found
            ],
        }
        yield {
            "_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]},
            **dimensions,
            **{metric.name: value for metric, value in found.items()},
        }


def some_values(time: Distribution, most: int = VALUES_MAX) -> list[float]:
    """Returns at most `most` values that stand for the distribution: each bucket by its mean, as
    often as it has values, or in proportion if those are too many."""
    total = sum(time.counts)
    ranks = [(place + 0.5) * total / most for place in range(most)] if total > most else None
    values: list[float] = []
    before = 0
    for count, sum_s in zip(time.counts, time.sums, strict=True):
        after = before + count
        often = count if ranks is None else sum(before <= rank < after for rank in ranks)
        values += [float(f"{sum_s / count:.6g}")] * often if often else []
        before = after
    return values


def _names(metric: Metric) -> Labels:
    return metric.labels if metric.dimensions is None else metric.dimensions


def _dimensions(metric: Metric, labels: Labels) -> Labels:
    """Returns the values of the labels that are dimensions in CloudWatch."""
    return tuple(labels[metric.labels.index(name)] for name in _names(metric))
