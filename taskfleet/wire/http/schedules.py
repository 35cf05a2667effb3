"""Answers about schedules."""

from __future__ import annotations

from typing import Literal

import msgspec

from taskfleet.options import BatchOptions


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule, by which batches of the same tasks are submitted again and again.

    It has a rate of `every_s` seconds or a `cron` expression of five fields, in UTC; the other is
    null. `missed` says what becomes of times at which the service did not look: `skip` or
    `catch_up`. `total` is the number of tasks of each batch, and `options` are those of each batch.
    `next_at` is the time of the next batch. `last_at` and `last_batch_id` are those of the last
    one; both are null before the first. `last_error` says why the last time has no batch; it is
    null if it has one. Times are in ISO 8601, UTC.
    """

    name: str
    every_s: int | None
    cron: str | None
    missed: Literal["skip", "catch_up"]
    total: int
    options: BatchOptions | None
    created_at: str
    next_at: str
    last_at: str | None
    last_batch_id: str | None
    last_error: str | None


class ScheduleList(msgspec.Struct, frozen=True):
    """The caller's schedules, by name. The list follows a change within about a second."""

    schedules: list[ScheduleView]
