"""The steps of the worker's protocol, one by one, on memory ports and a manual clock."""

import json
import random

import pytest

from ec2_worker.attempt import SlotContext
from taskfleet.batch import Tally
from taskfleet.bundle import Bundle, job_id
from taskfleet.errors import PermanentError, TransientError
from taskfleet.lease import BundleStatus
from taskfleet.options import BatchOptions
from taskfleet.ports import OutgoingMessage
from taskfleet.registry import Registry, sleep
from taskfleet.retry import RetryPolicy
from taskfleet.task import Task, TaskStatus
from taskfleet.wire.queues import encode_bundle
from tests.support.worker import LEASE_S, Cloud, HandWorker, Recorder, failing_kind, thread_kind


@pytest.fixture
def cloud():
    return Cloud()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def registry(recorder):
    return Registry(
        [
            sleep,
            recorder.kind(expected_s=lambda params: 0.0),
            failing_kind("bug", lambda: ValueError("oh"), expected_s=lambda p: 0.0),
            failing_kind(
                "gone", lambda: PermanentError("picture 3: 404"), expected_s=lambda p: 0.0
            ),
            failing_kind("flaky", lambda: TransientError("503"), retry=RetryPolicy(max_attempts=2)),
        ]
    )


def statuses(cloud, registry, batch_id):
    return [(row.status, row.error, row.attempts) for row in cloud.rows(registry, batch_id)]


def drained(cloud):
    depth = cloud.tasks.depth()
    return depth.backlog == 0 and depth.in_flight == 0


