"""The promises of `TaskMonitor` about batches to which their clients add parts, and about which
bundles are counted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from taskfleet.batch import PAGE_BUNDLES, BatchRecord, BatchStatus, Kept, Part, Tally, Upload
from taskfleet.ports import Added
from taskfleet.task import Task, TaskResult, TaskStatus

ID = "0123456789abcdefghjkmnpqrs"
T0 = 1_700_000_000.0
IN_RECORD = Kept(content=b"\x00\xffbundles")
AS_OBJECT = Kept(key="parts/b/abc")


def opened(world, **changes) -> BatchRecord:
    batch = BatchRecord(
        batch_id=ID,
        client_id="client",
        name=None,
        created_at=T0,
        total=0,
        bundles=0,
        payload_hash="hash",
        closed=False,
    )
    batch = replace(batch, **changes)
    assert world.monitor.create_batch(batch) is None
    return batch


def added(digest="d0", first=0, kept=IN_RECORD, **changes) -> Added:
    return replace(Added("client", Part(first, digest), kept, T0 + 1, 1000), **changes)


def add(world, first=0, digest="d0", *, tasks=2, bundles=1, closed=False, **changes):
    return world.monitor.add_part(
        ID,
        first=first,
        tasks=tasks,
        bundles=bundles,
        closed=closed,
        added=added(digest, first, **changes),
    )


@pytest.mark.parametrize("kept", [IN_RECORD, AS_OBJECT], ids=["in the record", "as an object"])
def test_a_batch_with_a_first_part_is_recorded_with_every_field(world, kept):
    batch = opened(
        world, total=2, bundles=1, parts=(Part(0, "d0"),), kept=kept, added_at=T0, closed_at=T0 + 2
    )
    assert world.monitor.batch(ID) == batch


@pytest.mark.parametrize("kept", [IN_RECORD, AS_OBJECT], ids=["in the record", "as an object"])
def test_a_part_joins_with_its_digest_and_the_place_where_it_is_kept(world, kept):
    batch = opened(world)
    grown = add(world, kept=kept)
    expected = replace(
        batch, total=2, bundles=1, parts=(Part(0, "d0"),), kept=kept, added_at=T0 + 1
    )
    assert grown == expected == world.monitor.batch(ID)
    world.monitor.record_enqueued(ID, 2)
    enqueued = replace(expected, enqueued=2, kept=None)
    assert world.monitor.batch(ID) == enqueued
    assert add(world, 2, "d1").parts == (Part(0, "d0"), Part(2, "d1"))


def test_a_part_notes_how_many_tasks_had_ended_before(world):
    opened(world)
    assert add(world).ended_before == 0
    world.monitor.record_enqueued(ID, 2)
    world.monitor.record_progress(ID, {0: Tally(1, 1)}, T0 + 3, last_index=1)
    assert world.monitor.batch(ID).ended_before == 0
    assert add(world, 2, "d1").ended_before == 2
    assert world.monitor.batch(ID).ended_before == 2


def test_a_part_may_close(world):
    opened(world)
    closed = add(world, closed=True)
    assert (closed.closed, closed.closed_at) == (True, T0 + 1)
    assert add(world, closed=True) == closed
    world.monitor.record_enqueued(ID, 2)
    assert add(world, 2, "d1") is None


def test_the_same_part_again_keeps_the_bundles_of_the_first_call(world):
    opened(world)
    grown = add(world)
    assert add(world, kept=AS_OBJECT, bundles=7) == grown
    assert world.monitor.batch(ID) == grown
    world.monitor.record_enqueued(ID, 2)
    assert add(world) is None


@pytest.mark.parametrize(
    "other",
    [
        {"digest": "d1"},
        {"tasks": 3},
        {"first": 2},
        {"closed": True},
        {"client_id": "mallory"},
    ],
)
def test_no_other_part_joins_before_the_last_one_is_enqueued(world, other):
    opened(world)
    grown = add(world)
    assert add(world, **other) is None
    assert world.monitor.batch(ID) == grown


@pytest.mark.parametrize("other", [{"client_id": "mallory"}, {"max_bundles": 0}, {"first": 1}])
def test_no_part_joins_of_another_client_or_over_the_cap_or_after_a_gap(world, other):
    batch = opened(world)
    assert add(world, **other) is None
    assert world.monitor.batch(ID) == batch


def test_the_cap_counts_all_bundles(world):
    opened(world)
    add(world, bundles=3)
    world.monitor.record_enqueued(ID, 2)
    assert add(world, 2, "d1", bundles=2, max_bundles=4) is None
    assert add(world, 2, "d1", bundles=2, max_bundles=5).bundles == 5


def test_no_client_s_part_joins_an_upload_a_closed_or_a_cancelled_batch(world):
    opened(world, upload=Upload("u", "e"))
    assert add(world) is None
    assert add(world, 0, "d0") is None


def test_no_part_joins_a_closed_or_a_missing_batch(world):
    assert add(world) is None
    opened(world)
    world.monitor.close_batch(ID, T0 + 3, client_id="client")
    assert add(world) is None


def test_no_part_joins_a_cancelled_batch(world):
    opened(world)
    world.monitor.cancel_batch(ID, T0 + 3)
    assert add(world) is None


def test_one_of_two_parts_at_the_same_place_joins(world):
    opened(world)

    def race(number: int):
        return add(world, digest=f"d{number % 2}", bundles=number % 2 + 1)

    with ThreadPoolExecutor(8) as pool:
        answers = [batch for batch in pool.map(race, range(16)) if batch is not None]
    assert {batch.parts for batch in answers} == {world.monitor.batch(ID).parts}
    assert world.monitor.batch(ID).total == 2
    assert len(answers) == 8


def test_digests_are_forgotten_once_a_part_is_enqueued(world):
    opened(world)
    for first in (0, 2, 4):
        add(world, first, f"d{first}")
        for _ in range(2):  # the second is repeated after a lost reply
            world.monitor.record_enqueued(ID, first + 2, forget=first == 4)
    assert world.monitor.batch(ID).parts == (Part(0, "d0"), Part(4, "d4"))


class TestClose:
    def test_an_open_batch_is_closed_once(self, world):
        batch = opened(world)
        closed = world.monitor.close_batch(ID, T0 + 3, client_id="client")
        assert closed == replace(batch, closed=True, closed_at=T0 + 3)
        assert closed.status is BatchStatus.DONE
        assert closed.finished_at == T0 + 3
        assert world.monitor.close_batch(ID, T0 + 9, client_id="client") == closed
        assert world.monitor.batch(ID) == closed

    @pytest.mark.parametrize("what", ["another client", "an upload", "cancelled", "ordinary"])
    def test_another_stays_as_it_is(self, world, what):
        batch = opened(
            world,
            upload=Upload("u", "e") if what == "an upload" else None,
            cancelled_at=T0 if what == "cancelled" else None,
            closed=what == "ordinary",
        )
        client = "mallory" if what == "another client" else "client"
        assert world.monitor.close_batch(ID, T0 + 3, client_id=client) == batch
        assert world.monitor.batch(ID) == batch

    def test_a_missing_one_is_none(self, world):
        assert world.monitor.close_batch(ID, T0, client_id="client") is None

    def test_it_ends_a_batch_all_of_whose_tasks_are_done(self, world):
        count = PAGE_BUNDLES + 3
        opened(world)
        add(world, tasks=count, bundles=count)
        world.monitor.record_enqueued(ID, count)
        tallies = dict.fromkeys(range(count), Tally(1))
        assert world.monitor.record_progress(ID, tallies, T0 + 2, last_index=count - 1)
        assert not world.monitor.batch(ID).finished
        assert world.monitor.close_batch(ID, T0 + 3, client_id="client").finished
        assert world.monitor.batch(ID).tally == Tally(count)


class TestCounted:
    def test_has_the_counted_bundles_of_the_pages(self, world):
        count = 3 * PAGE_BUNDLES
        opened(world, total=count, bundles=count, closed=True)
        numbers = {0, 7, PAGE_BUNDLES, 2 * PAGE_BUNDLES - 1, count - 1}
        world.monitor.record_progress(
            ID, dict.fromkeys(numbers, Tally(1)), T0 + 2, last_index=count - 1
        )
        for pages in ([0], [1], [2], [0, 1, 2], [2, 0], [], [9]):
            found = world.monitor.counted(ID, pages)
            assert found.bundles == {n for n in numbers if n // PAGE_BUNDLES in pages}
            assert found.batch.bundles == count
            if len(pages) == 3:
                assert found.batch.tally == Tally(5)

    def test_knows_a_page_that_is_complete(self, world):
        count = 2 * PAGE_BUNDLES
        opened(world, total=count, bundles=count, closed=True)
        world.monitor.record_progress(
            ID, dict.fromkeys(range(count), Tally(1)), T0 + 2, last_index=count - 1
        )
        found = world.monitor.counted(ID, [0, 1])
        assert found.bundles == set(range(count))
        assert found.batch.finished

    def test_brings_the_records_of_those_bundles_looked_at_that_are_done(self, world):
        opened(world, total=4, bundles=4)
        tasks, rows = [Task(1, "sleep", 0)], [TaskResult(1, TaskStatus.SUCCEEDED, "x" * 500)]
        for number in (1, 2, 3):
            lease = world.monitor.claim(f"{ID}:{number}", owner="me", lease_s=30).lease
            if number == 1:
                world.monitor.commit(f"{ID}:1", lease, tasks=tasks, results=rows)
            if number == 2:
                world.monitor.release(f"{ID}:2", lease, tasks=tasks, results=[])
        for look_at, done in (((), set()), ((0, 1, 2, 3, 9), {1}), ((0, 3), set())):
            found = world.monitor.counted(ID, [0], look_at)
            assert found.done.keys() == done
            assert found.bundles == set()
        assert world.monitor.counted(ID, [], [1]).done == {1: world.monitor.bundles([f"{ID}:1"])[0]}
        world.monitor.record_progress(ID, {1: Tally(1)}, T0 + 1)
        found = world.monitor.counted(ID, [0], [1])
        assert (found.done[1].results, found.bundles) == (rows, {1})

    def test_of_a_missing_batch_is_none(self, world):
        assert world.monitor.counted(ID, [0]) is None
