"""When tasks on several lanes have ended: against list schedules of random durations."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from bench.schedule import list_makespan_s
from taskfleet.makespan import Course

RUNS = 60
Draw = Callable[[random.Random], float]


def lognormal(rng: random.Random) -> float:
    return rng.lognormvariate(math.log(15.0) - 0.5, 1.0)


EXPONENTIAL: tuple[Draw, float, float] = (lambda rng: rng.expovariate(1 / 8), 8.0, 8.0)
UNIFORM: tuple[Draw, float, float] = (lambda rng: rng.uniform(2.0, 6.0), 4.0, 4 / math.sqrt(12))
LOGNORMAL: tuple[Draw, float, float] = (lognormal, 15.0, 15.0 * math.sqrt(math.e - 1))


@pytest.mark.parametrize(
    ("durations", "tasks", "lanes"),
    [
        (EXPONENTIAL, 10, 16),
        (EXPONENTIAL, 50, 16),
        (EXPONENTIAL, 600, 16),
        (EXPONENTIAL, 600, 160),
        (UNIFORM, 16, 16),
        (UNIFORM, 20, 16),
        (UNIFORM, 500, 160),
        (LOGNORMAL, 16, 16),
        (LOGNORMAL, 300, 80),
    ],
)
def test_the_median_and_the_ninetieth_percentile_are_those_of_list_schedules(
    durations: tuple[Draw, float, float], tasks: int, lanes: int
) -> None:
    draw, mean_s, sd_s = durations
    rng = random.Random(tasks)
    ends = sorted(list_makespan_s((draw(rng) for _ in range(tasks)), lanes) for _ in range(RUNS))
    course = Course(tasks, mean_s, sd_s, ready=lanes)
    assert course.end_s(0.5) == pytest.approx(ends[RUNS // 2], rel=0.2)
    assert course.end_s(0.9) == pytest.approx(ends[RUNS * 9 // 10], rel=0.3)


@pytest.mark.parametrize(
    ("tasks", "lanes", "end_s"),
    [
        (1, {"ready": 16}, 10),
        (16, {"ready": 16}, 10),
        (17, {"ready": 16}, 20),
        (160, {"ready": 16}, 100),
        (16, {"ready": 0, "coming": 16, "coming_s": 40}, 50),
        (32, {"ready": 16, "ahead_s": 320}, 40),
    ],
)
def test_even_tasks_end_in_waves(tasks: int, lanes: dict[str, float], end_s: float) -> None:
    assert Course(tasks, 10.0, 0.0, **lanes).end_s(0.5) == pytest.approx(end_s)


def test_machines_that_come_help_a_batch_that_lasts_longer_than_they_take() -> None:
    alone = Course(1_000, 8.0, 8.0, ready=16)
    helped = Course(1_000, 8.0, 8.0, ready=16, coming=160, coming_s=40)
    late = Course(1_000, 8.0, 8.0, ready=16, coming=160, coming_s=4_000)
    assert alone.end_s(0.5) == pytest.approx(500, rel=0.1)
    assert 83 <= helped.end_s(0.5) <= 125
    assert late.end_s(0.5) == pytest.approx(alone.end_s(0.5), rel=0.01)
    assert (alone.awaits_machines, helped.awaits_machines, late.awaits_machines) == (
        False,
        True,
        False,
    )


def test_tasks_that_take_no_time_end_at_once() -> None:
    assert Course(250_000, 0.0, 0.0, ready=16).end_s(0.9) < 0.1
