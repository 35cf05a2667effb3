"""Finding the bundle of a task among many, of which some have no record."""

import random

import pytest

from taskfleet.batch import BatchRecord
from taskfleet.lease import BundleStatus
from taskfleet.ports import BundleRecord
from taskfleet.scheduler.locate import PROBES, READS_MAX, locate
from taskfleet.task import Task


class Table:
    """The bundles of one batch. `sizes` are their numbers of tasks."""

    def __init__(self, sizes):
        self.firsts, total = [], 0
        for size in sizes:
            self.firsts.append(total)
            total += size
        self.batch = BatchRecord("b", "alice", None, 0.0, total, len(sizes), "h", closed=True)
        self.claimed = set(range(len(sizes)))
        self.fresh = set()
        self.reads = []

    def number(self, index):
        return max(n for n, first in enumerate(self.firsts) if first <= index)

    def read(self, numbers):
        self.reads.append(numbers)
        assert len(numbers) <= PROBES
        return {n: self.record(n) for n in numbers if n in self.claimed}

    def record(self, number):
        end = [*self.firsts, self.batch.total][number + 1]
        tasks = [] if number in self.fresh else [Task(self.firsts[number], "x"), Task(end - 1, "x")]
        return BundleRecord(f"b:{number}", BundleStatus.RUNNING, None, tasks)

    def find(self, index):
        return locate(self.batch, index, self.read)


@pytest.mark.parametrize(
    "sizes",
    [[1], [1000], [1] * 100, [1000] * 250, [1] * 5000 + [1000] * 50, [1000] * 50 + [1] * 5000],
    ids=["one", "thousand", "singles", "even", "late", "early"],
)
def test_every_task_of_claimed_bundles_is_found_in_few_reads(sizes):
    table = Table(sizes)
    rng = random.Random(1)
    indexes = {0, table.batch.total - 1, *(rng.randrange(table.batch.total) for _ in range(40))}
    for index in indexes:
        table.reads.clear()
        assert table.find(index).number == table.number(index)
        assert len(table.reads) <= 5


@pytest.mark.parametrize("seed", range(5))
def test_bundles_of_any_sizes_claimed_in_any_order_are_found(seed):
    rng = random.Random(seed)
    table = Table([rng.choice([1, 2, 30, 1000]) for _ in range(300)])
    table.claimed = {n for n in table.claimed if rng.random() < 0.5}
    for _ in range(50):
        index = rng.randrange(table.batch.total)
        place, number = table.find(index), table.number(index)
        if number in table.claimed:
            assert (place.number, place.record.job_id) == (number, f"b:{number}")
        else:
            assert place.record is None
            assert not place.fresh


def test_a_task_behind_what_is_claimed_is_not_found_and_that_ends_soon():
    table = Table([1] * 100_000)
    table.claimed = set(range(10))
    assert table.find(500).record is None
    table = Table([rng_size % 3 + 1 for rng_size in range(100_000)])
    table.claimed = set(range(10))
    assert table.find(150_000).record is None
    assert len(table.reads) <= READS_MAX


def test_the_only_bundle_is_known_before_anything_is_recorded_of_it():
    table = Table([7])
    table.fresh = {0}
    place = table.find(3)
    assert (place.number, place.record.tasks, place.fresh) == (0, [], False)
    table.claimed = set()
    assert table.find(3).record is None


def test_a_bundle_between_known_ones_is_known():
    table = Table([7, 3, 9])
    table.fresh = {1}
    assert table.find(8).record == table.record(1)


def test_among_bundles_that_were_claimed_just_now_none_is_guessed():
    table = Table([7, 3, 9])
    table.fresh = {0, 1, 2}
    place = table.find(8)
    assert (place.record, place.fresh) == (None, True)
