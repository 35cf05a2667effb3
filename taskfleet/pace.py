"""How long tasks of a kind take, learned from those that ran. Pure: an exponentially weighted mean
and variance, updated by whole samples at a time.

The formulas are those of T. Finch, "Incremental calculation of weighted mean and variance"
(University of Cambridge, 2009), section 9, taken n steps at once with the sample's mean.
"""

from __future__ import annotations

import math

import msgspec

WEIGHT = 0.02
"""Of one task: the last fifty or so make up most of the mean."""


ASSUMED_TASK_S = 10.0
"""Assumed duration of a task whose kind says nothing of it and has not finished one yet."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """Durations that were seen, as sums, so that samples add up."""

    tasks: int = 0
    total_s: float = 0.0
    total_s2: float = 0.0

    def __add__(self, other: Sample) -> Sample:
        return Sample(
            self.tasks + other.tasks,
            self.total_s + other.total_s,
            self.total_s2 + other.total_s2,
        )

    def add(self, seconds: float) -> Sample:
        return Sample(self.tasks + 1, self.total_s + seconds, self.total_s2 + seconds * seconds)


class Pace(msgspec.Struct, frozen=True):
    """What is known of a kind; `tasks` is how many went into it."""

    tasks: int = 0
    mean_s: float = 0.0
    variance_s2: float = 0.0

    def learn(self, sample: Sample) -> Pace:
        """The pace after the sample's tasks."""
        if not sample.tasks:
            return self
        mean = sample.total_s / sample.tasks
        variance = max(0.0, sample.total_s2 / sample.tasks - mean * mean)
        if not self.tasks:
            return Pace(sample.tasks, mean, variance)
        # While little is known, each task counts the same.
        weight = max(1 - (1 - WEIGHT) ** sample.tasks, sample.tasks / (self.tasks + sample.tasks))
        apart = mean - self.mean_s
        return Pace(
            self.tasks + sample.tasks,
            self.mean_s + weight * apart,
            (1 - weight) * (self.variance_s2 + weight * apart * apart) + weight * variance,
        )

    @property
    def cautious_s(self) -> float:
        """The mean and one standard deviation: kinds that vary much get smaller bundles."""
        return self.mean_s + math.sqrt(self.variance_s2)
