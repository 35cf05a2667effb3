"""Batches of high priority: their way through queues and worker, on ports in memory."""

from __future__ import annotations

from typing import Any

import pytest

from ec2_worker.turns import EVERY
from taskfleet.registry import Registry
from tests.support.frontend import Frontend
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
    cloud, registry, recorder = recorded
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
    answer = front.call("POST", "/dead-letters/tasks/redrive")
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


def test_the_fleet_and_the_provisioner_count_both_queues() -> None:
    front = Frontend()
    front.submit(["sleep 60000"] * 3)
    assert front.call("GET", "/fleet").json_body["backlog"] == 3
    front.submit(["sleep 60000"] * 4, priority="high")
    assert front.call("GET", "/fleet").json_body["backlog"] == 7
    provisioner = front.services.provisioner
    assert provisioner is not None
    # Old enough that the totals of demand alone do not tell of them.
    front.cloud.clock.advance(3_600)
    state = provisioner.round()
    assert state is not None
    front.cloud.clock.advance(3_600)
    for message in front.cloud.tasks.receive(10, wait_s=0, visibility_s=30):
        front.cloud.tasks.delete([message])
    state = provisioner.round()
    assert state is not None
    assert state.wanted > 0
