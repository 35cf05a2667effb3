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
from taskfleet.wire.envelopes import pack
from taskfleet.wire.queues import (
    encode_response,
)

B1, B2 = "b1".ljust(26, "0"), "b2".ljust(26, "0")
"""Ids of batches."""
S, F, C = TaskStatus.SUCCEEDED, TaskStatus.FAILED, TaskStatus.CANCELLED


def body(batch_id, number, statuses):
    rows = [TaskResult(index, status, attempts=1) for index, status in enumerate(statuses)]
    return encode_response(Response(job_id(batch_id, number), "alice", batch_id, rows))


def monitor_of(clock, totals=None):
    """Returns a monitor with these batches, given as id -> total."""
    monitor = MemoryMonitor(clock)
    for batch_id, total in (totals or {}).items():
        monitor.create_batch(
            BatchRecord(batch_id, "alice", None, clock.now(), total, total, "h", closed=True)
        )
    return monitor


@pytest.fixture
def clock():
    return ManualClock()


def test_responses_become_the_counts_of_their_batches(clock):
    monitor = monitor_of(clock, {B1: 5, B2: 1})
    bodies = {"m1": body(B1, 0, [S, F]), "m2": body(B2, 0, [C]), "m3": body(B1, 1, [S, S, C])}
    assert collect(bodies, monitor, clock) == []
    assert monitor.batch(B1).tally == Tally(3, 1, 1)
    assert monitor.batch(B1).status is BatchStatus.DONE
    assert monitor.batch(B1).finished_at == clock.now()
    assert monitor.batch(B2).tally == Tally(0, 0, 1)


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
        for batch_id in (B1, B2)
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

    def record_progress(self, *args, **options):
        known = self._monitor.record_progress(*args, **options)
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
        for batch_id in (B1, B2)
    }
    monitor = monitor_of(clock, totals)
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
    monitor = monitor_of(clock, {B1: 1})
    rows = [TaskResult(0, S)]
    bodies = {
        "old": encode_response(Response("1;2", "1", "", rows, LegacyIds(1, 2))),
        "new": body(B1, 0, [S]),
    }
    assert collect(bodies, monitor, clock) == ["old"]
    assert monitor.batch(B1).tally == Tally(1)


def changed(**fields):
    return json.dumps({**json.loads(body(B1, 0, [S])), **fields})


UNREADABLE = [
    "",
    "nonsense",
    "[" * 100_000,
    "{}",
    changed(v=2),
    changed(results=[[0]]),
    changed(results=None),
    changed(job_id=B1),
    changed(job_id=f"{B1}:"),
    changed(job_id=f"{B1}:x"),
    changed(job_id=f"{B1}:-1"),
    changed(job_id=f"{B1}: 0"),
    changed(job_id=f"{B1}:00"),
    changed(job_id=f"{B1}:٠"),
    changed(job_id=f"{B1}:" + "9" * 5000),
    changed(job_id=f"{B1}:" + "9" * 40),
    changed(job_id=f"{B2}:0"),
    changed(job_id="0"),
    changed(batch_id=""),
    changed(batch_id="", job_id=":0"),
    changed(client_id=""),
    changed(client_id="a\nb"),
    changed(results=[[0, "SUCCEEDED"], [0, "SUCCEEDED"]]),
    changed(results=[[-1, "SUCCEEDED"]]),
    changed(results=[[index, "SUCCEEDED"] for index in range(2_001)]),
    changed(spend=[1e308, 1e308]),
    changed(spend=[-1, 0]),
    changed(timings={"echo": [1, 1e308, 1e308]}),
    changed(timings={"echo": [-1, 0, 0]}),
    changed(timings={"": [1, 1, 1]}),
]


@pytest.mark.parametrize("text", UNREADABLE, ids=lambda value: repr(value)[:40])
def test_what_can_never_be_counted_is_dropped_with_a_log_and_blocks_nothing(text, clock, caplog):
    monitor = monitor_of(clock, {B1: 2})
    with caplog.at_level(logging.ERROR):
        assert collect({"bad": text, "good": body(B1, 1, [F])}, monitor, clock) == []
    assert monitor.batch(B1).tally == Tally(failed=1)
    (record,) = caplog.records
    assert record.taskfleet["action"] == "response_undecodable"
    assert record.taskfleet["message_id"] == "bad"


@pytest.mark.parametrize(
    "text",
    [text for text in UNREADABLE if text.startswith("{")]
    + ["1", "null", '{"clientID":1,"jobID":2,"status":"SUCCEEDED","result":1}'],
    ids=lambda value: repr(value)[:40],
)
def test_one_unreadable_response_takes_no_other_of_its_message_with_it(text, clock, caplog):
    monitor = monitor_of(clock, {B1: 3})
    parts = [body(B1, 1, [F]), text, body(B1, 2, [C])]
    with caplog.at_level(logging.ERROR):
        message = '{"v":1,"responses":[' + ",".join(parts) + "]}"
        assert collect({"m": message}, monitor, clock) == []
    assert monitor.batch(B1).tally == Tally(failed=1, cancelled=1)
    assert [record.taskfleet["action"] for record in caplog.records] == ["response_undecodable"]


def test_one_forged_response_takes_no_other_of_its_message_with_it(clock, caplog):
    monitor = monitor_of(clock, {B1: 9})
    parts = [Response(job_id(B1, n), "alice", B1, [TaskResult(n, S)]) for n in (0, 1, 2, 77, 3)]
    ((_, message),) = pack((part, encode_response(part)) for part in parts)
    with caplog.at_level(logging.WARNING):
        assert collect({"m": message}, monitor, clock) == []
    assert monitor.batch(B1).tally == Tally(4)
    assert [record.taskfleet["bundle"] for record in caplog.records] == [77]


def test_responses_for_a_batch_that_is_gone_are_dropped_with_a_log(clock, caplog):
    with caplog.at_level(logging.WARNING):
        assert collect({"m": body(B2, 0, [S])}, monitor_of(clock), clock) == []
    (record,) = caplog.records
    assert record.taskfleet == {"action": "batch_unknown", "batch_id": B2, "bundle": 0}


@pytest.mark.parametrize(
    ("number", "indexes"), [(2, [0]), (999_999_999, [0]), (0, [4]), (1, range(2_000))]
)
def test_a_forged_response_counts_for_no_bundle_or_task_that_its_batch_lacks(
    number, indexes, clock, caplog
):
    monitor = MemoryMonitor(clock)
    monitor.create_batch(BatchRecord(B1, "alice", None, 0, 4, 2, "h", closed=True))
    rows = [TaskResult(index, S) for index in indexes]
    forged = encode_response(Response(job_id(B1, number), "alice", B1, rows))
    right = {"a": body(B1, 0, [S, S]), "b": body(B1, 1, [S, F])}
    if number in (0, 1):
        del right["ab"[number]]
    with caplog.at_level(logging.WARNING):
        assert collect({**right, "forged": forged}, monitor, clock) == []
    assert [record.taskfleet["action"] for record in caplog.records] == ["batch_unknown"]
    assert monitor.batch(B1).tally.total == 2 * len(right)
