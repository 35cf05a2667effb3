"""Batches of high priority: their way through queues and worker, on ports in memory."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import Any

import pytest

from ec2_worker.parts import WorkerPorts
from ec2_worker.turns import EVERY
from ec2_worker.worker import Worker
from taskfleet.clock import SystemClock
from taskfleet.memory import ManualClock
from taskfleet.options import read_batch
from taskfleet.ports import Clock, OutgoingMessage, QueueDepth
from taskfleet.provisioner.ports import ProvisionerPorts
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.provisioner.records import Demand, KindDemand
from taskfleet.registry import Registry
from taskfleet.settings import Settings
from tests.support.frontend import Frontend
from tests.support.waiting import eventually
from tests.support.worker import Cloud, HandWorker, Recorder, thread_kind


def order_of_runs(worker: HandWorker, runs: list[Any]) -> list[str]:
    """Take all steps, a chunk at a time, so that a look at the queues comes between two chunks.
    Returns the batches of the tasks in the order in which they ran."""
    for _ in range(2_000):
        worker.poll()
        chunk = worker.take()
        if chunk is None:
            break
        worker.finish(chunk)
        worker.settle()
    while worker.outbox.pending():
        worker.outbox.flush()
    return [batch_id for batch_id, _, _ in runs]


@pytest.fixture
def recorded() -> tuple[Cloud, Registry, Recorder]:
    """A cloud, and a kind of which each task makes a chunk, since it takes a second."""
    recorder = Recorder()
    registry = Registry([recorder.kind(expected_s=lambda _params: 1.0)])
    return Cloud(), registry, recorder


def submit(cloud: Cloud, registry: Registry, tasks: int, priority: str | None) -> str:
    front = Frontend(cloud, registry)
    options = {} if priority is None else {"priority": priority}
    return front.submit([{"kind": "record", "params": {"n": n}} for n in range(tasks)], **options)


def test_high_work_runs_first_and_normal_work_has_every_eighth_turn(
    recorded: tuple[Cloud, Registry, Recorder],
) -> None:
    cloud, registry, recorder = recorded
    normal = submit(cloud, registry, 100, None)
    high = submit(cloud, registry, 70, "high")
    ran = order_of_runs(HandWorker(cloud, registry, threads=4), recorder.runs)
    assert (ran.count(normal), ran.count(high)) == (100, 70)
    until_the_last_high = ran[: 70 * EVERY // (EVERY - 1)]
    places = [n for n, batch in enumerate(until_the_last_high) if batch == normal]
    # Normal work may lag by the messages that were under way, but moves all the time.
    assert 7 <= len(places) <= 10
    assert max(late - early for early, late in zip([0, *places], places, strict=False)) <= 2 * EVERY


def test_high_work_finds_room_where_normal_work_waits(
    recorded: tuple[Cloud, Registry, Recorder],
) -> None:
    cloud, registry, _ = recorded
    submit(cloud, registry, 100, None)
    worker = HandWorker(cloud, registry, threads=4)
    worker.poll()
    high = submit(cloud, registry, 1, "high")
    worker.poll()
    chunk = worker.take()
    assert chunk is not None
    assert chunk.claimed.bundle.batch_id == high


def test_two_queues_are_empty_after_mixed_work_and_no_call_knows_the_wrong_one() -> None:
    cloud, recorder = Cloud(), Recorder()
    registry = Registry([recorder.kind()])
    submit(cloud, registry, 50, "high")
    submit(cloud, registry, 50, "normal")
    assert cloud.high.depth().backlog > 0
    assert cloud.tasks.depth().backlog > 0
    HandWorker(cloud, registry).work()
    for queue in (cloud.high, cloud.tasks):
        depth = queue.depth()
        assert (depth.backlog, depth.in_flight) == (0, 0)
    assert len(recorder.runs) == 100


def test_a_dead_letter_of_high_priority_is_redriven_to_its_queue() -> None:
    front = Frontend(registry=Registry([thread_kind("gone", lambda *_: None)]))
    batch_id = front.submit([{"kind": "gone"}], priority="high")
    HandWorker(front.cloud, Registry.load()).work()  # it does not know the kind
    assert front.cloud.dead.depth().backlog == 1
    answer = front.call("POST", "/dead-letters/redrive", {"queue": "tasks"})
    assert answer.json_body == {"moved": 1}, answer.body
    assert front.cloud.high.depth().backlog == 1
    (message,) = front.cloud.high.receive(1, wait_s=0, visibility_s=0)
    assert batch_id in message.body


def test_the_priority_stands_in_the_batch_and_goes_with_a_retry() -> None:
    front = Frontend()
    batch_id = front.submit(["sleep 0"], priority="high")
    assert front.call("GET", f"/batches/{batch_id}").json_body["options"] == {"priority": "high"}
    front.call("DELETE", f"/batches/{batch_id}")
    front.run()
    again = front.call("POST", f"/batches/{batch_id}/retry", {"status": ["CANCELLED"]})
    assert again.status_code == 202, again.body
    made = front.call("GET", f"/batches/{again.json_body['batch_id']}").json_body
    assert made["options"] == {"priority": "high"}
    assert front.cloud.high.depth().backlog == 1


def test_another_priority_is_refused() -> None:
    answer = Frontend().call("POST", "/batches", {"tasks": ["sleep 0"], "priority": "urgent"})
    assert answer.status_code == 422, answer.body
    assert "priority" in answer.json_body["Message"]


def test_the_fleet_counts_both_queues() -> None:
    front = Frontend()
    front.submit(["sleep 60000"] * 3)
    assert front.call("GET", "/fleet").json_body["backlog"] == 3
    front.submit(["sleep 60000"] * 4, priority="high")
    assert front.call("GET", "/fleet").json_body["backlog"] == 7


def test_the_provisioner_counts_both_queues_once_one_of_high_priority_was_submitted() -> None:
    cloud = Cloud()
    high = Counted(cloud.high)
    ports = ProvisionerPorts(
        cloud.tasks,
        cloud.monitor,
        cloud.records,
        cloud.fleet,
        cloud.clock,
        high,  # type: ignore[arg-type]
    )
    provisioner = Provisioner(ports, Settings())

    def wanted() -> int:
        """The machines for what waits, an hour later: what has arrived says nothing any more."""
        cloud.clock.sleep(3_600)
        state = provisioner.round()
        assert state is not None
        return state.wanted

    def demand(batches: int, high_messages: int) -> None:
        """Announce 500 tasks of a minute each, a message each."""
        kinds = {"sleep": KindDemand(500, 500, 30_000.0)}
        cloud.records.add_demand(Demand(batches, 500, kinds, high_messages))

    demand(1, 0)
    cloud.tasks.send([OutgoingMessage("a bundle")] * 500)
    usual = wanted()
    assert usual > 1
    assert not high.calls, "a stage without high priority pays no call"
    demand(1, 500)
    cloud.high.send([OutgoingMessage("a bundle", high=True)] * 500)
    assert wanted() > usual
    assert high.calls == {"depth": 1}


# --- the daemon ---------------------------------------------------------------------------------


class Counted:
    """A port that counts its calls."""

    def __init__(self, port: Any) -> None:
        self._port = port
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        self.calls[name] += 1
        return getattr(self._port, name)


class Daemon:
    """A worker with its threads, in real time."""

    def __init__(
        self,
        *,
        receive_wait_s: float,
        exit_when_idle_s: float | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.cloud = Cloud(clock=clock or SystemClock())  # type: ignore[arg-type]
        self.registry = Registry.load()
        cloud = self.cloud
        made = [Counted(x) for x in (cloud.tasks, cloud.responses, cloud.monitor, cloud.high)]
        self.others, self.high = made[:3], made[3]
        ports: Any = WorkerPorts
        self.worker = Worker(
            ports(*self.others, cloud.store, cloud.clock, high=self.high),
            self.registry,
            Settings(receive_wait_s=receive_wait_s),
            threads=16,
            worker_id="w-1",
            rng=random.Random(0),
            exit_when_idle_s=exit_when_idle_s,
        )
        self.thread = threading.Thread(target=self.worker.run)

    def submit(self, tasks: list[str], priority: str | None = None) -> str:
        options = read_batch({} if priority is None else {"priority": priority})
        return self.cloud.submit(self.registry, tasks, options=options)

    def ended(self, batch_id: str) -> bool:
        self.cloud.collect()
        batch = self.cloud.monitor.batch(batch_id)
        return batch is not None and batch.finished

    def __enter__(self) -> Daemon:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # An empty poll ends when something comes.
        self.worker.drain()
        self.thread.join(30)


def test_a_batch_without_priority_costs_less_than_two_percent_more_calls() -> None:
    daemon = Daemon(receive_wait_s=20)
    batch_id = daemon.submit(["sleep 8"] * 4_000)
    with daemon:
        eventually(lambda: daemon.ended(batch_id))
    assert daemon.high.calls["receive"] == daemon.high.calls.total() == 1
    assert sum(port.calls.total() for port in daemon.others) >= 50


def test_an_idle_worker_leaves_only_when_both_queues_are_empty() -> None:
    with Daemon(receive_wait_s=20, exit_when_idle_s=0.6) as daemon:
        for _ in range(2):
            batch_id = daemon.submit(["sleep 450"], "high")
            eventually(lambda batch_id=batch_id: daemon.ended(batch_id))  # type: ignore[misc]
            assert daemon.thread.is_alive()
        daemon.thread.join(5)
        assert not daemon.thread.is_alive(), "neither poll holds it up"
    assert daemon.cloud.high.depth() == daemon.cloud.tasks.depth() == QueueDepth(0, 0)


@pytest.mark.parametrize(
    ("idle_s", "wait_s"), [(0.0, 20.0), (25.0, 20.0), (40.0, 5.0), (44.5, 1.0), (50.0, 1.0)]
)
def test_no_poll_keeps_a_machine_longer_than_it_may_stay(idle_s: float, wait_s: float) -> None:
    clock = ManualClock()
    daemon = Daemon(receive_wait_s=20, exit_when_idle_s=45, clock=clock)
    clock.sleep(idle_s)
    assert daemon.worker._wait_s() == wait_s
    assert Daemon(receive_wait_s=20, clock=clock).worker._wait_s() == 20
