"""Paces: how long tasks of a kind take, learned from tasks that ran. Owns an exponentially weighted
mean and variance, as pure functions; not their storage.

Source: T. Finch, "Incremental calculation of weighted mean and variance", University of Cambridge,
2009, section 9. A sample of n tasks is applied as n steps at once, each with the sample's mean.
"""

from __future__ import annotations

import math
from typing import Annotated

import msgspec
from msgspec import Meta

WEIGHT = 0.02
"""Weight of one task in the mean. The last 50 tasks make up about two thirds of it."""
SLOW_WEIGHT = 0.0005
"""The same in the slow mean, which spans several batches. The tasks that end last in a batch are
its longest, so the mean alone is too high when a batch has just ended."""

ASSUMED_TASK_S = 10.0
"""Assumed duration of a task, in seconds, if its kind neither predicts it nor has finished a
task."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """Measured durations of tasks, as sums, so that samples can be added.

    tasks: number of tasks.
    total_s: sum of their durations, in seconds.
    total_s2: sum of the squares of their durations, in seconds squared.
    """

    tasks: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    total_s: Annotated[float, Meta(ge=0, le=1e11)] = 0.0
    total_s2: Annotated[float, Meta(ge=0, le=1e17)] = 0.0

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            self.tasks + other.tasks,
            self.total_s + other.total_s,
            self.total_s2 + other.total_s2,
        )

    def add(self, seconds: float) -> Sample:
        """Returns the sample with one more task of this duration."""
        return Sample(self.tasks + 1, self.total_s + seconds, self.total_s2 + seconds * seconds)


class Pace(msgspec.Struct, frozen=True):
    """Learned duration of the tasks of one kind.

    tasks: tasks learned from.
    mean_s: weighted mean, in seconds.
    variance_s2: weighted variance, in seconds squared.
    slow_mean_s, slow_variance_s2: the same with `SLOW_WEIGHT`; None in a record of an earlier
        version.
    """

    tasks: int = 0
    mean_s: float = 0.0
    variance_s2: float = 0.0
    slow_mean_s: float | None = None
    slow_variance_s2: float | None = None

    def learn(self, sample: Sample) -> Pace:
        """Returns the pace updated with the sample."""
        if not sample.tasks:
            return self
        mean = sample.total_s / sample.tasks
        variance = max(0.0, sample.total_s2 / sample.tasks - mean * mean)
        if not self.tasks:
            return Pace(sample.tasks, mean, variance, mean, variance)
        # Until enough tasks are known, each mean is the plain average over all of them.
        share = sample.tasks / (self.tasks + sample.tasks)

        def moved(old_mean: float, old_variance: float, of_one: float) -> tuple[float, float]:
            weight = max(1 - (1 - of_one) ** sample.tasks, share)
            difference = mean - old_mean
            spread = old_variance + weight * difference * difference
            return old_mean + weight * difference, (1 - weight) * spread + weight * variance

        return Pace(
            self.tasks + sample.tasks,
            *moved(self.mean_s, self.variance_s2, WEIGHT),
            *moved(*self.slow, SLOW_WEIGHT),
        )

    @property
    def slow(self) -> tuple[float, float]:
        """The slow mean in seconds and its variance, in seconds squared."""
        if self.slow_mean_s is None or self.slow_variance_s2 is None:
            return self.mean_s, self.variance_s2
        return self.slow_mean_s, self.slow_variance_s2

    @property
    def cautious_s(self) -> float:
        """The mean plus one standard deviation, in seconds. Kinds whose durations vary much get
        smaller bundles."""
        return self.mean_s + math.sqrt(self.variance_s2)
