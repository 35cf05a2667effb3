"""Second copies of tasks that take far longer than others, in real workers on memory ports."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest

from taskfleet.errors import PermanentError
from taskfleet.measure import COPIES
from taskfleet.registry import Registry
from tests.functional.test_worker import Fleet
from tests.support.waiting import eventually
from tests.support.worker import thread_kind

USUAL_S = 0.025
"""Long enough that each task is a chunk of its own."""
USUAL = 30
"""Tasks before the slow one."""


class Work:
    """A fleet with a kind whose task `slow` is done by `ways`: the first run by the first of them,
    its copy by the second."""

    def __init__(self, *ways, hedge=True):
        self.ways = ways
        self.runs = []
        self.lock = threading.Lock()
        self.release = threading.Event()
        self.fleet = Fleet([thread_kind("work", self.run, hedge=hedge)])
        self.fleet.start(threads=4)

    def run(self, params, context):
        with self.lock:
            number = self.runs.count(params)
            self.runs.append(params)
        if params == "slow":
            return self.ways[number](self, context)
        context.sleep(USUAL_S)
        return params

    def submit(self):
        usual = [{"kind": "work", "params": number} for number in range(USUAL)]
        return self.fleet.submit([*usual, {"kind": "work", "params": "slow"}])

    def result(self, batch_id):
        """Returns the row of the slow task. All others ran once."""
        assert self.fleet.finished(batch_id).tally.succeeded == USUAL + 1
        assert all(self.runs.count(number) == 1 for number in range(USUAL))
        return self.fleet.cloud.rows(self.fleet.registry, batch_id)[-1]

    @property
    def copies(self):
        counts = self.fleet.ports.telemetry.recorder.read().counts
        return counts.get((COPIES, ("work",)), 0)

    def copy_runs(self):
        eventually(lambda: self.runs.count("slow") == 2, 10, "the copy runs", poll_s=0.01)


@pytest.fixture
def work():
    made = []

    def make(*ways, **options):
        made.append(Work(*ways, **options))
        return made[-1]

    yield make
    for each in made:
        each.release.set()
        each.fleet.stop()


def hangs(_work, context):
    while True:
        context.sleep(0.01)


def waits(work, _context):
    work.release.wait(20)
    return "first"


def fails(_work, _context):
    raise PermanentError("the copy fails")


def succeeds(_work, _context):
    return "copy"


def waits_for_copy(work, _context):
    work.copy_runs()
    return "first"


def test_a_copy_on_an_idle_slot_ends_the_wait_and_the_task_is_told_to_end(work):
    works = work(hangs, succeeds)
    row = works.result(works.submit())
    assert (row.result, row.attempts) == ("copy", 1)
    assert works.copies == 1


def test_a_task_that_ends_before_its_copy_counts_and_the_copy_is_told_to_end(work):
    works = work(waits_for_copy, hangs)
    assert works.result(works.submit()).result == "first"


def test_a_copy_that_fails_changes_nothing(work):
    works = work(waits, fails)
    batch_id = works.submit()
    works.copy_runs()
    works.release.set()
    row = works.result(batch_id)
    assert (row.result, row.error) == ("first", None)


def test_a_kind_that_does_not_hedge_gets_no_copy(work):
    works = work(waits, succeeds, hedge=False)
    batch_id = works.submit()
    eventually(lambda: len(works.runs) == USUAL + 1, 10, "all run", poll_s=0.01)
    time.sleep(10 * USUAL_S)  # three times the longest of the others, and more
    works.release.set()
    assert works.result(batch_id).result == "first"
    assert (works.runs.count("slow"), works.copies) == (1, 0)


def test_the_process_of_a_task_whose_copy_was_faster_is_ended(tmp_path: Path):
    fleet = Fleet()
    fleet.registry = Registry.load(["tests.support.poison"])
    fleet.start(threads=4)
    try:
        marker = tmp_path / "marker"
        tasks = [{"kind": "copied", "params": number} for number in range(USUAL)]
        batch_id = fleet.submit([*tasks, {"kind": "copied", "params": str(marker)}])
        assert fleet.finished(batch_id).tally.succeeded == USUAL + 1
        assert fleet.cloud.rows(fleet.registry, batch_id)[-1].result == "copy"
        with pytest.raises(ProcessLookupError):
            os.kill(int(marker.read_text()), 0)
    finally:
        fleet.stop()
