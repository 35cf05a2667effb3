"""Measurements of one process: the metrics that there are, and the recorder that adds them up. Owns
names, labels and buckets; not where they go, which is read from here: lines for CloudWatch
(`taskfleet.emf`), and the worker's outlets (`ec2_worker.outlets`).

A measurement costs a lock and an addition. So code records once for each bundle or request, never
once for each task. `docs/metrics.md` has the table of all metrics.
"""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

BOUNDS_S = (
    *(0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
"""Upper bounds of the buckets of a distribution, in seconds. One more bucket has what is above."""
SERIES_MAX = 100
"""Most combinations of labels of one metric. Further ones are counted together, as `OTHER`, so that
no name that a stranger chose can multiply metrics, which CloudWatch bills one by one."""
OTHER = "other"
"""Value of every label of the combinations that are counted together."""


@dataclass(frozen=True)
class Metric:
    """A metric.

    name: as the outlets show it, after a prefix of theirs.
    labels: names of its labels.
    about: what it counts, or measures in seconds.
    is_time: whether it is a distribution of seconds; otherwise it is a counter.
    dimensions: labels that CloudWatch gets; over the others it gets the sum. All unless given.
    """

    name: str
    labels: tuple[str, ...]
    about: str
    is_time: bool = False
    dimensions: tuple[str, ...] | None = None


TASKS = Metric(
    "tasks",
    ("kind", "outcome"),
    "Tasks whose final result a worker recorded; outcome: succeeded, failed, cancelled.",
)
RETRIES = Metric("retries", ("kind",), "Attempts that failed and are made again.")
COPIES = Metric(
    "copies", ("kind",), "Second copies of tasks that took far longer than others of their kind."
)
RUN_SECONDS = Metric("run_seconds", ("kind",), "Run time of each recorded attempt.", is_time=True)
QUEUE_SECONDS = Metric(
    "queue_seconds",
    (),
    "Time from the sending of a bundle to its first claim.",
    is_time=True,
)
DUPLICATES = Metric(
    "duplicates",
    ("outcome",),
    "Deliveries of a bundle that were not executed; outcome: done (it was finished), held (another "
    "worker has it), in_hand (this worker has it).",
)
LEASES_LOST = Metric(
    "leases_lost", (), "Claims that ended before their results were recorded; they do not count."
)
AWS_CALLS = Metric(
    "aws_calls",
    ("service", "operation"),
    "Requests to AWS, each retry as one.",
    dimensions=("service",),
)
COLLECTOR_LAG_SECONDS = Metric(
    "collector_lag_seconds",
    (),
    "Time from the sending of a message with responses to its collection.",
    is_time=True,
)
API_REQUESTS = Metric(
    "api_requests", ("route", "status"), "Requests that the API answered, but for `/health`."
)
API_SECONDS = Metric(
    "api_seconds",
    ("route",),
    "Time to answer them, with that for which an answer was held.",
    is_time=True,
)
METRICS = (
    *(TASKS, RETRIES, COPIES, RUN_SECONDS, QUEUE_SECONDS, DUPLICATES, LEASES_LOST, AWS_CALLS),
    *(COLLECTOR_LAG_SECONDS, API_REQUESTS, API_SECONDS),
)
"""All metrics: of workers, of all processes (`aws_calls`), of the functions."""


@dataclass
class Distribution:
    """Seconds, by bucket of `BOUNDS_S`: how many, and their sums."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_S) + 1))
    sums: list[float] = field(default_factory=lambda: [0.0] * (len(BOUNDS_S) + 1))

    def add(self, values_s: Iterable[float]) -> None:
        """Add values. A negative one, as from two clocks that differ, counts as 0."""
        # Sorted, a thousand values take some twenty steps in Python instead of a thousand.
        values_s = sorted(values_s)
        values_s[: bisect_left(values_s, 0.0)] = [0.0] * bisect_left(values_s, 0.0)
        begin = 0
        for bucket, bound in enumerate((*BOUNDS_S, math.inf)):
            if begin == len(values_s):
                break
            end = bisect_right(values_s, bound, begin)
            self.counts[bucket] += end - begin
            self.sums[bucket] += sum(values_s[begin:end])
            begin = end

    def __add__(self, other: Distribution) -> Distribution:
        return self._with(other, 1)

    def __sub__(self, other: Distribution) -> Distribution:
        return self._with(other, -1)

    def _with(self, other: Distribution, sign: int) -> Distribution:
        return Distribution(
            [a + sign * b for a, b in zip(self.counts, other.counts, strict=True)],
            [a + sign * b for a, b in zip(self.sums, other.sums, strict=True)],
        )


Labels = tuple[str, ...]
Series = tuple[Metric, Labels]
"""A metric with the values of its labels."""


@dataclass(frozen=True)
class Reading:
    """All that a process has recorded since its start."""

    counts: Mapping[Series, int]
    times: Mapping[Series, Distribution]

    def __sub__(self, earlier: Reading) -> Reading:
        """What was recorded since an earlier reading, without the series that did not change."""
        counts = {s: n - earlier.counts.get(s, 0) for s, n in self.counts.items()}
        nothing = Distribution()
        times = {s: t - earlier.times.get(s, nothing) for s, t in self.times.items()}
        return Reading(
            {series: count for series, count in counts.items() if count},
            {series: time for series, time in times.items() if any(time.counts)},
        )


NOTHING = Reading({}, {})


class Recorder:
    """Adds up the measurements of a process. Safe for any number of threads.

    calls: returns the numbers of requests to AWS so far, by service and operation.
    """

    def __init__(self, calls: Callable[[], Mapping[tuple[str, str], int]] = dict) -> None:
        self._calls = calls
        self._lock = threading.Lock()
        self._counts: dict[Metric, dict[Labels, int]] = {}
        self._times: dict[Metric, dict[Labels, Distribution]] = {}

    def count(self, metric: Metric, *labels: str, by: int = 1) -> None:
        """Add to a counter. `labels` are the values of the metric's labels, in their order."""
        with self._lock:
            series = self._counts.setdefault(metric, {})
            key = _bounded(series, labels)
            series[key] = series.get(key, 0) + by

    def observe(self, metric: Metric, values_s: Iterable[float], *labels: str) -> None:
        """Add values, in seconds, to a distribution."""
        with self._lock:
            series = self._times.setdefault(metric, {})
            key = _bounded(series, labels)
            series.setdefault(key, Distribution()).add(values_s)

    def read(self) -> Reading:
        """Returns all that was recorded so far."""
        calls: dict[Series, int] = {(AWS_CALLS, key): n for key, n in self._calls().items()}
        with self._lock:
            counts: dict[Series, int] = {
                (m, key): n for m, each in self._counts.items() for key, n in each.items()
            }
            times = {
                (m, key): t + Distribution()
                for m, each in self._times.items()
                for key, t in each.items()
            }
        return Reading({**counts, **calls}, times)


def _bounded(series: Mapping[Labels, object], labels: Labels) -> Labels:
    if labels in series or len(series) < SERIES_MAX:
        return labels
    return (OTHER,) * len(labels)
