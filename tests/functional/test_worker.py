"""The worker daemon with its real threads, on memory ports and in real time. Every wait has a
timeout."""

import random
import threading
import time

import pytest

from ec2_worker.parts import WorkerPorts
from ec2_worker.worker import Worker
from taskfleet.batch import Tally
from taskfleet.clock import SystemClock
from taskfleet.ports import QueueDepth
from taskfleet.registry import Registry, sleep
from taskfleet.settings import Settings
from tests.support.waiting import eventually
from tests.support.worker import Cloud, failing_kind, thread_kind


class Fleet:
    def __init__(self, kinds=()):
        self.cloud = cloud = Cloud(clock=SystemClock())
        self.ports = WorkerPorts(
            tasks=cloud.tasks,
            responses=cloud.responses,
            monitor=cloud.monitor,
            store=cloud.store,
            clock=cloud.clock,
            records=cloud.records,
        )
        self.registry = Registry([sleep, *kinds])
        self.threads = []
        self.workers = []
        self.ends = []

    def start(self, **options):
        settings = Settings(
            lease_s=options.pop("lease_s", 30.0),
            drain_timeout_s=options.pop("drain_timeout_s", 10.0),
            receive_wait_s=options.pop("receive_wait_s", 0.05),
            beat_s=1.0,
        )
        worker = Worker(
            self.ports,
            options.pop("registry", self.registry),
            settings,
            threads=options.pop("threads", 4),
            worker_id=f"w-{len(self.workers)}",
            rng=random.Random(len(self.workers)),
            **options,
        )
        thread = threading.Thread(target=lambda: self.ends.append(worker.run()))
        thread.start()
        self.workers.append(worker)
        self.threads.append(thread)
        return worker

    def stop(self):
        for worker in self.workers:
            worker.drain()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()

    def submit(self, tasks):
        return self.cloud.submit(self.registry, tasks)

    def finished(self, batch_id, within_s=20):
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline:
            self.cloud.collect(wait_s=0.1)
            batch = self.ports.monitor.batch(batch_id)
            if batch.finished:
                receipt = self.cloud.audit(self.registry, batch_id, client_id=batch.client_id)
                assert receipt.balanced, receipt.faults
                return batch
        raise AssertionError(f"not finished within {within_s} s: {batch.tally}")


@pytest.fixture
def fleet():
    made = []

    def make(*kinds):
        made.append(Fleet(kinds))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def hand_back_soon(monkeypatch):
    monkeypatch.setattr("ec2_worker.protocol.HAND_BACK_S", (0.05, 0.2))


def test_two_workers_share_a_batch_and_run_each_task_once(fleet):
    runs = []
    one = fleet(thread_kind("note", lambda p, c: runs.append(c.index), expected_s=lambda p: 0.01))
    batch_id = one.submit(["note"] * 3000)
    one.start()
    one.start()
    assert one.finished(batch_id).tally == Tally(succeeded=3000)
    assert sorted(runs) == list(range(3000))


def test_sixteen_slots_sleep_at_the_same_time(fleet):
    one = fleet()
    one.start(threads=16)
    begun = time.monotonic()
    batch = one.finished(one.submit(["sleep 200"] * 32))
    assert batch.tally == Tally(succeeded=32)
    assert time.monotonic() - begun < 3.0  # One after the other they take 6.4 s.


def test_draining_finishes_running_tasks_and_gives_the_rest_back_without_an_attempt(fleet):
    gate, entered = threading.Event(), threading.Event()

    def hold(params, context):
        entered.set()
        gate.wait(10)

    one = fleet(thread_kind("hold", hold, expected_s=lambda p: 0.2))
    batch_id = one.submit(["hold"] * 6)
    worker = one.start(threads=1)
    assert entered.wait(10)
    worker.drain()
    eventually(lambda: not worker._workload._starting)
    gate.set()
    one.threads[0].join(10)
    assert one.ends == [True]
    record = one.ports.monitor.bundles([f"{batch_id}:0"])[0]
    assert [row.index for row in record.results] == [0]
    assert one.ports.tasks.depth().backlog == 1
    one.start()
    batch = one.finished(batch_id)
    assert batch.tally == Tally(succeeded=6)
    assert {r.attempts for r in one.ports.monitor.bundles([f"{batch_id}:0"])[0].results} == {1}
    # The bundle counts where it ended: the first worker gave it back.
    assert [each._workload.census().ended for each in one.workers] == [0, 6]
    (reported,) = eventually(lambda: [w for w in one.cloud.records.workers() if w.ended])
    assert (reported.worker_id, reported.ended) == ("w-1", 6)


def test_at_the_drain_time_out_running_tasks_are_stopped_and_given_back(fleet):
    one = fleet()
    batch_id = one.submit(["sleep 60000"])
    worker = one.start(drain_timeout_s=0.2)
    eventually(lambda: worker._workload.census().running)
    begun = time.monotonic()
    worker.drain()
    one.threads[0].join(20)
    assert time.monotonic() - begun < 5
    assert one.ends == [True]
    assert one.ports.tasks.depth().backlog == 1
    assert one.ports.monitor.bundles([f"{batch_id}:0"])[0].results == []


