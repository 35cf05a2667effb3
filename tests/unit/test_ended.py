"""Who is told of the end of a batch: once at least for each way in which a batch ends, and only
then."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from taskfleet.batch import BatchRecord, Tally
from taskfleet.bundle import Response, job_id
from taskfleet.errors import PermanentError, TransientError
from taskfleet.memory import ManualClock, MemoryMonitor
from taskfleet.scheduler.collect import collect
from taskfleet.scheduler.ended import Ended
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.queues import encode_response

ID = "b1".ljust(26, "0")
OTHER = "b2".ljust(26, "0")


def batch(batch_id: str = ID, **changes) -> BatchRecord:
    made = BatchRecord(batch_id, "alice", None, 1.0, 2, 2, "hash", closed=True)
    return replace(made, **changes)


def answer(number: int, batch_id: str = ID) -> str:
    row = TaskResult(number, TaskStatus.SUCCEEDED, attempts=1)
    return encode_response(Response(job_id(batch_id, number), "alice", batch_id, [row]))


class Listeners:
    """Two listeners, which note what they hear; the first raises its errors first."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.first: list[str] = []
        self.second: list[str] = []
        self.ended = Ended(self._raises, lambda batch: self.second.append(batch.batch_id))

    def _raises(self, batch: BatchRecord) -> None:
        assert batch.finished
        if self.errors:
            raise self.errors.pop(0)
        self.first.append(batch.batch_id)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, False),
        ({"tally": Tally(1)}, False),
        ({"tally": Tally(1, 0, 1)}, True),
        ({"tally": Tally(1, 1), "closed": False}, False),
        ({"cancelled_at": 2.0}, False),
        ({"cancelled_at": 2.0, "total": 0, "closed": False}, True),
    ],
)
def test_only_a_batch_that_has_ended_is_told(changes, told):
    listeners = Listeners()
    listeners.ended.tell(batch(**changes))
    assert listeners.first == listeners.second == [ID] * told


def test_an_error_of_one_listener_keeps_no_other_from_being_called():
    listeners = Listeners(PermanentError("no such topic"))
    with pytest.raises(PermanentError, match="no such topic"):
        listeners.ended.tell(batch(tally=Tally(2)))
    assert listeners.second == [ID]


class TestCollector:
    @pytest.fixture
    def clock(self):
        return ManualClock()

    @pytest.fixture
    def monitor(self, clock):
        monitor = MemoryMonitor(clock)
        monitor.create_batch(batch())
        monitor.create_batch(batch(OTHER))
        return monitor

    def test_it_tells_with_the_last_answer_and_each_time_that_one_comes_again(self, monitor, clock):
        listeners = Listeners()
        for number, told in ((1, 0), (1, 0), (0, 1), (0, 2), (1, 3)):
            collect({"m": answer(number)}, monitor, clock, ended=listeners.ended)
            assert listeners.first == [ID] * told

    def test_it_counts_all_batches_before_a_listener_can_fail(self, monitor, clock):
        listeners = Listeners(TransientError("busy"))
        bodies = {
            f"{batch_id}{n}": answer(n, batch_id) for batch_id in (ID, OTHER) for n in range(2)
        }
        with pytest.raises(TransientError):
            collect(bodies, monitor, clock, ended=listeners.ended)
        assert monitor.batch(OTHER).finished
        collect(bodies, monitor, clock, ended=listeners.ended)
        assert listeners.first == [ID, OTHER]

    def test_a_forged_answer_beside_the_last_one_hides_no_end(self, monitor, clock):
        listeners = Listeners()
        collect(
            {"a": answer(0), "b": answer(1), "forged": answer(7)},
            monitor,
            clock,
            ended=listeners.ended,
        )
        assert listeners.first == [ID]
