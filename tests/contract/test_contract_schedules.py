"""The promises of `ScheduleRecords`, in memory and on DynamoDB."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from taskfleet.aws.dynamodb.schedules import SCHEDULES_CLIENT
from taskfleet.options import BatchOptions
from taskfleet.schedule import Missed, ScheduleRecord

MADE = ScheduleRecord(
    "alice",
    "nightly",
    created_at=1_000.0,
    next_at=2_000.0,
    tasks=["sleep 1", {"kind": "sleep", "params": 2, "timeout_s": 5}],
    cron="0 3 * * *",
    missed=Missed.CATCH_UP,
    options=BatchOptions(max_attempts=3),
)


def test_a_schedule_is_recorded_once_and_listed_for_its_client_by_name(world: Any) -> None:
    records = world.schedules
    assert records.schedules("alice") == []
    assert records.add(MADE) is None
    assert records.add(replace(MADE, tasks=["sleep 2"])) == MADE
    other = replace(MADE, name="hourly", every_s=3600, cron=None, next_at=1_500.0)
    assert records.add(other) is None
    # Ids of clients may have a slash, and begin as another's does.
    for client_id in ("alice/nightly", "ali", "alice2"):
        assert records.add(replace(MADE, client_id=client_id)) is None
    assert records.schedules("alice") == [other, MADE]
    assert records.schedules("alice/nightly") == [replace(MADE, client_id="alice/nightly")]


def test_those_that_are_due_come_oldest_first(world: Any) -> None:
    records = world.schedules
    for n, next_at in enumerate([2_000.0, 1_000.0, 3_000.0, 1_000.5]):
        records.add(replace(MADE, name=f"s{n}", next_at=next_at))
    assert records.due(999.9, limit=10) == []
    assert [each.name for each in records.due(2_000.0, limit=10)] == ["s1", "s3", "s0"]
    assert [each.name for each in records.due(9_000.0, limit=2)] == ["s1", "s3"]


def test_a_schedule_is_advanced_from_what_it_was_only(world: Any) -> None:
    records = world.schedules
    records.add(MADE)
    after = replace(MADE, next_at=3_000.0, last_at=2_000.0, last_batch_id="b", last_error="none")
    assert records.advance(MADE, after)
    assert records.schedules("alice") == [after]
    assert records.due(2_500.0, limit=10) == []
    assert not records.advance(MADE, replace(after, next_at=4_000.0))  # another look was faster
    assert records.schedules("alice") == [after]

    assert records.remove("alice", "nightly") == after
    assert not records.advance(after, replace(after, next_at=5_000.0))
    assert records.schedules("alice") == []
    replaced = replace(after, created_at=1_001.0)
    records.add(replaced)
    assert not records.advance(after, replace(after, next_at=5_000.0))
    assert records.schedules("alice") == [replaced]


def test_a_schedule_is_removed_once(world: Any) -> None:
    records = world.schedules
    assert records.remove("alice", "nightly") is None
    records.add(MADE)
    assert records.remove("bob", "nightly") is None
    assert records.remove("alice", "nightly") == MADE
    assert records.remove("alice", "nightly") is None
    assert records.due(9_000.0, limit=10) == []


def test_an_item_that_is_no_schedule_is_never_due(aws_stack: Any, world: Any) -> None:
    """A worker may write the attributes of the index on items of its own."""
    if world.kind != "aws":
        pytest.skip("about the items of DynamoDB")
    world.schedules.add(MADE)
    item = {"Job_ID": "worker/w", "client_id": SCHEDULES_CLIENT, "created_at": 1}
    wire = {k: {"N": str(v)} if isinstance(v, int) else {"S": v} for k, v in item.items()}
    aws_stack.client("dynamodb").put_item(TableName=aws_stack.settings.monitor_table, Item=wire)
    assert world.schedules.due(9_000.0, limit=10) == [MADE]
    assert world.schedules.schedules("alice") == [MADE]
