"""Schedules: batches that are submitted again and again, at a rate or at the times of a cron
expression. Owns a schedule's record, the forms of both, and the rule which times are due; not the
submission (`taskfleet.scheduler.schedules`) nor the storage (`taskfleet.scheduler.ports`).

All times are whole epoch seconds, UTC. Every rule is a pure function of the record and the time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice, takewhile
from typing import Any

import msgspec
from cronsim import CronSim, CronSimError
from msgspec.structs import replace

from taskfleet.options import BatchOptions

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
"""Form of a schedule's name. It becomes a part of keys and of a path."""
EVERY_MIN_S = 60
"""Shortest rate of a schedule, in seconds: schedules are looked at once a minute."""
EVERY_MAX_S = 366 * 86_400
"""Longest rate of a schedule, in seconds: a leap year."""
LATE_S = 300.0
"""Seconds after its time for which a batch is not missed. A look may come two minutes late when the
one before it took long."""
CATCH_UP_MAX = 60
"""Most missed batches of one schedule that are made up for, the newest: an hour of a schedule that
is due every minute."""
_CRON_FIELDS = 5
_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_EVERY = re.compile(r"([0-9]{1,9})([smhd]?)")


class Missed(StrEnum):
    """The policy for times at which nobody looked: they are left out, or made up for."""

    SKIP = "skip"
    CATCH_UP = "catch_up"


class ScheduleRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A schedule as recorded.

    every_s: seconds between two times, counted from `created_at`; None with `cron`.
    cron: cron expression of five fields, UTC; None with `every_s`.
    missed: what becomes of times at which nobody looked.
    tasks: the tasks of each batch, as a client submits them.
    options: those of each batch; None if there are none.
    next_at: the first time that is not dealt with yet.
    last_at, last_batch_id: time and id of the last batch; None before the first.
    last_error: why the last time that was dealt with has no batch; None if it has.
    """

    client_id: str
    name: str
    created_at: float
    next_at: float
    tasks: list[Any]
    every_s: int | None = None
    cron: str | None = None
    missed: Missed = Missed.SKIP
    options: BatchOptions | None = None
    last_at: float | None = None
    last_batch_id: str | None = None
    last_error: str | None = None

    def defines_the_same_as(self, other: ScheduleRecord) -> bool:
        """Returns whether both would submit the same batches, whatever became of them so far."""
        return _definition(self) == _definition(other)

    def key(self, at: float) -> str:
        """Returns the idempotency key of the batch that is due at `at`, such as
        `nightly@2030-01-31T03:00:00Z`."""
        return f"{self.name}@{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"


class Due(msgspec.Struct, frozen=True):
    """The times of a schedule that are due.

    times: the times whose batches are to be submitted, oldest first.
    next_at: the time after those, which lies in the future.
    left_out: the newest of the times that were missed and stay so; None if there are none.
    """

    times: list[float]
    next_at: float
    left_out: float | None


def read_every(every: int | str) -> int:
    """Returns a rate in seconds, given as a number of seconds or as text such as `90`, `15m`, `12h`
    or `1d`. Raises ValueError."""
    match = _EVERY.fullmatch(str(every).strip())
    if match is None:
        raise ValueError(f"every: {every!r:.40} is no rate; write 900, 15m, 12h or 1d")
    seconds = int(match[1]) * _UNITS_S[match[2]]
    if not EVERY_MIN_S <= seconds <= EVERY_MAX_S:
        raise ValueError(
            f"every: {every!r:.40} is {seconds} s; a rate is from {EVERY_MIN_S} s, since schedules "
            f"are looked at once a minute, to {EVERY_MAX_S // 86_400} days"
        )
    return seconds


def read_cron(cron: str, now: float) -> str:
    """Returns a cron expression in normal form: its five fields with one blank between them. Raises
    ValueError if it is malformed, or if no such time comes after `now`."""
    fields = cron.split()
    if len(fields) != _CRON_FIELDS:
        raise ValueError(
            f"cron: {cron!r:.80} has {len(fields)} fields, not five: minute, hour, day of the "
            "month, month, day of the week"
        )
    normal = " ".join(fields)
    try:
        first = next(_cron_times(normal, now), None)
    except CronSimError as error:
        raise ValueError(f"cron: {cron!r:.80}: {str(error)[:1].lower()}{str(error)[1:]}") from None
    if first is None:
        raise ValueError(f"cron: no time is ever {cron!r:.80}")
    return normal


def next_after(schedule: ScheduleRecord, now: float) -> float:
    """Returns the first time of the schedule that lies after `now`."""
    if schedule.every_s is not None:
        elapsed = max(0.0, now - schedule.created_at)
        return schedule.created_at + (elapsed // schedule.every_s + 1) * schedule.every_s
    return next(_cron_times(_cron_of(schedule), now))


def due(schedule: ScheduleRecord, now: float) -> Due:
    """Returns what is due of the schedule at `now`.

    A time that is dealt with never comes again, even if the clock goes back. Of the others, up to
    `now`, those of the last `LATE_S` seconds are on time. A schedule that skips submits the newest
    one if it is on time; one that catches up submits all, but no more than the newest
    `CATCH_UP_MAX`.
    """
    if now < schedule.next_at:
        return Due([], schedule.next_at, None)
    # Newest first, and one more than may be submitted, to tell whether one is left out.
    found = list(islice(_times_back(schedule, now), CATCH_UP_MAX + 1))
    if schedule.missed is Missed.SKIP:
        times = [at for at in found[:1] if now - at <= LATE_S]
    else:
        times = found[:CATCH_UP_MAX]
    left_out = found[len(times)] if len(found) > len(times) else None
    return Due(times[::-1], next_after(schedule, now), left_out)


def _times_back(schedule: ScheduleRecord, now: float) -> Iterator[float]:
    """Yields the times from `now` back to `next_at`, both included, newest first."""
    if schedule.every_s is not None:
        last = int((now - schedule.next_at) // schedule.every_s)
        return (schedule.next_at + n * schedule.every_s for n in range(last, -1, -1))
    # A reverse iteration begins before its start, which may be a time of the schedule.
    back = _cron_times(_cron_of(schedule), float(int(now) + 1), reverse=True)
    return takewhile(lambda at: at >= schedule.next_at, back)


def _cron_of(schedule: ScheduleRecord) -> str:
    if schedule.cron is None:
        raise ValueError(f"schedule {schedule.name!r} has neither a rate nor a cron expression")
    return schedule.cron


def _cron_times(cron: str, start: float, *, reverse: bool = False) -> Iterator[float]:
    """Yields the times of a cron expression after `start`, or before it, newest first."""
    times = CronSim(cron, datetime.fromtimestamp(start, UTC), reverse=reverse)
    return (at.timestamp() for at in times)


def _definition(schedule: ScheduleRecord) -> ScheduleRecord:
    return replace(
        schedule, created_at=0.0, next_at=0.0, last_at=None, last_batch_id=None, last_error=None
    )
