import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.batch import (
    BatchRecord,
    BatchStatus,
    Tally,
)
from taskfleet.bundle import LegacyIds, Response, job_id
from taskfleet.errors import TransientError
from taskfleet.memory import ManualClock, MemoryMonitor
from taskfleet.scheduler.collect import collect
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.queues import (
    encode_response,
)

S, F, C = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED


def body(batch_id, number, statuses):
    rows = [TaskResult(index, status, attempts=1) for index, status in enumerate(statuses)]
    return encode_response(Response(job_id(batch_id, number), "alice", batch_id, rows))


def monitor_of(clock, **totals):
    """Returns a monitor with these batches, given as id -> total."""
    monitor = MemoryMonitor(clock)
    for batch_id, total in totals.items():
        monitor.create_batch(
            BatchRecord(batch_id, "alice", None, clock.now(), total, total, "h", closed=True)
        )
    return monitor


@pytest.fixture
def clock():
    return ManualClock()


def test_responses_become_the_counts_of_their_batches(clock):
    monitor = monitor_of(clock, b1=5, b2=1)
    bodies = {"m1": body("b1", 0, [S, F]), "m2": body("b2", 0, [C]), "m3": body("b1", 1, [S, S, C])}
    assert collect(bodies, monitor, clock) == []
    assert monitor.batch("b1").tally == Tally(3, 1, 1)
    assert monitor.batch("b1").status is BatchStatus.DONE
    assert monitor.batch("b1").finished_at == clock.now()
    assert monitor.batch("b2").tally == Tally(0, 0, 1)


def test_no_responses_are_no_work(clock):
    assert collect({}, monitor_of(clock), clock) == []


STATUSES = st.lists(st.sampled_from([S, F, C]), min_size=1, max_size=4)


@st.composite
def deliveries(draw):
    """Draws bundles of two batches, and the calls in which their responses come: each at least
    once, some twice, in any order and any grouping. With each call comes the number of times that
    the table fails during it."""
    bundles = {
        (batch_id, number): statuses
        for batch_id in ("b1", "b2")
        for number, statuses in enumerate(draw(st.lists(STATUSES, max_size=5)))
    }
    keys = sorted(bundles)
    repeated = draw(st.lists(st.sampled_from(keys), max_size=8)) if keys else []
    order = draw(st.permutations(keys + repeated))
    calls = []
    while order:
        size = draw(st.integers(1, len(order)))
        calls.append((order[:size], draw(st.integers(0, 2))))
        order = order[size:]
    return bundles, calls


class Failing:
    """A monitor whose next `times` calls of `record_progress` raise after they took effect."""

    def __init__(self, monitor, times):
        self._monitor, self.times = monitor, times

    def record_progress(self, batch_id, tallies, at, spend):
        known = self._monitor.record_progress(batch_id, tallies, at, spend)
        if self.times:
            self.times -= 1
            raise TransientError("the answer was lost")
        return known


@given(deliveries())
def test_duplicates_reordering_and_lost_replies_change_no_count(drawn):
    bundles, calls = drawn
    clock = ManualClock()
    totals = {
        batch_id: sum(len(statuses) for (of, _), statuses in bundles.items() if of == batch_id)
        for batch_id in ("b1", "b2")
    }
    monitor = monitor_of(clock, **totals)
    for keys, failures in calls:
        bodies = {str(n): body(*key, bundles[key]) for n, key in enumerate(keys)}
        failing = Failing(monitor, failures)
        while True:
            try:
                assert collect(bodies, failing, clock) == []
                break
            except TransientError:
                clock.sleep(1)
    for batch_id, total in totals.items():
        statuses = [s for (of, _), found in bundles.items() if of == batch_id for s in found]
        expected = Tally(statuses.count(S), statuses.count(F), statuses.count(C))
        assert monitor.batch(batch_id).tally == expected
        assert expected.total == total
        assert monitor.batch(batch_id).finished


def test_answers_to_programs_of_2014_stay_on_the_queue(clock):
    monitor = monitor_of(clock, b1=1)
    rows = [TaskResult(0, S)]
    bodies = {
        "old": encode_response(Response("1;2", "1", "", rows, LegacyIds(1, 2))),
        "new": body("b1", 0, [S]),
    }
    assert collect(bodies, monitor, clock) == ["old"]
    assert monitor.batch("b1").tally == Tally(1)


def changed(**fields):
    return json.dumps({**json.loads(body("b1", 0, [S])), **fields})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[" * 100_000,
        "{}",
        changed(v=2),
        changed(results=[[0]]),
        changed(results=None),
        changed(job_id="b1"),
        changed(job_id="b1:"),
        changed(job_id="b1:x"),
        changed(job_id="b1:-1"),
        changed(job_id="b1: 0"),
        changed(job_id="b1:00"),
        changed(job_id="b1:٠"),
        changed(job_id="b1:" + "9" * 5000),
        changed(job_id="b1:" + "9" * 40),
        changed(job_id="b2:0"),
        changed(job_id="0"),
        changed(batch_id=""),
        changed(batch_id="", job_id=":0"),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_can_never_be_counted_is_dropped_with_a_log_and_blocks_nothing(text, clock, caplog):
    monitor = monitor_of(clock, b1=2)
    with caplog.at_level(logging.ERROR):
        assert collect({"bad": text, "good": body("b1", 1, [F])}, monitor, clock) == []
    assert monitor.batch("b1").tally == Tally(failed=1)
    (record,) = caplog.records
    assert record.taskfleet["action"] == "response_undecodable"
    assert record.taskfleet["message_id"] == "bad"


def test_responses_for_a_batch_that_is_gone_are_dropped_with_a_log(clock, caplog):
    with caplog.at_level(logging.WARNING):
        assert collect({"m": body("gone", 0, [S])}, monitor_of(clock), clock) == []
    (record,) = caplog.records
    assert record.taskfleet == {"action": "batch_unknown", "batch_id": "gone", "bundles": 1}