def test_a_batch_is_executed_answered_and_deleted(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record"] * 5000)
    worker = HandWorker(cloud, registry)
    worker.work()
    assert cloud.collect() == 3
    batch = cloud.monitor.batch(batch_id)
    assert batch.finished
    assert batch.tally == Tally(succeeded=5000)
    assert sorted(index for _, index, _ in recorder.runs) == list(range(5000))
    assert drained(cloud)
    rows = cloud.rows(registry, batch_id)
    assert rows[7].result == {"ran": 7}
    assert rows[7].worker_id == "w-1"


def test_a_delivery_of_a_done_bundle_is_answered_again_and_not_run(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record"])
    worker = HandWorker(cloud, registry)
    worker.work()
    body = encode_bundle(Bundle(job_id(batch_id, 0), "alice", batch_id, [Task(0, "record", None)]))
    cloud.tasks.send([OutgoingMessage(body)])
    worker.work()
    assert len(recorder.runs) == 1
    assert cloud.collect() == 2
    assert cloud.monitor.batch(batch_id).tally == Tally(succeeded=1)
    assert drained(cloud)


def test_a_held_bundle_is_put_off_until_its_lease_ends_and_never_deleted(cloud, registry):
    cloud.submit(registry, ["record"])
    holder, other = HandWorker(cloud, registry), HandWorker(cloud, registry, worker_id="w-2")
    holder.poll()
    cloud.clock.sleep(LEASE_S - 10)
    holder.protocol.renew(holder.workload.in_hand()[0])
    cloud.clock.sleep(11)  # The message's visibility was not extended.
    assert other.poll() is True
    assert other.workload.in_hand() == []
    assert cloud.tasks.depth().in_flight == 1
    cloud.clock.sleep(LEASE_S)
    assert other.poll() is True
    assert len(other.workload.in_hand()) == 1


def test_the_worker_that_holds_a_bundle_adopts_a_newer_delivery_of_it(cloud, registry):
    cloud.submit(registry, ["record"])
    worker = HandWorker(cloud, registry)
    worker.poll()
    cloud.clock.sleep(LEASE_S - 1)
    worker.protocol.renew(worker.workload.in_hand()[0])
    cloud.clock.sleep(2)
    worker.poll()
    worker.work()
    assert drained(cloud)


class Prompt:
    """A queue that calls `then` after each change of visibility, as another thread may."""

    def __init__(self, queue, then):
        self._queue, self._then = queue, then

    def __getattr__(self, name):
        return getattr(self._queue, name)

    def change_visibility(self, changes):
        stale = self._queue.change_visibility(changes)
        self._then()
        return stale


def test_a_bundle_that_comes_back_while_it_is_released_is_claimed_anew(cloud, registry, recorder):
    cloud.submit(registry, ["record"])
    worker = HandWorker(cloud, registry)
    worker.poll()
    (old,) = worker.workload.in_hand()
    assert worker.workload.give_back(old)
    worker.ready.append(old)
    worker.settlement._tasks = Prompt(cloud.tasks, worker.poll)
    worker.settle()
    (new,) = worker.workload.in_hand()
    assert new is not old
    worker.settlement._tasks = cloud.tasks
    worker.work()
    assert len(recorder.runs) == 1
    assert drained(cloud)


def test_a_claim_that_fails_is_tried_again_and_runs_once(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record"])
    faults = iter(["before"])
    worker = HandWorker(
        cloud, registry, fault=lambda name: next(faults, None) if name == "claim" else None
    )
    assert worker.poll() is False
    assert cloud.tasks.depth().in_flight == 1
    cloud.clock.sleep(10)
    worker.work()
    cloud.collect()
    assert cloud.monitor.batch(batch_id).tally == Tally(succeeded=1)


def claims_in_trouble(cloud, registry, trouble):
    """Lets a worker poll ten times while `trouble` is its ports' fault, then work. Returns how
    often the bundle was free after a poll, and the statuses in the end."""
    batch_id = cloud.submit(registry, ["record"])
    healthy = False
    worker = HandWorker(
        cloud, registry, fault=lambda name: None if healthy else trouble(cloud, name)
    )
    free = 0
    for _ in range(10):
        assert not worker.poll()
        cloud.clock.sleep(6)
        record = cloud.monitor.bundles([job_id(batch_id, 0)])
        free += not record or record[0].status is BundleStatus.QUEUED
    healthy = True
    cloud.clock.sleep(LEASE_S)
    worker.work()
    return free, statuses(cloud, registry, batch_id)


@pytest.mark.parametrize("fault", ["before", "after"])
def test_claims_without_a_reply_are_taken_back_and_charged_to_nobody(
    cloud, registry, recorder, fault
):
    found = claims_in_trouble(cloud, registry, lambda _, name: fault if name == "claim" else None)
    assert found == (10, [(TaskStatus.SUCCEEDED, None, 1)])


def test_a_table_that_answers_the_claim_and_then_no_more_fails_no_task(cloud, registry, recorder):
    """The claim takes so long that the batch is to be read again after it."""
    claimed = False

    def trouble(cloud, name):
        nonlocal claimed
        if name == "claim":
            claimed = True
            cloud.clock.sleep(3)
        elif name == "start_batch" and claimed:
            return "before"
        return None

    batch_id = cloud.submit(registry, ["record"])
    worker = HandWorker(cloud, registry, fault=lambda name: trouble(cloud, name))
    assert worker.poll()
    worker.work()
    assert statuses(cloud, registry, batch_id) == [(TaskStatus.SUCCEEDED, None, 1)]


def test_an_unexpected_error_after_the_claim_charges_no_task(cloud, recorder, monkeypatch):
    registry = Registry([sleep, recorder.kind()])
    broken = True

    def revalidate(self, task, real=Registry.revalidate):
        if broken:
            raise KeyError("a bug")
        return real(self, task)

    batch_id = cloud.submit(registry, ["record"])
    monkeypatch.setattr(Registry, "revalidate", revalidate)
    worker = HandWorker(cloud, registry)
    for _ in range(3):
        assert not worker.poll()
        (record,) = cloud.monitor.bundles([job_id(batch_id, 0)])
        assert record.status is BundleStatus.QUEUED
        cloud.clock.sleep(60)
    broken = False
    cloud.clock.sleep(60)
    worker.work()
    assert statuses(cloud, registry, batch_id) == [(TaskStatus.SUCCEEDED, None, 1)]


def test_a_commit_whose_reply_was_lost_is_one_commit(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record"])
    faults = iter(["after"])
    worker = HandWorker(
        cloud, registry, fault=lambda name: next(faults, None) if name == "commit" else None
    )
    worker.work()
    cloud.collect()
    assert worker.lost == []
    assert cloud.monitor.batch(batch_id).tally == Tally(succeeded=1)
    assert drained(cloud)


def test_a_lost_lease_drops_the_work_and_touches_nothing(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record"])
    slow, quick = HandWorker(cloud, registry), HandWorker(cloud, registry, worker_id="w-2")
    slow.poll()
    chunk = slow.take()
    cloud.clock.sleep(LEASE_S + 5)
    quick.work()
    slow.finish(chunk)
    slow.settle()
    assert slow.lost == [job_id(batch_id, 0)]
    assert slow.outbox.pending() == 0
    cloud.collect()
    assert cloud.rows(registry, batch_id)[0].worker_id == "w-2"
    assert cloud.monitor.batch(batch_id).tally == Tally(succeeded=1)


def test_a_heartbeat_extends_lease_and_visibility_and_records_what_is_finished(cloud, registry):
    batch_id = cloud.submit(registry, ["record", "sleep 60000"])
    worker = HandWorker(cloud, registry)
    worker.poll()
    worker.finish(worker.take())
    cloud.clock.sleep(LEASE_S / 3)
    worker.heartbeat.beat()
    cloud.clock.sleep(LEASE_S - 1)
    assert cloud.tasks.depth().backlog == 0
    assert statuses(cloud, registry, batch_id) == [(TaskStatus.SUCCEEDED, None, 1)]


def test_progress_is_recorded_within_seconds(cloud, registry):
    batch_id = cloud.submit(registry, ["sleep 60000"])
    worker = HandWorker(cloud, registry)
    worker.poll()
    chunk = worker.take()
    scene = worker.executor._scene(chunk, chunk.stopping)
    context = SlotContext(scene, chunk.tasks[0].index, 1, cloud.clock.now())
    context.progress(1, 60)
    cloud.clock.sleep(1)
    worker.heartbeat.beat()
    assert cloud.rows(registry, batch_id) == []
    cloud.clock.sleep(1)
    worker.heartbeat.beat()
    (row,) = cloud.rows(registry, batch_id)
    assert (row.status, row.progress) == (TaskStatus.RUNNING, [1, 60])
    context.progress(2, 60)
    cloud.clock.sleep(2)
    worker.heartbeat.beat()
    assert cloud.rows(registry, batch_id)[0].progress == [2, 60]


def test_a_heartbeat_that_finds_the_lease_gone_stops_the_tasks(cloud, registry):
    cloud.submit(registry, ["sleep 1000"])
    worker, thief = HandWorker(cloud, registry), HandWorker(cloud, registry, worker_id="w-2")
    worker.poll()
    claimed = worker.take().claimed
    killed = []
    claimed.stopping.on_stop(lambda: killed.append("subprocess"))
    cloud.clock.sleep(LEASE_S + 1)
    thief.poll()
    worker.heartbeat.beat()
    assert killed == ["subprocess"]
    assert claimed.stopped.is_set()
    assert worker.workload.in_hand() == []
    assert len(thief.workload.in_hand()) == 1


def test_a_transient_failure_returns_that_task_only_with_backoff(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record", {"kind": "record", "params": {"fail": 1}}])
    worker = HandWorker(cloud, registry, rng=random.Random(5))
    worker.work()
    record = cloud.monitor.bundles([job_id(batch_id, 0)])[0]
    assert record.status is BundleStatus.QUEUED
    assert [row.status for row in record.results] == [TaskStatus.SUCCEEDED, TaskStatus.QUEUED]
    assert cloud.tasks.depth().in_flight == 1  # Its visibility was put off.
    cloud.clock.sleep(10)
    worker.work()
    cloud.collect()
    assert [(index, attempt) for _, index, attempt in recorder.runs] == [(0, 1), (1, 1), (1, 2)]
    assert statuses(cloud, registry, batch_id) == [
        (TaskStatus.SUCCEEDED, None, 1),
        (TaskStatus.SUCCEEDED, None, 2),
    ]


@pytest.mark.parametrize(
    ("task", "error", "attempts", "dead"),
    [
        ("bug", "ValueError: oh", 1, None),
        ("gone", "picture 3: 404", 1, None),
        ("flaky", "503", 2, "out of attempts (2): 503"),
    ],
)
def test_where_failing_tasks_end(cloud, registry, task, error, attempts, dead):
    batch_id = cloud.submit(registry, [task])
    worker = HandWorker(cloud, registry)
    for _ in range(5):
        worker.work()
        cloud.clock.sleep(1000)
    cloud.collect()
    assert statuses(cloud, registry, batch_id) == [(TaskStatus.FAILED, error, attempts)]
    assert cloud.monitor.batch(batch_id).tally == Tally(failed=1)
    assert drained(cloud)
    letters = cloud.dead.receive(10, wait_s=0, visibility_s=1)
    assert [letter.attributes["reason"].endswith(dead) for letter in letters] == (
        [] if dead is None else [True]
    )


def test_tasks_of_unknown_kind_or_with_bad_params_fail_and_the_others_run(cloud, registry):
    registry_of_api = Registry(
        [sleep, thread_kind("later", lambda p, c: None, expected_s=lambda p: 0)]
    )
    batch_id = cloud.submit(registry_of_api, ["later", "sleep 0"])
    worker = HandWorker(cloud, registry)
    worker.work()
    cloud.collect()
    (failed, ran) = cloud.rows(registry, batch_id)
    assert failed.status is TaskStatus.FAILED
    assert failed.error.startswith("unknown kind 'later'; known: ")
    assert ran.status is TaskStatus.SUCCEEDED
    assert cloud.dead.depth().backlog == 1
    cloud.tasks.send([OutgoingMessage('{"clientID": 9, "jobID": "x", "task": "sleep abc"}')])
    worker.work()
    record = cloud.monitor.bundles(["9;x"])[0]
    assert record.results[0].error.startswith("sleep needs a number")
    assert drained(cloud)


def test_an_undecodable_message_goes_to_the_dead_letters_and_blocks_nothing(cloud, registry):
    cloud.tasks.send([OutgoingMessage("{nonsense"), OutgoingMessage('{"v":1}')])
    batch_id = cloud.submit(registry, ["sleep 0"])
    worker = HandWorker(cloud, registry)
    worker.work()
    cloud.collect()
    assert cloud.monitor.batch(batch_id).finished
    letters = cloud.dead.receive(10, wait_s=0, visibility_s=1)
    assert [letter.body for letter in letters] == ["{nonsense", '{"v":1}']
    assert all(letter.attributes["reason"].startswith("not a bundle") for letter in letters)
    assert drained(cloud)


@pytest.mark.parametrize(
    ("batch", "client", "number", "index", "reason"),
    [
        ("0" * 26, "alice", 0, 0, "there is no batch"),
        (None, "mallory", 0, 0, "belongs to another client"),
        (None, "alice", 1, 0, "has no bundle 1 with a task 0"),
        (None, "alice", 0, 1, "has no bundle 0 with a task 1"),
    ],
)
def test_a_bundle_that_no_recorded_batch_has_is_not_claimed(
    cloud, registry, recorder, batch, client, number, index, reason
):
    """It would write over what other bundles and batches record."""
    own = cloud.submit(registry, ["record"])
    forged = batch or own
    job = job_id(forged, number)
    (real,) = cloud.tasks.receive(1, wait_s=0, visibility_s=1)
    cloud.tasks.delete([real])
    body = encode_bundle(Bundle(job, client, forged, [Task(index, "record", None)]))
    cloud.tasks.send([OutgoingMessage(body)])
    worker = HandWorker(cloud, registry)
    worker.work()
    assert recorder.runs == []
    assert cloud.monitor.bundles([job]) == []
    (letter,) = cloud.dead.receive(1, wait_s=0, visibility_s=1)
    assert reason in letter.attributes["reason"]
    assert drained(cloud)


def test_a_message_of_2014_is_answered_in_its_own_form(cloud, registry):
    cloud.tasks.send([OutgoingMessage('{"clientID": 56783, "jobID": 152, "task": "sleep 1"}')])
    HandWorker(cloud, registry).work()
    (answer,) = cloud.responses.receive(10, wait_s=0, visibility_s=1)
    assert json.loads(answer.body) == {
        "clientID": 56783,
        "jobID": 152,
        "status": "SUCCEEDED",
        "result": None,
    }
    assert cloud.monitor.bundles(["56783;152"])[0].status is BundleStatus.DONE


def test_workers_that_never_come_back_before_a_task_starts_charge_nobody(cloud, registry):
    batch_id = cloud.submit(registry, ["record"])
    for number in range(9):
        HandWorker(cloud, registry, worker_id=f"w-{number}").poll()  # Then it dies.
        cloud.clock.sleep(LEASE_S + 5)
    worker = HandWorker(cloud, registry, worker_id="w-last")
    worker.work()
    cloud.collect()
    assert statuses(cloud, registry, batch_id) == [(TaskStatus.SUCCEEDED, None, 1)]


def test_a_lost_attempt_and_a_failed_one_count_together(cloud, registry):
    batch_id = cloud.submit(registry, ["flaky"])
    for number in range(3):
        worker = HandWorker(cloud, registry, worker_id=f"w-{number}")
        worker.poll()
        if number == 2:
            worker.executor.run(worker.take())  # Then it dies, the third to do so.
        cloud.clock.sleep(LEASE_S + 5)
    worker = HandWorker(cloud, registry, worker_id="w-3")
    worker.work()
    cloud.collect()
    assert statuses(cloud, registry, batch_id) == [(TaskStatus.FAILED, "503", 2)]
    assert cloud.dead.depth().backlog == 1


@pytest.mark.parametrize(
    ("batch", "own", "workers"),
    [(1, {}, 1), (None, {"max_attempts": 3}, 3), (1, {"max_attempts": 3}, 3)],
)
def test_the_nearest_limit_of_attempts_counts(cloud, registry, batch, own, workers):
    options = BatchOptions(max_attempts=batch) if batch else None
    batch_id = cloud.submit(registry, [{"kind": "flaky", **own}], options=options)
    for number in range(2 + workers):
        worker = HandWorker(cloud, registry, worker_id=f"w-{number}")
        worker.poll()
        if number >= 2:
            worker.executor.run(worker.take())
        cloud.clock.sleep(LEASE_S + 5)  # It has died.
        assert cloud.dead.depth().backlog == 0
    HandWorker(cloud, registry, worker_id="last").work()
    cloud.collect()
    row = cloud.rows(registry, batch_id)[0]
    assert row.error.startswith(f"gave up after {workers} attempt")
    assert row.worker_id == f"w-{1 + workers}"
    assert cloud.dead.depth().backlog == 1


def test_giving_back_spends_no_attempt(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record"] * 3)
    for number in range(9):
        worker = HandWorker(cloud, registry, worker_id=f"w-{number}")
        worker.poll()
        worker.ready += worker.workload.stop_starting()
        worker.settle()
        assert cloud.tasks.depth().backlog == 1
    HandWorker(cloud, registry).work()
    assert {row.attempts for row in cloud.rows(registry, batch_id)} == {1}


def test_lost_claims_stay_counted_when_a_bundle_is_given_back(cloud, registry):
    batch_id = cloud.submit(registry, ["record"])
    HandWorker(cloud, registry, worker_id="w-dead").poll()
    cloud.clock.sleep(LEASE_S + 5)
    drainer = HandWorker(cloud, registry, worker_id="w-drain")
    drainer.poll()
    drainer.ready += drainer.workload.stop_starting()
    drainer.settle()
    last = HandWorker(cloud, registry)
    last.poll()
    (claimed,) = last.workload.in_hand()
    assert claimed.lease.attempt == 2
    last.work()
    assert cloud.rows(registry, batch_id)[0].attempts == 1


def test_a_cancelled_batch_ends_without_running(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["record"] * 5)
    cloud.monitor.cancel_batch(batch_id, cloud.clock.now())
    HandWorker(cloud, registry).work()
    cloud.collect()
    assert recorder.runs == []
    assert cloud.monitor.batch(batch_id).tally == Tally(cancelled=5)
    assert cloud.monitor.batch(batch_id).finished
    assert drained(cloud)


def test_cancelling_reaches_the_tasks_in_hand_that_were_not_started(cloud, registry, recorder):
    batch_id = cloud.submit(registry, ["sleep 0", "record", "record"])
    worker = HandWorker(cloud, registry)
    worker.poll()
    chunk = worker.take()
    cloud.monitor.cancel_batch(batch_id, cloud.clock.now())
    cloud.clock.sleep(3)
    worker.heartbeat.beat()
    worker.finish(chunk)
    worker.work()
    cloud.collect()
    assert recorder.runs == []
    assert cloud.monitor.batch(batch_id).tally == Tally(succeeded=1, cancelled=2)


def test_a_kind_that_this_worker_cannot_run_is_left_to_others(cloud, registry, recorder):
    cloud.submit(registry, ["record"])
    lame = HandWorker(cloud, registry, unavailable={"record": "no ffmpeg"})
    assert lame.poll() is False
    assert recorder.runs == []
    assert cloud.dead.depth().backlog == 0
    cloud.clock.sleep(10)
    able = HandWorker(cloud, registry, worker_id="w-2")
    able.work()
    assert len(recorder.runs) == 1


def test_responses_that_could_not_be_published_are_published_later(cloud, registry):
    batch_id = cloud.submit(registry, ["sleep 0"])
    faults = iter(["before", "after"])
    worker = HandWorker(
        cloud, registry, fault=lambda name: next(faults, None) if name == "send" else None
    )
    worker.work()
    cloud.collect()
    assert cloud.monitor.batch(batch_id).tally == Tally(succeeded=1)
    assert drained(cloud)


def test_nothing_is_deleted_before_it_was_published(cloud, registry):
    cloud.submit(registry, ["sleep 0"])
    worker = HandWorker(cloud, registry, fault=lambda name: "before" if name == "send" else None)
    worker.poll()
    worker.finish(worker.take())
    worker.settle()
    assert worker.outbox.flush() is False
    assert cloud.tasks.depth().in_flight == 1