def test_a_task_that_will_not_end_does_not_hold_the_worker(fleet, monkeypatch):
    monkeypatch.setattr("ec2_worker.worker.GRACE_S", 0.3)
    gate = threading.Event()
    one = fleet(thread_kind("deaf", lambda p, c: gate.wait(20)))
    batch_id = one.submit(["deaf"])
    worker = one.start(drain_timeout_s=0.1)
    eventually(lambda: worker._workload.census().running)
    worker.drain()
    one.threads[0].join(10)
    assert one.ends == [True]
    assert one.ports.tasks.depth().backlog == 1
    gate.set()
    assert one.ports.monitor.bundles([f"{batch_id}:0"])[0].results == []


def test_heartbeats_keep_long_tasks_while_another_worker_waits(fleet):
    runs = []

    def work(params, context):
        runs.append(context.index)
        context.sleep(2.2)  # more than two leases

    one = fleet(thread_kind("long", work))
    batch_id = one.submit(["long"])
    for _ in range(2):
        one.start(lease_s=1.0)
    assert one.finished(batch_id).tally == Tally(succeeded=1)
    assert runs == [0]


def test_an_idle_worker_leaves_by_itself(fleet):
    one = fleet()
    batch_id = one.submit(["sleep 600"])
    one.start(exit_when_idle_s=0.3)
    assert one.finished(batch_id).tally == Tally(succeeded=1)
    one.threads[0].join(10)
    assert one.ends == [True]


def test_a_worker_advised_to_leave_works_on_and_leaves_at_its_first_idle_moment(fleet):
    one = fleet()
    batch_id = one.submit(["sleep 300"] * 12)
    worker = one.start(threads=2, drain_timeout_s=0.1)
    worker.leave_when_idle()
    assert one.finished(batch_id).tally == Tally(succeeded=12)
    one.threads[0].join(10)
    assert one.ends == [True]
    rows = one.cloud.rows(one.registry, batch_id)
    assert {row.attempts for row in rows} == {1}, "no task was broken off"


@pytest.mark.parametrize("asked", [True, False])
def test_a_worker_asked_to_leave_hands_back_what_its_last_poll_receives(fleet, monkeypatch, asked):
    """A worker that gets a signal does not wait for its poll: its sender may wait for it."""
    monkeypatch.setattr("ec2_worker.worker.INTAKE_S", 0.1)
    one = fleet()
    worker = one.start(receive_wait_s=8.0)
    records = one.ports.records
    eventually(records.workers)
    if asked:
        records.ask_to_leave([worker.worker_id])
        eventually(lambda: any(known.leaving for known in records.workers()))
    else:
        worker.drain()
    one.threads[0].join(0.5 if asked else 2.0)
    assert one.threads[0].is_alive() is asked
    if asked:
        begun = time.monotonic()
        one.submit(["sleep 0"])
        one.threads[0].join(10)
        assert time.monotonic() - begun < 2.0, "it waits for the poll only"
        assert one.ends == [True]
        assert one.ports.tasks.depth() == QueueDepth(1, 0)


@pytest.mark.usefixtures("hand_back_soon")
def test_a_kind_that_cannot_run_here_is_left_to_a_worker_that_can(fleet):
    def check():
        from taskfleet.errors import PermanentError

        raise PermanentError("no ffmpeg found; install ffmpeg")

    runs = []
    able = thread_kind("movie", lambda p, c: runs.append(c.index), max_concurrent=lambda: 1)
    lame = thread_kind("movie", lambda p, c: None, check=check)
    one = fleet(able)
    batch_id = one.submit(["movie", "movie", "sleep 0"])
    one.start(registry=Registry([sleep, lame]))
    one.start()
    assert one.finished(batch_id, within_s=60).tally == Tally(succeeded=3)
    assert sorted(runs) == [0, 1]


@pytest.mark.usefixtures("hand_back_soon")
def test_a_kind_runs_within_its_limit_while_other_kinds_go_on(fleet):
    lock, now, peak = threading.Lock(), [0], [0]

    def encode(params, context):
        with lock:
            now[0] += 1
            peak[0] = max(peak[0], now[0])
        time.sleep(0.1)
        with lock:
            now[0] -= 1

    one = fleet(thread_kind("encode", encode, max_concurrent=lambda: 2))
    batch_id = one.submit(["encode"] * 4 + ["sleep 10"] * 20)
    one.start(threads=8)
    assert one.finished(batch_id, within_s=60).tally == Tally(succeeded=24)
    assert peak[0] == 2


def test_a_crashed_thread_ends_the_worker_as_failed(fleet, monkeypatch, caplog):
    one = fleet()
    worker = one.start()
    monkeypatch.setattr(worker._workload, "wait_for_room", lambda timeout_s, high: 1 / 0)
    one.threads[0].join(20)
    assert one.ends == [False]
    assert "worker_crashed" in {r.taskfleet["action"] for r in caplog.records}


def test_failures_of_tasks_do_not_end_the_worker(fleet):
    one = fleet(failing_kind("bug", lambda: ValueError("oh"), expected_s=lambda p: 0.0))
    one.start()
    assert one.finished(one.submit(["bug"] * 50)).tally == Tally(failed=50)
    assert one.finished(one.submit(["sleep 0"])).tally == Tally(succeeded=1)
