"""The promises of `TaskMonitor` about counting the results of large batches, which DynamoDB counts
on several pages: exact, once, never backwards, whatever comes in between."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from taskfleet.aws.dynamodb import pages
from taskfleet.batch import PAGE_BUNDLES, BatchRecord, Tally, Upload
from taskfleet.bill import NOTHING, Spend
from tests.contract.conftest import aws_world, memory_world

ID = "0123456789abcdefghjkmnpqrs"
AT = 1_700_000_000.0
THREE_PAGES = 2 * PAGE_BUNDLES + 60


def create(world, bundles: int, **changes) -> BatchRecord:
    """Records a batch with one task in each bundle, all of them enqueued."""
    batch = BatchRecord(ID, "client", None, AT, bundles, bundles, "hash", True, enqueued=bundles)
    batch = replace(batch, **changes)
    assert world.monitor.create_batch(batch) is None
    return batch


def of_upload(**changes):
    return {"closed": False, "upload": Upload("uploads/client/1", "etag"), **changes}


def tally(number: int) -> Tally:
    return Tally(number % 2, 1 - number % 2)


def count(world, numbers: Iterable[int], at: float = AT + 1, spend: Spend = NOTHING) -> bool:
    return bool(world.monitor.record_progress(ID, {n: tally(n) for n in numbers}, at, spend))


def portions(numbers: Iterable[int], rng: random.Random, size: int = 40) -> list[list[int]]:
    shuffled = list(numbers)
    rng.shuffle(shuffled)
    return [shuffled[i : i + size] for i in range(0, len(shuffled), size)]


def test_counted_by_eight_threads_at_once_with_duplicates_is_exact_and_never_falls(world):
    create(world, THREE_PAGES)
    seen: list[list[tuple[int, float]]] = []

    def tell(thread: int) -> None:
        # Each bundle is told by two threads, in other portions and orders.
        rng = random.Random(thread)
        mine = [n for n in range(THREE_PAGES) if thread in (n % 8, (n // 3) % 8)]
        here = []
        for numbers in portions(mine, rng, 30):
            assert count(world, numbers, AT + rng.randint(0, 60))
            batch = world.monitor.batch(ID)
            here.append((batch.tally.total, batch.progressed_at))
        seen.append(here)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(8)))
    batch = world.monitor.batch(ID)
    assert batch.tally == sum((tally(n) for n in range(THREE_PAGES)), start=Tally())
    assert batch.finished
    for here in seen:
        assert [total for total, _ in here] == sorted(total for total, _ in here)
        assert [at for _, at in here] == sorted(at for _, at in here)


@pytest.mark.parametrize("seed", range(6))
def test_any_history_gives_the_same_records_in_dynamodb_as_in_memory(aws_stack, seed):
    """Parts that join, a part that closes or a cancellation, and answers of bundles that are there,
    that come twice, and that are forged."""
    rng = random.Random(seed)
    world, model = aws_world(aws_stack), memory_world()
    for each in (world, model):
        create(each, 90, **of_upload())
    told: list[list[int]] = []
    bundles, open_ = 90, True
    while open_ or told:
        step = rng.random()
        if open_ and step < 0.2:
            more = rng.choice([10, 160, 250, 400])
            closes = bundles > 600
            for each in (world, model):
                assert each.monitor.add_part(
                    ID, first=bundles, tasks=more, bundles=more, closed=closes
                )
                each.monitor.record_enqueued(ID, bundles + more, Spend(2.0))
            told += portions(range(bundles, bundles + more), rng, 90)
            bundles, open_ = bundles + more, not closes
        elif open_ and step < 0.22:
            open_ = False
            assert world.monitor.cancel_batch(ID, AT + 9) == model.monitor.cancel_batch(ID, AT + 9)
        elif step < 0.3:
            forged = [rng.randrange(bundles), bundles + rng.choice([0, 700, 10**8])]
            at = AT + rng.randint(0, 99)
            assert not count(world, forged, at)
            assert not count(model, forged, at)
        elif told:
            numbers = told.pop(rng.randrange(len(told)))
            if rng.random() < 0.3:
                told.append(numbers)
            at = AT + rng.randint(0, 99)
            assert count(world, numbers, at)
            assert count(model, numbers, at)
        assert world.monitor.batch(ID) == model.monitor.batch(ID)
    for numbers in portions(range(bundles), rng, 200):
        count(world, numbers, AT + 100)
        count(model, numbers, AT + 100)
    assert world.monitor.batch(ID) == model.monitor.batch(ID)
    assert world.monitor.batch(ID).finished
    assert world.monitor.batches("client", limit=5, cursor=None).items == [model.monitor.batch(ID)]


def test_a_batch_of_more_pages_than_a_read_adds_up_never_falls_and_is_exact_at_its_end(
    world, monkeypatch
):
    monkeypatch.setattr(pages, "PAGES_READ", 2)
    bundles = 5 * PAGE_BUNDLES + 7
    create(world, bundles)
    rng = random.Random(1)
    before = 0
    for numbers in portions(range(bundles), rng, 180):
        assert not world.monitor.batch(ID).finished
        assert count(world, numbers)
        batch = world.monitor.batch(ID)
        assert batch.tally.total >= before
        before = batch.tally.total
    assert batch.tally == sum((tally(n) for n in range(bundles)), start=Tally())
    assert batch.finished


def test_spend_on_every_page_is_added_up(world):
    create(world, THREE_PAGES)
    for numbers in ([0, 1], [PAGE_BUNDLES], [PAGE_BUNDLES], [0, 2 * PAGE_BUNDLES]):
        count(world, numbers, spend=Spend(2.0, 0.000002))
    spend = world.monitor.batch(ID).spend
    assert spend.calls == pytest.approx(6.0, abs=1.0)
    count(world, range(THREE_PAGES))
    assert world.monitor.batch(ID).spend == spend


def test_a_part_that_closes_ends_nothing_and_the_last_answer_does(world):
    create(world, 300, **of_upload())
    count(world, range(300))
    assert not world.monitor.batch(ID).finished
    world.monitor.add_part(ID, first=300, tasks=1, bundles=1, closed=True)
    assert not world.monitor.batch(ID).finished
    count(world, [300])
    assert world.monitor.batch(ID).finished
    assert world.monitor.batch(ID).tally.total == 301


def test_a_cancellation_ends_a_batch_whose_tasks_are_all_done(world):
    create(world, 300, **of_upload())
    count(world, range(300))
    assert world.monitor.cancel_batch(ID, AT + 2).finished
    assert world.monitor.batch(ID).finished
    assert world.monitor.batch(ID).finished_at == AT + 2


def test_a_finished_batch_is_not_cancelled(world):
    create(world, THREE_PAGES)
    count(world, range(THREE_PAGES))
    assert world.monitor.cancel_batch(ID, AT + 2).cancelled_at is None


def test_whoever_makes_the_last_count_is_told_of_the_end_and_so_is_who_repeats_it(world):
    create(world, THREE_PAGES)
    rng = random.Random(2)
    last = portions(range(THREE_PAGES), rng)
    told = [
        record.finished
        for numbers in last
        if (record := world.monitor.record_progress(ID, {n: tally(n) for n in numbers}, AT + 1))
    ]
    assert told == [False] * (len(last) - 1) + [True]
    for numbers in (last[0], last[-1]):  # as after a crash before anybody was told
        again = world.monitor.record_progress(ID, {n: tally(n) for n in numbers}, AT + 2)
        assert again == world.monitor.batch(ID)
        assert again.finished
