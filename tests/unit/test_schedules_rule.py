"""The rule which times of a schedule are due, as tables and properties."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from taskfleet.schedule import (
    CATCH_UP_MAX,
    LATE_S,
    Due,
    Missed,
    ScheduleRecord,
    due,
    next_after,
    read_cron,
    read_every,
)

START = datetime(2030, 1, 31, 12, 0, 0, tzinfo=UTC).timestamp()


def at(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()


def rate(every_s: int, missed: Missed = Missed.SKIP) -> ScheduleRecord:
    return ScheduleRecord(
        "alice", "s", START, START + every_s, ["sleep 1"], every_s=every_s, missed=missed
    )


def cron(text: str, missed: Missed = Missed.SKIP) -> ScheduleRecord:
    made = ScheduleRecord("alice", "s", START, START, ["sleep 1"], cron=text, missed=missed)
    return replace(made, next_at=next_after(made, START))


@pytest.mark.parametrize(
    ("given_", "seconds"),
    [(60, 60), ("60", 60), ("90s", 90), ("15m", 900), ("12h", 43_200), (" 1d ", 86_400)],
)
def test_a_rate_is_read(given_: int | str, seconds: int) -> None:
    assert read_every(given_) == seconds


@pytest.mark.parametrize(
    ("given_", "reason"),
    [
        (59, "a rate is from 60 s"),
        ("0", "a rate is from 60 s"),
        (-60, "is no rate"),
        ("1.5h", "is no rate"),
        ("", "is no rate"),
        ("15 m", "is no rate"),
        ("1w", "is no rate"),
        ("999d", "to 366 days"),
        ("٦٠", "is no rate"),
    ],
)
def test_a_rate_that_cannot_be_is_refused(given_: int | str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_every(given_)


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("0 3 * * *", "2030-02-01T03:00:00"),
        ("*/15 * * * *", "2030-01-31T12:15:00"),
        (" 0  9 * * MON ", "2030-02-04T09:00:00"),
        ("0 0 29 2 *", "2032-02-29T00:00:00"),
        ("30 23 L * *", "2030-01-31T23:30:00"),
        ("0 12 31 1 *", "2031-01-31T12:00:00"),
    ],
)
def test_a_cron_expression_has_its_next_time(text: str, first: str) -> None:
    normal = read_cron(text, START)
    assert normal == " ".join(text.split())
    assert next_after(cron(normal), START) == at(first)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0 3 * *", "4 fields, not five"),
        ("0 0 3 * * *", "6 fields, not five"),
        ("", "0 fields"),
        ("60 3 * * *", "bad minute"),
        ("0 3 * * XYZ", "bad day-of-week"),
        ("0 3 30 2 *", "bad day-of-month"),
        ("*/0 * * * *", "bad minute"),
        ("0 0 31 4 L9", "bad day-of-week"),
    ],
)
def test_a_cron_expression_that_cannot_be_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        read_cron(text, START)


def test_the_key_of_a_batch_has_the_name_and_the_time() -> None:
    assert rate(60).key(START) == "s@2030-01-31T12:00:00Z"


MINUTE, HOUR = 60, 3600


@pytest.mark.parametrize(
    ("schedule", "late_s", "times", "left_out"),
    [
        # one time, on time and too late
        (rate(HOUR), 0, [0], None),
        (rate(HOUR), -1, [], None),
        (rate(HOUR), LATE_S, [0], None),
        (rate(HOUR), LATE_S + 1, [], 0),
        (rate(HOUR, Missed.CATCH_UP), HOUR - 1, [0], None),
        # several: the newest, or all
        (rate(HOUR), 3 * HOUR, [3], 2),
        (rate(HOUR), 3 * HOUR + LATE_S + 1, [], 3),
        (rate(HOUR, Missed.CATCH_UP), 3 * HOUR + 5, [0, 1, 2, 3], None),
        (rate(MINUTE, Missed.CATCH_UP), 59 * MINUTE, [*range(60)], None),
        (rate(MINUTE, Missed.CATCH_UP), 60 * MINUTE, [*range(1, 61)], 0),
        (rate(MINUTE, Missed.CATCH_UP), 90_000 * MINUTE, [*range(89_941, 90_001)], 89_940),
        (cron("0 * * * *"), 3 * HOUR, [3], 2),
        (cron("0 * * * *"), 3 * HOUR + LATE_S + 1, [], 3),
        (cron("0 * * * *", Missed.CATCH_UP), 3 * HOUR + 0.5, [0, 1, 2, 3], None),
    ],
)
def test_what_is_due(
    schedule: ScheduleRecord, late_s: float, times: list[int], left_out: int | None
) -> None:
    first, step = schedule.next_at, schedule.every_s or HOUR
    found = due(schedule, first + late_s)
    assert found.times == [first + n * step for n in times]
    assert found.left_out == (None if left_out is None else first + left_out * step)
    passed = max(-1, int(late_s // step))
    assert found.next_at == first + (passed + 1) * step


MOMENTS = st.lists(st.integers(-7_200, 100_000), min_size=1, max_size=30)
SCHEDULES = st.one_of(
    st.builds(rate, st.integers(60, 20_000), st.sampled_from(Missed)),
    st.builds(
        cron,
        st.sampled_from(["* * * * *", "*/7 3-9 * * *", "0 0 * * SAT", "59 23 1 2 *"]),
        st.sampled_from(Missed),
    ),
)


@settings(max_examples=60, deadline=None)
@given(SCHEDULES, MOMENTS)
def test_however_the_clock_jumps_each_time_comes_at_most_once_and_in_order(
    schedule: ScheduleRecord, moments: list[int]
) -> None:
    seen: list[float] = []
    for moment in moments:
        now = START + moment
        found = due(schedule, now)
        assert all(each <= now for each in found.times)
        assert len(found.times) <= (CATCH_UP_MAX if schedule.missed is Missed.CATCH_UP else 1)
        assert found.next_at > now or found == Due([], schedule.next_at, None)
        assert found.next_at >= schedule.next_at
        seen += found.times
        schedule = replace(schedule, next_at=found.next_at)
    assert seen == sorted(set(seen))


@settings(max_examples=40, deadline=None)
@given(SCHEDULES, st.integers(1, 300))
def test_a_clock_that_is_looked_at_each_minute_misses_nothing(
    schedule: ScheduleRecord, minutes: int
) -> None:
    schedule = replace(schedule, missed=Missed.SKIP)
    expected, time = [], next_after(schedule, START)
    while time <= START + minutes * MINUTE:
        expected.append(time)
        time = next_after(schedule, time)
    seen: list[float] = []
    for minute in range(minutes + 1):
        found = due(schedule, START + minute * MINUTE)
        assert found.left_out is None
        seen += found.times
        schedule = replace(schedule, next_at=found.next_at)
    assert seen == expected


def test_times_of_a_cron_expression_are_utc() -> None:
    shown = datetime.fromtimestamp(cron("0 3 * * *").next_at, UTC)
    assert (shown.hour, shown.utcoffset()) == (3, timedelta())
