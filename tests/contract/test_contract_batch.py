"""The promises of `TaskMonitor` about batches: parts, marks, lists and exact counts."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from taskfleet.batch import (
    BatchRecord,
    Mark,
    Tally,
    Upload,
)
from taskfleet.bill import Spend
from taskfleet.bundle import Plan
from taskfleet.options import BatchOptions
from taskfleet.quote import Quote
from tests.support.chains import Chains, play

ID = "0123456789abcdefghjkmnpqrs"


def new_batch(batch_id: str = ID, **changes) -> BatchRecord:
    batch = BatchRecord(
        batch_id=batch_id,
        client_id="client",
        name="holidays ü",
        created_at=1_700_000_000.123456,
        total=10,
        bundles=4,
        payload_hash="hash",
        closed=True,
        plan=Plan({"movie": 12.5}, 64),
        spend=Spend(2.5, 0.00000125),
    )
    return replace(batch, **changes)


def open_batch(world, **changes) -> BatchRecord:
    """Creates a batch of an upload whose recorded tasks are enqueued and which expects more."""
    total = changes.pop("total", 10)
    upload = Upload("uploads/client/1", "etag")
    batch = new_batch(closed=False, total=total, enqueued=total, upload=upload, **changes)
    assert world.monitor.create_batch(batch) is None
    return batch


PART = {"first": 10, "tasks": 5, "bundles": 2, "closed": False}


class TestCreate:
    @pytest.mark.parametrize(
        "batch",
        [
            new_batch(),
            new_batch(name=None, plan=Plan(), closed=False, borders=2**32 - 1),
            new_batch(traceparent=f"00-{'4b' * 16}-{'7c' * 8}-01"),
            new_batch(options=BatchOptions(timeout_s=2.5, retry_timeouts=False, after=(ID,))),
            new_batch(retry_of="0" * 26, kinds=("animoto", "sleep")),
            new_batch(total=0, bundles=0, closed=False, upload=Upload("uploads/client/1", "e")),
            new_batch(followers=("1" * 26, "2" * 26)),
            new_batch(
                upload=Upload("u", "e", 12, 10, True, 99, Mark(6, 5, 50)), enqueued=10, error="why"
            ),
        ],
        ids=["full", "bare", "traced", "options", "retry", "upload", "followed", "read"],
    )
    def test_records_every_field(self, world, batch):
        assert world.monitor.create_batch(batch) is None
        assert world.monitor.batch(ID) == batch

    def test_with_a_taken_id_changes_nothing_and_returns_the_recorded_batch(self, world):
        first = new_batch()
        world.monitor.create_batch(first)
        assert world.monitor.create_batch(new_batch(client_id="thief", total=1)) == first
        assert world.monitor.batch(ID) == first

    def test_a_missing_batch_is_none(self, world):
        assert world.monitor.batch(ID) is None


class TestParts:
    def test_the_next_part_joins(self, world):
        batch = open_batch(world)
        grown = replace(batch, total=15, bundles=6)
        assert world.monitor.add_part(ID, **PART) == grown
        assert world.monitor.batch(ID) == grown

    def test_a_part_adds_its_kinds(self, world):
        open_batch(world)
        assert world.monitor.add_part(ID, **PART, kinds=["sleep"]).kinds == ("sleep",)
        world.monitor.record_enqueued(ID, 15)
        again = PART | {"first": 15}
        assert world.monitor.add_part(ID, **again, kinds=["sleep", "animoto"]) is not None
        assert world.monitor.batch(ID).kinds == ("animoto", "sleep")

    def test_the_last_part_closes(self, world):
        open_batch(world)
        assert world.monitor.add_part(ID, **PART | {"closed": True}).closed
        world.monitor.record_enqueued(ID, 15)
        assert world.monitor.add_part(ID, **PART | {"first": 15}) is None

    def test_the_same_part_again_before_it_is_enqueued_changes_nothing(self, world):
        open_batch(world)
        grown = world.monitor.add_part(ID, **PART)
        assert world.monitor.add_part(ID, **PART) == grown
        assert world.monitor.batch(ID) == grown

    @pytest.mark.parametrize(
        "part",
        [
            pytest.param(PART | {"first": 5}, id="a part that is already enqueued"),
            pytest.param(PART | {"first": 15}, id="a part after a gap"),
        ],
    )
    def test_no_other_part_joins(self, world, part):
        batch = open_batch(world)
        assert world.monitor.add_part(ID, **part) is None
        assert world.monitor.batch(ID) == batch

    def test_no_part_joins_before_the_previous_one_is_enqueued(self, world):
        open_batch(world)
        grown = world.monitor.add_part(ID, **PART)
        assert world.monitor.add_part(ID, **PART | {"first": 15}) is None
        assert world.monitor.add_part(ID, **PART | {"tasks": 4}) is None
        assert world.monitor.add_part(ID, **PART | {"closed": True}) is None
        assert world.monitor.batch(ID) == grown

    def test_no_part_joins_a_cancelled_batch(self, world):
        open_batch(world)
        cancelled = world.monitor.cancel_batch(ID, 1_700_000_001.0)
        assert world.monitor.add_part(ID, **PART) is None
        assert world.monitor.batch(ID) == cancelled

    def test_no_part_joins_a_missing_batch(self, world):
        assert world.monitor.add_part(ID, **PART) is None
        assert world.monitor.batch(ID) is None

    def test_enqueued_never_falls(self, world):
        open_batch(world)
        world.monitor.add_part(ID, **PART)
        for tasks in (15, 15, 10):
            world.monitor.record_enqueued(ID, tasks)
            assert world.monitor.batch(ID).enqueued == 15

    def test_recording_enqueued_creates_no_batch(self, world):
        world.monitor.record_enqueued(ID, 1)
        assert world.monitor.batch(ID) is None


class TestUploads:
    def test_the_progress_of_checking_a_file_never_falls(self, world):
        begun = open_batch(world).upload
        for told, stands in [
            (replace(begun, lines=7, tasks=5, offset=70), (7, 5, False, 70)),
            (replace(begun, lines=3, tasks=2, offset=30), (7, 5, False, 70)),
            (replace(begun, lines=9, tasks=6, offset=90, checked=True), (9, 6, True, 90)),
            (replace(begun, lines=9, tasks=6, offset=95), (9, 6, True, 90)),
        ]:
            world.monitor.record_upload(ID, told)
            upload = world.monitor.batch(ID).upload
            assert (upload.lines, upload.tasks, upload.checked, upload.offset) == stands
            assert (upload.key, upload.etag) == (begun.key, begun.etag)

    def test_the_place_up_to_which_a_file_is_handed_in_never_falls(self, world):
        begun = open_batch(world).upload
        far, near = Mark(9, 6, 90), Mark(3, 2, 30)
        for told, stands in [(near, near), (far, far), (near, far), (Mark(), far)]:
            world.monitor.record_handed(ID, told)
            assert world.monitor.batch(ID).upload == replace(begun, handed=stands)
        world.monitor.record_upload(ID, replace(begun, lines=12))
        assert world.monitor.batch(ID).upload == replace(begun, lines=12, handed=far)

    @pytest.mark.parametrize("batch", [None, new_batch()])
    def test_a_batch_without_an_upload_gets_none(self, world, batch):
        if batch is not None:
            world.monitor.create_batch(batch)
        world.monitor.record_upload(ID, Upload("uploads/client/1", "etag", 1, 1, True))
        world.monitor.record_handed(ID, Mark(1, 1, 8))
        assert world.monitor.batch(ID) == batch


class TestMarks:
    def test_the_first_start_stands(self, world):
        batch = new_batch()
        world.monitor.create_batch(batch)
        started = replace(batch, started_at=1_700_000_005.25)
        assert world.monitor.start_batch(ID, 1_700_000_005.25) == started
        assert world.monitor.start_batch(ID, 1_700_000_001.0) == started

    def test_the_first_cancellation_stands(self, world):
        batch = new_batch()
        world.monitor.create_batch(batch)
        cancelled = replace(batch, cancelled_at=1_700_000_005.0)
        assert world.monitor.cancel_batch(ID, 1_700_000_005.0) == cancelled
        assert world.monitor.cancel_batch(ID, 1_700_000_009.0) == cancelled

    def test_the_reason_of_the_first_cancellation_stands(self, world):
        open_batch(world)
        cancelled = world.monitor.cancel_batch(ID, 1_700_000_005.0, "line 3: ü")
        assert cancelled.error == "line 3: ü"
        assert world.monitor.cancel_batch(ID, 1_700_000_009.0, "another") == cancelled
        assert world.monitor.batch(ID) == cancelled

    def test_a_finished_batch_is_not_cancelled(self, world):
        world.monitor.create_batch(new_batch(total=3))
        world.monitor.record_progress(ID, {0: Tally(1, 1, 1)}, 1_700_000_002.0)
        assert world.monitor.cancel_batch(ID, 1_700_000_009.0).cancelled_at is None

    def test_an_open_batch_is_cancelled_even_if_all_its_tasks_are_done(self, world):
        open_batch(world, total=1)
        world.monitor.record_progress(ID, {0: Tally(1)}, 1_700_000_002.0)
        assert world.monitor.cancel_batch(ID, 1_700_000_009.0).cancelled_at == 1_700_000_009.0

    def test_of_a_missing_batch_are_none(self, world):
        assert world.monitor.start_batch(ID, 1.0) is None
        assert world.monitor.cancel_batch(ID, 1.0) is None
        assert world.monitor.batch(ID) is None


class TestList:
    def fill(self, world) -> list[BatchRecord]:
        batches = [
            new_batch(f"batch-{n}", created_at=1_700_000_000.0 + n * 0.001) for n in range(7)
        ]
        for batch in random.Random(4).sample(batches, len(batches)):
            world.monitor.create_batch(batch)
        world.monitor.create_batch(new_batch("other", client_id="other"))
        world.monitor.claim("batch-0:0", owner="me", lease_s=30)
        return list(reversed(batches))

    @pytest.mark.parametrize("limit", [1, 3, 7, 100])
    def test_has_the_client_s_own_batches_newest_first_in_pages(self, world, limit):
        expected = self.fill(world)
        found, cursor, pages = [], None, 0
        while pages == 0 or cursor is not None:
            page = world.monitor.batches("client", limit=limit, cursor=cursor)
            assert len(page.items) <= limit
            found, cursor, pages = found + page.items, page.cursor, pages + 1
        assert found == expected
        assert pages == -(-len(expected) // limit)

    def test_of_a_client_without_batches_is_empty(self, world):
        page = world.monitor.batches("nobody", limit=5, cursor=None)
        assert (page.items, page.cursor) == ([], None)

    def test_shows_current_progress(self, world):
        world.monitor.create_batch(new_batch())
        world.monitor.record_progress(ID, {0: Tally(2)}, 1_700_000_002.0)
        page = world.monitor.batches("client", limit=5, cursor=None)
        assert page.items == [world.monitor.batch(ID)]

    @pytest.mark.parametrize(
        "cursor", ["", "x", "nan_id", "1_", "_id", "1e5_id", "1_a/b", "-1_id", "1_" + "a" * 2_000]
    )
    def test_refuses_any_other_text_as_cursor(self, world, cursor):
        self.fill(world)
        with pytest.raises(ValueError, match="not one that this API gave"):
            world.monitor.batches("client", limit=5, cursor=cursor)


class TestProgress:
    def test_counts_each_bundle_once(self, world):
        world.monitor.create_batch(new_batch())
        assert world.monitor.record_progress(ID, {0: Tally(1), 2: Tally(0, 2)}, 1_700_000_001.0)
        assert world.monitor.record_progress(
            ID, {2: Tally(0, 2), 1: Tally(0, 0, 3)}, 1_700_000_002.0
        )
        assert world.monitor.record_progress(ID, {0: Tally(1)}, 1_700_000_003.0)
        batch = world.monitor.batch(ID)
        assert batch.tally == Tally(1, 2, 3)
        assert batch.progressed_at == 1_700_000_002.0

    def test_adds_up_spend(self, world):
        world.monitor.create_batch(new_batch(spend=Spend()))
        world.monitor.record_enqueued(ID, 10, Spend(3, 0.0000012))
        world.monitor.record_enqueued(ID, 10, Spend(3, 0.0000012))  # repeated
        world.monitor.record_progress(ID, {0: Tally(1)}, 1_700_000_001.0, Spend(2.5, 0.0000008))
        world.monitor.record_progress(ID, {0: Tally(1)}, 1_700_000_002.0, Spend(9, 1.0))  # repeated
        spend = world.monitor.batch(ID).spend
        assert spend.calls == pytest.approx(5.5)
        assert spend.usd == pytest.approx(0.000002)

    def test_adds_up_the_time_of_tasks_once_and_keeps_the_first_quote(self, world):
        world.monitor.create_batch(new_batch())
        quote = Quote(61.5, 75.25, 0.000123, 2, 1.259e-06)
        world.monitor.record_enqueued(ID, 10, quote=quote)
        world.monitor.record_enqueued(ID, 10, quote=Quote(1.0, 2.0, 3.0, 4, 5.0))  # repeated
        world.monitor.record_progress(ID, {0: Tally(1)}, 1.0, busy_ms={0: 1_500})
        both = {0: Tally(1), 1: Tally(1)}
        world.monitor.record_progress(ID, both, 2.0, busy_ms={0: 1_500, 1: 40})
        batch = world.monitor.batch(ID)
        assert (batch.quote, batch.busy_ms) == (quote, 1_540)

    def test_of_a_missing_batch_is_refused_and_records_nothing(self, world):
        assert not world.monitor.record_progress(ID, {0: Tally(1)}, 1_700_000_001.0)
        assert not world.monitor.record_progress(ID, {}, 1_700_000_001.0)
        world.monitor.create_batch(new_batch())
        assert world.monitor.batch(ID).tally == Tally()
        assert world.monitor.record_progress(ID, {0: Tally(1)}, 1_700_000_001.0)
        assert world.monitor.batch(ID).tally == Tally(1)

    @pytest.mark.parametrize(("bundle", "index"), [(3, 0), (999_999_999, 0), (0, 10)])
    def test_of_a_bundle_or_task_that_the_batch_lacks_is_refused(self, world, bundle, index):
        world.monitor.create_batch(new_batch(total=10, bundles=3))
        at = 1_700_000_001.0
        assert not world.monitor.record_progress(ID, {bundle: Tally(1)}, at, last_index=index)
        assert world.monitor.batch(ID).tally == Tally()
        both = {2: Tally(1), bundle: Tally(7)}
        record = world.monitor.record_progress(ID, both, at, last_index=9)
        assert (record is not None) is (bundle == 0)
        assert world.monitor.batch(ID).tally == (Tally(8) if bundle == 0 else Tally(1))

    def test_of_nothing_changes_nothing(self, world):
        world.monitor.create_batch(new_batch())
        assert world.monitor.record_progress(ID, {}, 1_700_000_001.0)
        assert world.monitor.batch(ID) == new_batch()

    def test_time_never_moves_backwards(self, world):
        world.monitor.create_batch(new_batch())
        for number, at in enumerate([1_700_000_004.0, 1_700_000_005.5, 1_700_000_004.5]):
            world.monitor.record_progress(ID, {number: Tally(1)}, at)
        batch = world.monitor.batch(ID)
        assert (batch.tally, batch.progressed_at) == (Tally(3), 1_700_000_005.5)

    def test_of_a_large_batch_in_one_call_is_exact(self, world):
        numbers = [*range(0, 120), 249, 250, 499, 500, 999, 1_000, 4_999]
        world.monitor.create_batch(new_batch(total=250_000, bundles=250_000))
        world.monitor.record_progress(ID, {n: Tally(1) for n in numbers[::3]}, 1_700_000_001.0)
        world.monitor.record_progress(ID, {n: Tally(1) for n in numbers}, 1_700_000_002.0)
        assert world.monitor.batch(ID).tally == Tally(len(numbers))

    def test_counted_by_eight_threads_at_once_is_exact(self, world):
        """Two or three threads report each bundle, in different portions and orders."""
        world.monitor.create_batch(new_batch(total=60, bundles=60))

        def tell(thread: int) -> None:
            rng = random.Random(thread % 3)  # the same portions in several threads
            numbers = rng.sample(range(60), 60)
            random.Random(thread).shuffle(
                portions := [numbers[i : i + 10] for i in range(0, 60, 10)]
            )
            for portion in portions:
                tallies = {number: Tally(number % 2, 1 - number % 2) for number in portion}
                assert world.monitor.record_progress(ID, tallies, 1_700_000_000.0 + thread)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(tell, range(8)))
        batch = world.monitor.batch(ID)
        assert batch.tally == Tally(30, 30)
        assert batch.finished


class TestFollowers:
    A, B = "2" * 26, "1" * 26

    def test_a_note_is_kept_once_and_tells_what_became_of_the_batch(self, world):
        world.monitor.create_batch(new_batch(total=1, bundles=1))
        assert world.monitor.note_follower(ID, self.A).followers == (self.A,)
        for _ in range(2):
            noted = world.monitor.note_follower(ID, self.B)
            assert noted == world.monitor.batch(ID)
            assert (noted.followers, noted.finished) == ((self.B, self.A), False)
        counted = world.monitor.record_progress(ID, {0: Tally(1)}, 1_700_000_001.0)
        assert (counted.followers, counted.finished) == ((self.B, self.A), True)
        assert world.monitor.note_follower(ID, self.A).finished

    def test_whoever_ends_a_batch_sees_who_waits_for_it(self, world):
        world.monitor.create_batch(new_batch(total=0, bundles=0, closed=False))
        world.monitor.note_follower(ID, self.A)
        closed = world.monitor.close_batch(ID, 1_700_000_001.0, client_id="client")
        assert (closed.followers, closed.finished) == ((self.A,), True)
        other = new_batch(total=0, bundles=0, closed=False)
        world.monitor.create_batch(replace(other, batch_id=self.B))
        world.monitor.note_follower(self.B, self.A)
        cancelled = world.monitor.cancel_batch(self.B, 1_700_000_001.0)
        assert (cancelled.followers, cancelled.finished) == ((self.A,), True)

    def test_there_is_nothing_to_note_in_a_batch_that_is_not_there(self, world):
        assert world.monitor.note_follower(ID, self.A) is None
        assert world.monitor.batch(ID) is None

    def test_a_tangle_of_batches_goes_in_order_through_crashes(self, world):
        chains = Chains(world.monitor, world.clock, seed=4, crash_rate=0.02)
        graph = {f"b{n}": [f"b{each}" for each in (n - 1, n - 3) if each >= 0] for n in range(12)}
        play(chains, graph)
        assert [chains.batch(key).tally for key in graph] == [Tally(2)] * len(graph)
        assert chains.crashes


class TestIsCounted:
    def test_a_bundle_is_counted_once_its_results_are(self, world):
        world.monitor.create_batch(new_batch(total=900, bundles=900))
        assert not world.monitor.is_counted(ID, 3)
        world.monitor.record_progress(ID, {3: Tally(1), 251: Tally(1)}, 5.0)
        for number, counted in ((3, True), (4, False), (251, True), (252, False), (600, False)):
            assert world.monitor.is_counted(ID, number) is counted

    def test_the_bundles_of_a_full_page_are_counted(self, world):
        world.monitor.create_batch(new_batch(total=600, bundles=600))
        world.monitor.record_progress(ID, {n: Tally(1) for n in range(250, 500)}, 5.0)
        assert world.monitor.is_counted(ID, 250)
        assert world.monitor.is_counted(ID, 499)
        assert not world.monitor.is_counted(ID, 500)
        assert not world.monitor.is_counted(ID, 0)

    def test_no_batch_has_counted_anything(self, world):
        assert not world.monitor.is_counted("no such batch", 0)
