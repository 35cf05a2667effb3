"""When tasks on several lanes have all ended, if only the mean and the deviation of their durations
are known. Pure. Owns the theory; not what a batch is and which slots it finds (`taskfleet.quote`).

From the mean and the deviation follow when tasks start, by the theory of renewals (D. R. Cox,
"Renewal Theory", 1962), and the probability that all of them have ended at a time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

EVEN = 0.1
"""Relative deviation up to which tasks count as equally long, so that they end in waves."""
_SHORTEST_S = 1e-6
"""Least mean of a task's duration, in seconds, so that nothing is divided by 0."""
_POINTS = 12
"""Moments for which the starts of a batch's tasks are taken, beside those of the first ones."""
_HALVINGS = 12
"""Halvings of a range in which a time is looked for."""


class Course:
    """The course of tasks on lanes, each of which has one of them at a time and takes the next as
    soon as it is free.

    tasks: how many there are, at least 1.
    mean_s, sd_s: mean and standard deviation of their durations, in seconds.
    ready: lanes that are there; with `coming` more than 0.
    coming, coming_s: lanes that are there after so many seconds.
    ahead_s: seconds of other tasks that go before.
    """

    def __init__(
        self,
        tasks: int,
        mean_s: float,
        sd_s: float,
        *,
        ready: float,
        coming: float = 0.0,
        coming_s: float = 0.0,
        ahead_s: float = 0.0,
    ) -> None:
        self.tasks = float(tasks)
        self.mean_s = max(mean_s, _SHORTEST_S)
        self.cv = sd_s / self.mean_s
        self.ready, self.coming = ready, coming
        self._coming_s = coming_s
        self._work_s, self._ahead_s = tasks * mean_s, ahead_s
        self.first_s = self._drained_s(ahead_s)
        """When the first task starts, if a slot is ready."""
        self.later_s = max(self.first_s, coming_s)
        """When tasks start on machines that come."""
        self.begin_s = self.first_s if self.ready else self.later_s

    @property
    def awaits_machines(self) -> bool:
        """Returns whether the batch lasts until the machines that come are there."""
        busy_s = self._drained_s(self._work_s + self._ahead_s)
        return not self.ready or (self.coming > 0 and busy_s > self._coming_s)

    def end_s(self, p: float) -> float:
        """The seconds until the last task has ended that are kept with the probability `p`, if the
        means are right. All tasks have ended at t with the product of the probabilities that each
        is shorter than what is left from its start until t."""
        tasks, lanes = self.tasks, self.ready + self.coming
        at_once = self.later_s == self.first_s or not self.ready or tasks <= self.ready
        if self.cv < EVEN and at_once:
            return self.begin_s + math.ceil(tasks / lanes) * self.mean_s
        last_s = self.last_start_s()
        at_first = min(tasks, self.ready)
        at_later = min(tasks - at_first, self.coming) if last_s >= self.later_s else 0.0
        between = max(0.0, tasks - at_first - at_later) / _POINTS
        step_s = (last_s - self.begin_s) / _POINTS
        starts = [(self.first_s, at_first), (self.later_s, at_later)]
        starts += [(self.begin_s + step_s * (i + 0.5), between) for i in range(_POINTS)]
        end_s = self._ended_s([(at, count) for at, count in starts if count > 0], last_s, p)
        # No schedule is shorter than one in which all lanes are always busy.
        return end_s if tasks < lanes else max(end_s, self._drained_s(self._work_s + self._ahead_s))

    def last_start_s(self) -> float:
        """The time at which the last task starts: when the lanes have begun as many tasks."""

        def begun(t: float) -> float:
            at_first = self.ready * self._begun_a_lane(t - self.first_s)
            return at_first + self.coming * self._begun_a_lane(t - self.later_s)

        low, high = self.begin_s, self.later_s + self.mean_s
        if begun(low) >= self.tasks:
            return low
        while begun(high) < self.tasks:
            high = low + 2 * (high - low)
        return _bisected(low, high, lambda t: begun(t) >= self.tasks)

    def _ended_s(self, starts: Sequence[tuple[float, float]], last_s: float, p: float) -> float:
        """The time at which all tasks have ended with the probability `p`; `starts` has times, and
        how many start then, the last at `last_s`."""
        shorter = _durations(self.mean_s, self.cv)
        wanted = math.log(p)

        def have_ended(t: float) -> bool:
            logs = (count * math.log(max(shorter(t - at), 1e-300)) for at, count in starts)
            return sum(logs) >= wanted

        low, high = last_s, last_s + self.mean_s
        while not have_ended(high):
            low, high = high, last_s + 2 * (high - last_s)
        return _bisected(low, high, have_ended)

    def _begun_a_lane(self, t: float) -> float:
        """Tasks that one lane has begun after it was busy for t: the renewal function, between its
        values at the start and far from it (Cox, "Renewal Theory", sections 4.2 and 4.5)."""
        if t < 0:
            return 0.0
        far = (self.cv * self.cv - 1) / 2
        return 1 + t / self.mean_s + far * -math.expm1(-t / (self.mean_s * max(far, 0.5)))

    def _drained_s(self, busy_s: float) -> float:
        """The seconds until so many seconds of tasks are done, if all lanes are always busy."""
        if busy_s <= 0:
            return 0.0
        ready, coming = self.ready, self.coming
        if ready > 0 and (coming <= 0 or busy_s <= ready * self._coming_s):
            return busy_s / ready
        return (busy_s + coming * self._coming_s) / (ready + coming)


def _bisected(low: float, high: float, reached: Callable[[float], bool]) -> float:
    """The least value between both that `reached` holds for, within a thousandth of the range."""
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return high


def _durations(mean_s: float, cv: float) -> Callable[[float], float]:
    """The distribution function of durations with this mean and relative deviation: a Weibull
    distribution, with the usual approximation of its shape, and a log-normal one for a tail that is
    heavier than the exponential's."""
    if cv <= 1.1:
        shape = max(cv, 0.02) ** -1.086
        scale = mean_s / math.gamma(1 + 1 / shape)
        return lambda t: -math.expm1(-((t / scale) ** shape)) if t > 0 else 0.0
    variance = math.log1p(cv * cv)
    middle, spread = math.log(mean_s) - variance / 2, math.sqrt(2 * variance)
    return lambda t: 0.5 * math.erfc((middle - math.log(t)) / spread) if t > 0 else 0.0
