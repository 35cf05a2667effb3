"""What a task waits for, case by case."""

import pytest
from msgspec.structs import replace

from taskfleet.batch import BatchRecord, Tally, Upload
from taskfleet.lease import BundleStatus, Lease
from taskfleet.ports import BundleRecord
from taskfleet.scheduler.locate import Place
from taskfleet.scheduler.why import why
from taskfleet.task import Task, TaskResult, TaskStatus

NOW = 1_000_000.0
BATCH = BatchRecord("b", "alice", None, NOW - 60, 10, 2, "h", closed=True, enqueued=10)
OPEN = replace(BATCH, closed=False, upload=Upload("k", "e"))
ALL_DONE = replace(BATCH, tally=Tally(succeeded=10))
GIVEN_BACK = BundleRecord("b:0", BundleStatus.QUEUED, None, [Task(3, "x")])
FRESH = BundleRecord("b:0", BundleStatus.RUNNING, Lease("w-1/abc", 1, NOW + 30))
DEAD = BundleRecord("b:0", BundleStatus.RUNNING, Lease("w-1/abc", 1, NOW - 5))
DONE = BundleRecord("b:0", BundleStatus.DONE, None, [Task(3, "x")])
ENDED = TaskResult(3, TaskStatus.SUCCEEDED, attempts=1, started_at=NOW - 9, duration_s=1.0)
FAILED_ONCE = TaskResult(3, TaskStatus.QUEUED, attempts=1, started_at=NOW - 2, duration_s=1.0)
LONG_AGO = replace(FAILED_ONCE, started_at=NOW - 60)
REPORTS = TaskResult(3, TaskStatus.RUNNING, started_at=NOW - 2)
NO_MACHINE = "TASKFLEET_MAX_CAPACITY is 0: no machine may be launched"
TAIL = f"; nothing runs now: {NO_MACHINE}"


@pytest.mark.parametrize(
    ("batch", "bundle", "row", "counted", "fleet", "says"),
    [
        (BATCH, None, None, 0, None, "no worker has claimed it; it is on the queue"),
        (BATCH, None, None, 0, NO_MACHINE, "no worker has claimed it; it is on the queue" + TAIL),
        (
            BATCH,
            FRESH,
            None,
            0,
            NO_MACHINE,
            "it is held by worker w-1, whose lease ends at 1970-01-12T13:47:10.000Z unless it is "
            "renewed",
        ),
        (
            BATCH,
            FRESH,
            REPORTS,
            0,
            None,
            "it runs on worker w-1, whose lease ends at 1970-01-12T13:47:10.000Z unless it is "
            "renewed",
        ),
        (
            BATCH,
            DEAD,
            None,
            0,
            None,
            "worker w-1 had it and did not renew its lease, which ended at "
            "1970-01-12T13:46:35.000Z; the next worker that gets its message takes it",
        ),
        (
            BATCH,
            GIVEN_BACK,
            FAILED_ONCE,
            0,
            None,
            "attempt 2 is due before about 1970-01-12T13:46:49.000Z",
        ),
        (
            BATCH,
            GIVEN_BACK,
            LONG_AGO,
            0,
            NO_MACHINE,
            "attempt 2 is due since 1970-01-12T13:45:51.000Z" + TAIL,
        ),
        (
            BATCH,
            GIVEN_BACK,
            TaskResult(3, TaskStatus.QUEUED, attempts=2),
            0,
            None,
            "attempt 3 waits on the queue",
        ),
        (BATCH, GIVEN_BACK, None, 0, None, "a worker gave it back; it is on the queue for another"),
        (OPEN, None, None, 0, None, "no worker has claimed it; it is on the queue"),
        (
            replace(OPEN, total=2, enqueued=2),
            None,
            None,
            0,
            NO_MACHINE,
            "the batch is open: the task is not handed in yet",
        ),
        (
            replace(BATCH, enqueued=0),
            None,
            None,
            0,
            None,
            "its part of the batch is recorded and about to be put on the queue",
        ),
        (
            replace(BATCH, cancelled_at=NOW),
            None,
            None,
            0,
            NO_MACHINE,
            "nothing: its batch was cancelled; the next worker that meets it records that",
        ),
        (
            BATCH,
            FRESH,
            ENDED,
            0,
            None,
            "it has ended; it is answered when the other tasks of its bundle have ended",
        ),
        (
            BATCH,
            DONE,
            ENDED,
            0,
            None,
            "it is answered; the collector has not counted the answer yet",
        ),
        (BATCH, DONE, ENDED, 1, None, "nothing: it is done"),
        (ALL_DONE, DONE, ENDED, 0, None, "nothing: it is done"),
    ],
)
def test_it_says_what_the_task_waits_for(batch, bundle, row, counted, fleet, says):
    place = Place(None if bundle is None else 0, bundle)
    found = why(batch, 3, place, row, now=NOW, counted=lambda: bool(counted), fleet=lambda: fleet)
    assert found == says


def test_a_bundle_that_is_not_known_may_have_been_claimed_just_now():
    says = why(
        BATCH, 3, Place(fresh=True), None, now=NOW, counted=lambda: False, fleet=lambda: None
    )
    assert says == "a worker has claimed it within the last seconds, or it is on the queue"


def test_neither_the_fleet_nor_the_counts_are_read_without_need():
    def never():
        raise AssertionError

    assert why(ALL_DONE, 3, Place(0, DONE), ENDED, now=NOW, counted=never, fleet=never)
    assert why(BATCH, 3, Place(0, FRESH), None, now=NOW, counted=never, fleet=never)
