"""One client floods the queue with work, another sends a little: the little is done while nearly
all of the flood still waits."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.batch import BatchRecord
from taskfleet.registry import Registry
from tests.support.frontend import Frontend
from tests.support.worker import Cloud, HandWorker, thread_kind

TASK_S = 2.0
"""Seconds of one task of the flood, each of which is a bundle."""
LONG = {"kind": "pass-time", "params": TASK_S}
SHORT = {"kind": "pass-time", "params": 0.001}
FLOOD = [LONG] * 500
SLOTS = 4


class Flood:
    """An API that a client floods with whole batches, and a worker that has begun with them."""

    def __init__(self, batches: int) -> None:
        self.cloud = Cloud()
        pass_time = thread_kind(
            "pass-time",
            lambda params, _context: self.cloud.clock.sleep(params),
            expected_s=lambda params: params,
        )
        self.api = Frontend(self.cloud, Registry([pass_time]))
        for _ in range(batches):
            answer = self.api.call("POST", "/batches", {"tasks": FLOOD}, as_client="mallory")
            assert answer.status_code == 202
        self.worker = HandWorker(self.cloud, self.api.registry, threads=SLOTS)
        for _ in range(3):
            self.step()

    def step(self) -> None:
        """Receive what there is room for, run it, and answer."""
        self.worker.poll()
        while (chunk := self.worker.take()) is not None:
            self.worker.finish(chunk)
        self.worker.settle()
        while self.worker.outbox.pending():
            self.worker.outbox.flush()
        self.cloud.collect()

    def submit(self, tasks: list[Any], client_id: str) -> str:
        answer = self.api.call("POST", "/batches", {"tasks": tasks}, as_client=client_id)
        return str(answer.json_body["batch_id"])

    def batch(self, batch_id: str) -> BatchRecord:
        batch = self.cloud.monitor.batch(batch_id)
        assert batch is not None
        return batch

    def run_until_done(self, batch_id: str) -> float:
        """Returns the seconds that it took. The slots take turns here, so that a task of the flood
        takes `TASK_S` of all of them."""
        began = self.cloud.clock.now()
        while not self.batch(batch_id).finished:
            self.step()
            assert self.cloud.clock.now() - began < len(FLOOD) * TASK_S
        return self.cloud.clock.now() - began


@pytest.mark.parametrize("batches", [1, 8])
def test_a_small_batch_ends_while_the_flood_before_it_waits(batches: int) -> None:
    flood = Flood(batches)
    before = flood.cloud.tasks.depth().backlog
    small = flood.submit([SHORT] * 3, "alice")
    # What the worker has in hand is done first; then each client has its turn.
    assert flood.run_until_done(small) <= 4 * SLOTS * TASK_S
    assert flood.cloud.tasks.depth().backlog >= before - 4 * SLOTS
    assert flood.batch(small).tally.succeeded == 3


def test_a_flood_that_goes_on_after_the_small_batch_holds_it_up_no_longer() -> None:
    flood = Flood(1)
    small = flood.submit([SHORT] * 3, "alice")
    for _ in range(4):
        flood.submit(FLOOD, "mallory")
    assert flood.run_until_done(small) <= 4 * SLOTS * TASK_S


def test_many_small_batches_of_one_client_have_one_clients_turn() -> None:
    """Neither many batches nor many bundles give a client more turns."""
    flood = Flood(1)
    for _ in range(200):
        flood.submit([LONG], "mallory")
    ids = [flood.submit([SHORT], f"client-{n}") for n in range(5)]
    for batch_id in ids:
        assert flood.run_until_done(batch_id) <= 4 * SLOTS * TASK_S
    assert flood.cloud.tasks.depth().backlog > len(FLOOD)
