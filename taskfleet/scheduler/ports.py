"""The ports of the scheduler alone, as Protocols: `ScheduleRecords`, `EventSink`. Owns
the promises, by the rules of `taskfleet.ports`, which has the ports that others need too.
"""

from __future__ import annotations

from typing import Protocol

from taskfleet.schedule import ScheduleRecord
from taskfleet.wire.events import FinishedBatch


class ScheduleRecords(Protocol):
    """The schedules of all clients, in the table `Task_Monitor`."""

    def add(self, schedule: ScheduleRecord) -> ScheduleRecord | None:
        """Record a new schedule. If its client has one of this name, change nothing and return the
        recorded one; otherwise return None."""
        ...

    def schedules(self, client_id: str) -> list[ScheduleRecord]:
        """Returns the client's schedules, by name. One that was added within about the last second
        may be missing."""
        ...

    def remove(self, client_id: str, name: str) -> ScheduleRecord | None:
        """Remove a schedule. Returns it as it was, None if the client has none of this name."""
        ...

    def due(self, now: float, *, limit: int) -> list[ScheduleRecord]:
        """Returns up to `limit` schedules whose `next_at` is not after `now`, those that wait for
        longest first. If none is due, this is one small read. One that changed within about the
        last second may be missing, or come again as it is now."""
        ...

    def advance(self, before: ScheduleRecord, after: ScheduleRecord) -> bool:
        """Record `after` in the place of `before`. Returns False, with nothing changed, if the
        schedule was removed or replaced since `before` was read, or its `next_at` has changed."""
        ...


class EventSink(Protocol):
    """A place to which events go."""

    def send(self, event: FinishedBatch) -> None:
        """Send the event that a batch has ended. After an error it may have been sent."""
        ...
