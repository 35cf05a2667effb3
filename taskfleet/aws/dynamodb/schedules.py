"""`ScheduleRecords` in the table `Task_Monitor`. Owns the items `schedule/<client_id>/<name>`.

Schedules are listed through the index of batches by client, under a client id that no real client
can have. The next time of a schedule stands where the index has the creation of a batch, so those
that are due are one range of the index, and a look that finds none reads half a unit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.table import Item, Table, Update, wire_number, wire_text
from taskfleet.aws.errors import ConditionFailed
from taskfleet.ports import Clock
from taskfleet.schedule import ScheduleRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TTL_DAYS = 36_525
"""Days after its last write when an item expires: a century. A schedule stays until it is removed,
and one may be due after years only."""
SCHEDULES_CLIENT = "\nschedules"
"""Client id of all schedules' items. No token can hold it, because of its line break."""
SCHEDULES_A_PAGE = 1_000
"""Schedules in one page of the list."""


class DynamoScheduleRecords:
    """Implements `taskfleet.scheduler.ports.ScheduleRecords`. Safe for any number of threads."""

    def __init__(
        self, client: DynamoDBClient, table: str, *, clock: Clock, backoff: Backoff
    ) -> None:
        self._table = Table(client, table, clock, backoff, TTL_DAYS)

    def add(self, schedule: ScheduleRecord) -> ScheduleRecord | None:
        key = _key(schedule.client_id, schedule.name)
        item = {
            "Job_ID": wire_text(key),
            "client_id": wire_text(SCHEDULES_CLIENT),
            "created_at": wire_number(schedule.next_at),
            "made_at": wire_number(schedule.created_at),
            "schedule": _encoded(schedule),
        }
        try:
            self._table.create(f"record {key} in", item)
        except ConditionFailed as failure:
            if failure.item is None:
                raise
            return _record(failure.item)
        return None

    def schedules(self, client_id: str) -> list[ScheduleRecord]:
        operation = f"list the schedules of {client_id} in"
        entries: list[tuple[float, str]] = []
        while True:
            page = self._table.list_newest(
                operation,
                SCHEDULES_CLIENT,
                limit=SCHEDULES_A_PAGE,
                before=entries[-1] if entries else None,
            )
            entries += page
            if len(page) < SCHEDULES_A_PAGE:
                break
        own = [key for _, key in entries if key.rpartition("/")[0] == f"schedule/{client_id}"]
        return self._read(operation, sorted(own))

    def remove(self, client_id: str, name: str) -> ScheduleRecord | None:
        key = _key(client_id, name)
        item = self._table.delete(f"remove {key} from", key)
        return None if item is None else _record(item)

    def due(self, now: float, *, limit: int) -> list[ScheduleRecord]:
        operation = "list schedules that are due in"
        keys = self._table.list_until(operation, SCHEDULES_CLIENT, until=now, limit=limit)
        return self._read(operation, keys)

    def advance(self, before: ScheduleRecord, after: ScheduleRecord) -> bool:
        key = _key(before.client_id, before.name)
        write = Update(
            key,
            "SET #schedule = :schedule, #created_at = :next_at, #ttl = :ttl",
            "#made_at = :made_at AND #created_at = :before",
            {
                ":schedule": _encoded(after),
                ":next_at": wire_number(after.next_at),
                ":made_at": wire_number(before.created_at),
                ":before": wire_number(before.next_at),
            },
        )
        try:
            self._table.update(f"advance {key} in", write)
        except ConditionFailed as failure:
            # The same is recorded if an earlier request succeeded and its reply was lost.
            return failure.item is not None and failure.item.get("schedule") == _encoded(after)
        return True

    def _read(self, operation: str, keys: list[str]) -> list[ScheduleRecord]:
        items = self._table.read_many(operation, keys) if keys else {}
        # A worker may write the keys of the index on items of its own, which are no schedules.
        return [_record(items[key]) for key in keys if "schedule" in items.get(key, {})]


def _key(client_id: str, name: str) -> str:
    return f"schedule/{client_id}/{name}"


def _encoded(schedule: ScheduleRecord) -> dict[str, str]:
    return wire_text(msgspec.json.encode(schedule).decode())


def _record(item: Item) -> ScheduleRecord:
    return msgspec.json.decode(item["schedule"]["S"], type=ScheduleRecord)
