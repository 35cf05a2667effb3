"""The cost of the middle, from the calls that its code makes: write units of a counted bundle, a
client that waits, an idle stage. A change that raises one of them fails here."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from bench import middle
from bench.middle_calls import (
    Recorder,
    calls_of_collectors,
    claims,
    count_all,
    make_batch,
    services,
    tick,
)
from bench.middle_waiter import Course, by_library
from taskfleet.aws.session import Aws
from taskfleet.clock import SystemClock
from taskfleet.settings import Settings
from tests.support.moto_aws import create_stack, moto_account

SETTINGS = Settings(bucket="taskfleet-test")


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with moto_account():
        create_stack(SETTINGS.stage, SETTINGS.bucket)
        yield Aws(SETTINGS, SystemClock(), rng=random.Random(0))


@pytest.fixture(scope="module")
def recorder(aws: Aws) -> Recorder:
    return Recorder(aws, middle.looker(aws))


@pytest.mark.parametrize(
    ("batches", "bundles", "answers", "units", "calls"),
    [(1, 1_000, 10, 0.08, 0.12), (1, 300, 1, 0.4, 0.5), (20, 1, 1, 1.2, 1.5)],
    ids=["in-tens", "one-by-one", "batches-of-one-bundle"],
)
def test_the_write_units_of_counting_a_bundle(
    aws: Aws,
    recorder: Recorder,
    batches: int,
    bundles: int,
    answers: int,
    units: float,
    calls: float,
) -> None:
    made = [make_batch(aws, number, bundles) for number in range(batches)]
    told = list(calls_of_collectors(made, bundles, answers, random.Random(1)))
    with recorder.recording() as recorded:
        count_all(aws, iter(told))
    for batch_id in made:
        batch = aws.monitor().batch(batch_id)
        assert batch is not None
        assert batch.finished
    assert 0 < recorded.writes / (batches * bundles) <= units, recorded
    assert 0 < recorded.total / (batches * bundles) <= calls, recorded


@pytest.mark.parametrize("tasks", [1, 100])
def test_a_claim_and_a_commit_take_two_write_units(
    aws: Aws, recorder: Recorder, tasks: int
) -> None:
    with recorder.recording() as recorded:
        claims(aws, tasks)
    assert recorded.writes == 2, recorded


def test_an_idle_tick_writes_nothing_and_an_idle_stage_costs_sixty_cents_a_month(
    aws: Aws, recorder: Recorder
) -> None:
    made = services(aws)
    tick(made)
    tick(made)
    with recorder.recording() as recorded:
        tick(made)
    # One of the queries lists workers, the other one schedules that are due.
    assert recorded.calls == {"GetQueueAttributes": 1, "GetItem": 2, "Query": 2}
    assert recorded.writes == 0
    assert recorded.reads <= 3.0
    recorded.cpu_s = 0.008  # moto computes in this process, too
    (*parts, whole) = middle.idle_rows(recorded, recorded, middle.function_memory("tick"), 1)
    assert whole["$ a month"] == pytest.approx(sum(part["$ a month"] for part in parts))
    assert whole["$ a month"] <= 0.60


@pytest.mark.parametrize(
    ("course", "calls_a_s"),
    [
        (Course(1, 3_600.0), 0.2),
        (Course(100_000, 3_600.0, items=21), 0.2),
        (Course(1_000, 600.0, hangs=True), 0.2),
    ],
    ids=["one-task", "busy", "hangs"],
)
def test_a_client_that_waits_for_an_hour_costs_under_two_cents(
    course: Course, calls_a_s: float
) -> None:
    asked = by_library(course, 3_700.0)
    assert asked.usd_an_hour(course.items) <= 0.01
    assert asked.calls / asked.seconds <= calls_a_s


@pytest.mark.parametrize("seconds", [0.05, 1.0, 10.0, 39.0])
def test_the_end_of_a_short_batch_is_seen_at_once(seconds: float) -> None:
    asked = by_library(Course(1, seconds), 60.0)
    assert asked.late_s is not None
    assert asked.late_s <= max(0.12, seconds / 20)


@pytest.mark.parametrize("seconds", [60.0, 600.0, 3_600.0])
def test_the_end_of_a_long_batch_is_seen_within_a_twentieth_of_its_time(seconds: float) -> None:
    asked = by_library(Course(1, seconds), 4_000.0)
    assert asked.late_s is not None
    assert asked.late_s <= min(seconds / 20, 8.0) + 0.1


def test_two_hundred_clients_that_begin_to_wait_together_stay_within_the_api_s_rate() -> None:
    """No second of a wait for a batch whose tasks are long asks more often than the first."""
    until_s = (2.0, 10.0, 30.0, 60.0, 120.0, 300.0)
    calls = [by_library(Course(1, 3_600.0), at).calls for at in until_s]
    windows = zip(until_s[1:], until_s, calls[1:], calls, strict=False)
    rates = [(more - few) / (late - early) for late, early, more, few in windows]
    assert max(rates) * 200 <= 110, rates
