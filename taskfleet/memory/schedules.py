"""`ScheduleRecords` in memory."""

from __future__ import annotations

import threading

from taskfleet.schedule import ScheduleRecord


class MemoryScheduleRecords:
    """Implements `taskfleet.scheduler.ports.ScheduleRecords`. Safe for any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._schedules: dict[tuple[str, str], ScheduleRecord] = {}

    def add(self, schedule: ScheduleRecord) -> ScheduleRecord | None:
        with self._lock:
            key = schedule.client_id, schedule.name
            if key not in self._schedules:
                self._schedules[key] = schedule
                return None
            return self._schedules[key]

    def schedules(self, client_id: str) -> list[ScheduleRecord]:
        with self._lock:
            own = [each for each in self._schedules.values() if each.client_id == client_id]
        return sorted(own, key=lambda each: each.name)

    def remove(self, client_id: str, name: str) -> ScheduleRecord | None:
        with self._lock:
            return self._schedules.pop((client_id, name), None)

    def due(self, now: float, *, limit: int) -> list[ScheduleRecord]:
        with self._lock:
            found = [each for each in self._schedules.values() if each.next_at <= now]
        return sorted(found, key=lambda each: each.next_at)[:limit]

    def advance(self, before: ScheduleRecord, after: ScheduleRecord) -> bool:
        with self._lock:
            key = before.client_id, before.name
            found = self._schedules.get(key)
            if found is None or _version(found) != _version(before):
                return False
            self._schedules[key] = after
            return True


def _version(schedule: ScheduleRecord) -> tuple[float, float]:
    return schedule.created_at, schedule.next_at
