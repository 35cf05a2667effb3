"""Pages in DynamoDB: what their items hold, and what mends a collector that died between counting
and folding."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from taskfleet.aws.dynamodb.pages import PAGES_READ, Pages
from taskfleet.batch import PAGE_BUNDLES, Tally
from taskfleet.errors import TransientError
from tests.contract.conftest import aws_world
from tests.contract.test_contract_pages import AT, ID, count, create, of_upload, portions

PAGE_1 = range(PAGE_BUNDLES, 2 * PAGE_BUNDLES)


@pytest.fixture
def world(aws_stack):
    return aws_world(aws_stack)


@pytest.fixture
def item(aws_stack, world):
    """Returns a function that returns the batch's item, in plain values."""

    def read() -> dict:
        item = aws_stack.client("dynamodb").get_item(
            TableName=aws_stack.settings.monitor_table, Key={"Job_ID": {"S": ID}}
        )["Item"]
        return {name: next(iter(value.values())) for name, value in item.items()}

    return read


@pytest.fixture
def calls(aws_stack):
    """The operations called on the table since the last `clear`."""
    client, made = aws_stack.client("dynamodb"), []

    def note(model, **_kwargs) -> None:
        made.append(model.name)

    client.meta.events.register("before-call.dynamodb", note)
    yield made
    client.meta.events.unregister("before-call.dynamodb", note)


@pytest.fixture
def died(world, monkeypatch):
    """Counts bundles by a collector that dies before it folds a page."""

    def run(numbers) -> None:
        with monkeypatch.context() as patch:

            def die(*_args) -> None:
                raise TransientError("the collector died")

            patch.setattr(Pages, "fold", die)
            with pytest.raises(TransientError, match="died"):
                count(world, numbers)

    return run


def test_a_small_batch_has_one_item_and_is_counted_by_one_plain_write(world, item, calls):
    create(world, PAGE_BUNDLES)
    calls.clear()
    count(world, range(10))
    assert calls == ["UpdateItem"]
    calls.clear()
    assert world.monitor.batch(ID).tally.total == 10
    assert calls == ["GetItem"]


def test_the_batchs_item_stays_small_whatever_the_order_in_which_pages_end(world, item):
    """Pages that end before their turn are noted one by one, until it is."""
    pages = list(range(1, 6))
    random.Random(3).shuffle(pages)
    create(world, 6 * PAGE_BUNDLES)
    for page in pages:
        count(world, range(page * PAGE_BUNDLES, (page + 1) * PAGE_BUNDLES))
        assert item()["folded_to"] not in item().get("folded", [])
    assert item()["folded_to"] == "6"
    assert not item().get("folded")
    assert item()["ended"] == str(5 * PAGE_BUNDLES)


def test_a_finished_batch_is_one_read_however_many_pages_it_had(world, calls):
    create(world, 3 * PAGE_BUNDLES + 5)
    for numbers in portions(range(3 * PAGE_BUNDLES + 5), random.Random(0)):
        count(world, numbers)
    calls.clear()
    assert world.monitor.batch(ID).finished
    assert calls == ["GetItem"]


def test_a_running_batch_is_two_reads(world, calls):
    create(world, 10_000 * PAGE_BUNDLES)
    calls.clear()
    world.monitor.batch(ID)
    assert calls == ["GetItem", "BatchGetItem"]


def test_a_page_that_two_readers_fold_at_once_counts_once(world, aws_stack, died, monkeypatch):
    create(world, 3 * PAGE_BUNDLES)
    died(PAGE_1)
    both_have_read, lock, met = threading.Barrier(2, timeout=10.0), threading.Lock(), set()
    update = aws_stack.client("dynamodb").update_item

    def meeting(**request):
        if threading.get_ident() not in met:
            met.add(threading.get_ident())
            both_have_read.wait()
        with lock:
            return update(**request)

    monkeypatch.setattr(aws_stack.client("dynamodb"), "update_item", meeting)
    with ThreadPoolExecutor(2) as pool:
        read = list(pool.map(lambda _: world.monitor.batch(ID), range(2)))
    assert len(met) == 2
    assert {batch.tally.total for batch in (*read, world.monitor.batch(ID))} == {PAGE_BUNDLES}


def test_answers_of_a_folded_page_that_come_again_write_nothing(world, calls):
    create(world, 3 * PAGE_BUNDLES)
    count(world, PAGE_1)
    calls.clear()
    assert count(world, PAGE_1)
    assert calls == ["GetItem"]


