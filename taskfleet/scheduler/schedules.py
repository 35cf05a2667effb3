"""Keeps the schedules of clients, and submits the batches that are due. Owns these steps; not which
times are due (`taskfleet.schedule`), the storage (`taskfleet.scheduler.ports`), nor how a batch is
taken in (`taskfleet.scheduler.submit`).

A batch is submitted under the key `<name>@<time>` before its time is recorded as dealt with. So two
looks at once, or a look that was cut short, make one batch of a time. While a batch is submitted,
the record's `next_at` is its time. So a submission that was cut short is completed by the next
look, even if the time counts as missed by then, or by the removal of the schedule. A record that
takes effect only after that, by a request which the service had given up, stays without tasks on
the queue until a client cancels it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from taskfleet import trace
from taskfleet.errors import (
    Conflict,
    InvalidTask,
    LimitReached,
    NotFound,
    TaskfleetError,
    TooLarge,
)
from taskfleet.log import bound, fields
from taskfleet.options import BatchOptions
from taskfleet.ports import Clock
from taskfleet.registry import Registry
from taskfleet.schedule import Missed, ScheduleRecord, due, next_after, read_cron, read_every
from taskfleet.scheduler.ports import ScheduleRecords
from taskfleet.scheduler.submit import Submission, validate
from taskfleet.wire.http.schedules import ScheduleList, ScheduleView
from taskfleet.wire.http.times import iso_time

_log = logging.getLogger(__name__)

TASKS_MAX_BYTES = 100_000
"""Most bytes of the tasks of one schedule, as JSON. They stand in its item, which is written anew
at each of its times."""
CLIENT_MAX_SCHEDULES = 100
"""Most schedules of one client."""
LOOK_MAX_SCHEDULES = 200
"""Most schedules that one look takes up. The others follow in the next, those that wait for longest
first."""


class Schedules:
    """Adds, lists and removes schedules on behalf of their clients, and submits what is due.

    submission: takes in the batches. It may not tell the provisioner by a call, since the same
        function runs the provisioner next.
    random_bytes: returns the given number of random bytes, such as `os.urandom`.
    """

    def __init__(
        self,
        registry: Registry,
        records: ScheduleRecords,
        submission: Submission,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
    ) -> None:
        self._registry = registry
        self._records = records
        self._submission = submission
        self._clock = clock
        self._random_bytes = random_bytes

    def add(
        self,
        name: str,
        raw_tasks: Sequence[Any],
        *,
        client_id: str,
        every: int | str | None = None,
        cron: str | None = None,
        missed: Missed = Missed.SKIP,
        options: BatchOptions | None = None,
    ) -> ScheduleView:
        """Record a schedule of either a rate or a cron expression. Returns it. Adding the same
        again changes nothing.

        Raises InvalidTask for the first invalid task or a fault in the times; TooLarge if the tasks
        have more than `TASKS_MAX_BYTES`; Conflict if the client has another schedule of this name,
        or `CLIENT_MAX_SCHEDULES`.
        """
        validate(self._registry, raw_tasks, what="schedule")
        size = len(msgspec.json.encode(raw_tasks))
        if size > TASKS_MAX_BYTES:
            raise TooLarge(
                f"the tasks have {size} bytes as JSON, over the cap of {TASKS_MAX_BYTES} of a "
                "schedule; make several schedules of them, or have fewer, longer tasks"
            )
        if options is not None and options.after is not None:
            raise InvalidTask("after: the batches of a schedule wait for no others")
        if (every is None) == (cron is None):
            raise InvalidTask("a schedule has either `every` or `cron`")
        now = float(int(self._clock.now()))
        try:
            schedule = ScheduleRecord(
                client_id,
                name,
                now,
                now,
                list(raw_tasks),
                None if every is None else read_every(every),
                None if cron is None else read_cron(cron, now),
                missed,
                options,
            )
        except ValueError as error:
            raise InvalidTask(str(error)) from None
        schedule = replace(schedule, next_at=next_after(schedule, now))
        others = self._records.schedules(client_id)
        if len(others) >= CLIENT_MAX_SCHEDULES and name not in {each.name for each in others}:
            raise Conflict(
                f"this client has {len(others)} schedules, the most of one client; remove one first"
            )
        earlier = self._records.add(schedule)
        if earlier is not None and not earlier.defines_the_same_as(schedule):
            raise Conflict(
                f"this client has another schedule {name!r}; remove it first, or choose a new name"
            )
        return _view(earlier or schedule)

    def page(self, client_id: str) -> ScheduleList:
        """Returns the client's schedules, by name."""
        return ScheduleList([_view(each) for each in self._records.schedules(client_id)])

    def remove(self, name: str, *, client_id: str) -> ScheduleView:
        """Remove a schedule. Returns it as it was. Its batches stay; one that is due at this moment
        may still come. Raises NotFound."""
        for each in self._records.schedules(client_id):
            if each.name == name and self._is_begun(each):
                self._submitted(each, each.next_at)
        removed = self._records.remove(client_id, name)
        if removed is None:
            raise NotFound(f"no schedule {name!r:.80}")
        return _view(removed)

    def submit_due(self, remaining_s: Callable[[], float]) -> None:
        """Submit the batches that are due, while `remaining_s` is above 0. What does not come to
        its turn stays due.

        Raises the first error that is not the fault of a schedule, such as a busy table, after all
        schedules had their turn, so that whoever calls this counts an error.
        """
        error: TaskfleetError | None = None
        for schedule in self._records.due(self._clock.now(), limit=LOOK_MAX_SCHEDULES):
            try:
                self._submit(schedule, remaining_s)
            except TaskfleetError as failure:
                _log.error(
                    "a schedule could not be looked after",
                    extra=fields(
                        "schedule_failed",
                        client_id=schedule.client_id,
                        schedule=schedule.name,
                        reason=str(failure),
                    ),
                )
                error = error or failure
        if error is not None:
            raise error

    def _submit(self, schedule: ScheduleRecord, remaining_s: Callable[[], float]) -> None:
        """Submit the batches of one schedule that are due, and record how far this came, also when
        an error ends it."""
        found = due(schedule, self._clock.now())
        recorded = after = schedule
        times, missed = found.times, found.left_out is not None
        if missed and self._is_begun(schedule):
            times = [schedule.next_at, *times]
            missed = found.left_out != schedule.next_at
        if missed and found.left_out is not None:
            reason = f"{iso_time(found.left_out)}: left out, since nobody looked in time"
            _log.warning(
                "times of a schedule were left out",
                extra=fields("schedule_missed", schedule=schedule.name, reason=reason),
            )
            after = replace(after, last_error=reason)
        try:
            for at in times:
                after = replace(after, next_at=at)
                if remaining_s() <= 0:
                    break
                if at != recorded.next_at:
                    if not self._records.advance(recorded, after):
                        after = recorded  # another look is ahead, or the schedule was removed
                        break
                    recorded = after
                after = self._submitted(after, at)
            else:
                after = replace(after, next_at=found.next_at)
        except LimitReached as error:  # the next look tries again
            after = replace(after, last_error=f"{iso_time(after.next_at)}: must wait: {error}")
        finally:
            if after != recorded:
                self._records.advance(recorded, after)

    def _is_begun(self, schedule: ScheduleRecord) -> bool:
        """Returns whether the batch of the time `next_at` was submitted in part."""
        return self._submission.is_begun(schedule.client_id, schedule.key(schedule.next_at))

    def _submitted(self, schedule: ScheduleRecord, at: float) -> ScheduleRecord:
        """Submit the batch that is due at `at`. Returns the schedule with what became of it: a
        batch, or an error that is not going to pass. Raises LimitReached, and what is not the
        fault of the schedule."""
        key, traceparent = schedule.key(at), trace.make(self._random_bytes)
        with bound(trace.trace_id(traceparent)):
            try:
                batch = self._submission.submit(
                    schedule.tasks,
                    client_id=schedule.client_id,
                    name=schedule.name,
                    idempotency_key=key,
                    traceparent=traceparent,
                    options=schedule.options,
                )
            except (Conflict, InvalidTask, TooLarge) as error:
                _log.warning(
                    "a batch of a schedule was refused",
                    extra=fields("schedule_refused", key=key, reason=str(error)),
                )
                return replace(schedule, last_error=f"{iso_time(at)}: {error}")
        _log.info(
            "a batch of a schedule was submitted",
            extra=fields("schedule_submitted", key=key, batch_id=batch.batch_id),
        )
        return replace(schedule, last_at=at, last_batch_id=batch.batch_id, last_error=None)


def _view(schedule: ScheduleRecord) -> ScheduleView:
    last_at = schedule.last_at
    return ScheduleView(
        schedule.name,
        schedule.every_s,
        schedule.cron,
        schedule.missed.value,
        len(schedule.tasks),
        schedule.options,
        iso_time(schedule.created_at),
        iso_time(schedule.next_at),
        None if last_at is None else iso_time(last_at),
        schedule.last_batch_id,
        schedule.last_error,
    )