class TestDeathBeforeAFold:
    def test_is_mended_by_the_same_answers_again(self, world, item, died):
        create(world, 3 * PAGE_BUNDLES)
        died(PAGE_1)
        assert item()["ended"] == "0"
        count(world, PAGE_1[:1])
        assert item()["ended"] == str(PAGE_BUNDLES)
        assert world.monitor.batch(ID).tally.total == PAGE_BUNDLES

    def test_is_mended_by_a_reader_before_it_answers(self, world, item, died):
        create(world, 2 * PAGE_BUNDLES)
        count(world, range(PAGE_BUNDLES))
        died(PAGE_1)
        assert world.monitor.batch(ID).finished
        assert item()["ended"] == item()["total"]

    def test_does_not_let_a_finished_batch_be_cancelled(self, world, died):
        create(world, 2 * PAGE_BUNDLES)
        count(world, range(PAGE_BUNDLES))
        died(PAGE_1)
        assert world.monitor.cancel_batch(ID, AT + 5).cancelled_at is None


class TestLastPage:
    def test_is_folded_by_the_cancellation_also_when_a_read_does_not_reach_it(self, world, item):
        pages = PAGES_READ + 5
        create(world, pages * PAGE_BUNDLES + 3, **of_upload())
        count(world, range(pages * PAGE_BUNDLES, pages * PAGE_BUNDLES + 3))
        assert item()["ended"] == "0"
        world.monitor.cancel_batch(ID, AT + 2)
        assert item()["ended"] == "3"
        assert item()["folded"] == [str(pages)]

    def test_is_not_folded_while_it_can_grow(self, world, item):
        create(world, PAGE_BUNDLES + 3, **of_upload())
        count(world, range(PAGE_BUNDLES, PAGE_BUNDLES + 3))
        assert world.monitor.batch(ID).tally == Tally(1, 2)
        assert item()["ended"] == "0"

    def test_is_folded_by_the_collector_when_the_batch_was_closed_meanwhile(
        self, world, item, monkeypatch
    ):
        """The collector has read the batch as open; then the last part closes it."""
        create(world, PAGE_BUNDLES + 3, **of_upload())
        count_on_page = world.monitor._count_on_page

        def close_first(*args) -> None:
            world.monitor.cancel_batch(ID, AT + 1)
            count_on_page(*args)

        monkeypatch.setattr(world.monitor, "_count_on_page", close_first)
        count(world, range(PAGE_BUNDLES, PAGE_BUNDLES + 3))
        assert item()["ended"] == "3"


def test_a_batch_of_an_earlier_version_is_read_from_its_item(world, aws_stack):
    create(world, 4 * PAGE_BUNDLES, tally=Tally(4 * PAGE_BUNDLES))
    aws_stack.client("dynamodb").update_item(
        TableName=aws_stack.settings.monitor_table,
        Key={"Job_ID": {"S": ID}},
        UpdateExpression="REMOVE folded_to",
    )
    assert world.monitor.batch(ID).finished


def test_a_worker_writes_a_batch_when_it_starts_and_only_reads_it_from_then_on(world, calls):
    create(world, 3 * PAGE_BUNDLES)
    calls.clear()
    assert world.monitor.start_batch(ID, AT + 1).started_at == AT + 1
    assert world.monitor.start_batch(ID, AT + 2).started_at == AT + 1  # another worker's question
    assert world.monitor.start_batch(ID, AT + 3, seen=True).started_at == AT + 1
    assert calls == ["UpdateItem", "UpdateItem", "GetItem"]


def test_answers_from_all_over_a_batch_are_counted_at_the_same_time(world, aws_stack, monkeypatch):
    """A call that counts on eight pages waits for its writes once, not eight times."""
    create(world, 8 * PAGE_BUNDLES)
    together = threading.Barrier(7, timeout=10.0)  # pages 1 to 7; page 0 is on the batch's item
    update = aws_stack.client("dynamodb").update_item

    def meeting(**request):
        if "/" in request["Key"]["Job_ID"]["S"]:
            together.wait()
        return update(**request)

    monkeypatch.setattr(aws_stack.client("dynamodb"), "update_item", meeting)

    assert count(world, [page * PAGE_BUNDLES for page in range(8)])
    assert world.monitor.batch(ID).tally.total == 8
