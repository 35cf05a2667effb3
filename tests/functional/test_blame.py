"""A task that kills its worker fails alone: who is charged when a whole worker is lost.

A worker is lost here by being dropped without a word, at the moment at which a task of the kind
`act` says so. What it did not write down by then is gone."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from taskfleet.registry import Registry, sleep
from taskfleet.retry import RetryPolicy
from taskfleet.task import TaskStatus
from tests.support.worker import LEASE_S, Cloud, HandWorker, thread_kind

LOST = "gave up after 5 attempts: its worker w-"


class World:
    """Workers that come one after the other, on one cloud."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.cloud = Cloud()
        self.killed = False
        self.beside = 0
        self.runs: Counter[int] = Counter()
        quick: dict[str, Any] = {"expected_s": lambda _params: 0.0005}
        self.registry = Registry(
            [
                sleep,
                thread_kind("act", self.act, **quick),
                thread_kind("other", self.act),
                thread_kind("rare", self.act, retry=RetryPolicy(max_attempts=1)),
                thread_kind("once", self.act, retry=RetryPolicy(max_attempts=1), **quick),
            ]
        )
        self.workers = 0
        self.worker = self.hire()

    def act(self, params: Any, context: Any) -> Any:
        self.runs[context.index] += 1
        if params == "kill" or (params == "kill beside" and self.beside > 1):
            self.killed = True
        if params == "report":
            context.progress(1, 2)
        return params

    def hire(self) -> HandWorker:
        self.workers += 1
        self.killed = False
        return HandWorker(self.cloud, self.registry, worker_id=f"w-{self.workers}", rng=self.rng)

    def lose(self) -> None:
        """The worker is gone; its leases end, and another comes."""
        self.cloud.clock.sleep(LEASE_S + 5)
        self.worker = self.hire()

    def submit(self, tasks: list[Any]) -> str:
        return self.cloud.submit(self.registry, tasks)

    def step(self) -> bool:
        """Fill the slots, run what they hold in any order, and settle. Returns whether the worker
        lived."""
        worker = self.worker
        worker.poll()
        chunks = [chunk for _ in range(4) if (chunk := worker.take()) is not None]
        self.rng.shuffle(chunks)
        for chunk in chunks:
            if chunk.claimed.careful:  # all of them have started when the first one ends
                worker.heartbeat.note(chunk.claimed, chunk.tasks[0])
        for number, chunk in enumerate(chunks):
            self.beside = len(chunks) - number
            worker.finish(chunk)
            if self.killed:
                return False
            worker.heartbeat.beat()
        worker.settle()
        while worker.outbox.pending():
            worker.outbox.flush()
        self.cloud.collect()
        return True

    def finish(self, batch_id: str) -> int:
        """Run until the batch is finished. Returns the number of workers that were lost."""
        lost = 0
        for _ in range(10_000):
            if not self.step():
                self.lose()
                lost += 1
            self.cloud.clock.sleep(0.5)
            batch = self.cloud.monitor.batch(batch_id)
            assert batch is not None
            if batch.finished:
                return lost
        raise AssertionError(f"not finished, {lost} workers lost")

    def rows(self, batch_id: str) -> dict[int, Any]:
        return {row.index: row for row in self.cloud.rows(self.registry, batch_id)}


def judge(world: World, batch_id: str, poisons: set[int], most: int = 2) -> None:
    """Exactly the poisons failed, with the words; no innocent was charged more than once."""
    rows = world.rows(batch_id)
    assert {i for i, row in rows.items() if row.status is TaskStatus.FAILED} == poisons
    for index, row in rows.items():
        if index in poisons:
            assert row.error.startswith(LOST)
            assert row.error.endswith("was lost while it ran")
            assert row.attempts == 5
        else:
            assert row.status is TaskStatus.SUCCEEDED
            assert row.attempts <= most


def act(params: Any = None, kind: str = "act") -> dict[str, Any]:
    return {"kind": kind, "params": params}


@pytest.mark.parametrize("place", [0, 500, 999])
def test_one_poison_among_a_thousand_fails_alone(place: int) -> None:
    world = World()
    tasks = [act() for _ in range(1000)]
    tasks[place] = act("kill")
    batch_id = world.submit(tasks)
    lost = world.finish(batch_id)
    judge(world, batch_id, {place}, most=1)
    assert lost == 7  # twice before anyone is suspected, then five attempts
    assert world.cloud.dead.depth().backlog == 1


@pytest.mark.parametrize("seed", range(5))
def test_two_poisons_in_a_bundle_of_mixed_kinds(seed: int) -> None:
    world = World(seed)
    tasks: list[Any] = [world.rng.choice([act(), act(None, "other"), "sleep 0"]) for _ in range(60)]
    poisons = set(world.rng.sample(range(60), 2))
    for index in poisons:
        tasks[index] = act("kill", world.rng.choice(["act", "other"]))
    batch_id = world.submit(tasks)
    assert world.finish(batch_id) <= 14
    judge(world, batch_id, poisons)


def test_bundles_lost_beside_a_poison_of_another_bundle_succeed() -> None:
    """Each unknown duration gives a bundle of few tasks: many bundles share the lost worker."""
    world = World()
    tasks = [act(None, "other") for _ in range(200)]
    tasks[7] = act("kill", "other")
    batch_id = world.submit(tasks)
    assert world.finish(batch_id) == 7
    judge(world, batch_id, {7}, most=1)


def test_a_task_that_kills_only_beside_another_succeeds_alone() -> None:
    world = World()
    batch_id = world.submit([act("kill beside", "other"), *[act(None, "other") for _ in range(7)]])
    assert world.finish(batch_id) == 2
    judge(world, batch_id, set(), most=1)


def test_a_task_that_may_run_once_only_is_failed_by_its_first_lost_attempt() -> None:
    world = World()
    batch_id = world.submit([act("kill", "once"), *[act() for _ in range(20)]])
    assert world.finish(batch_id) == 3
    rows = world.rows(batch_id)
    assert rows[0].error.startswith("gave up after 1 attempt: its worker")
    assert {row.attempts for row in rows.values()} == {1}


@pytest.mark.parametrize("seed", range(10))
def test_no_task_fails_for_having_run_beside_killers_in_other_bundles(seed: int) -> None:
    """Bundles of one task each, of kinds with one attempt and with five, three of them killers."""
    world = World(seed)
    tasks = [act(None, world.rng.choice(["other", "rare"])) for _ in range(30)]
    poisons = world.rng.sample(range(30), 3)
    for index in poisons:
        tasks[index]["params"] = "kill"
    batch_id = world.submit(tasks)
    world.finish(batch_id)
    rows = world.rows(batch_id)
    failed = {index for index, row in rows.items() if row.status is TaskStatus.FAILED}
    assert failed == set(poisons)


def test_progress_in_an_ordinary_claim_charges_nobody() -> None:
    world = World()
    batch_id = world.submit([act("report", "other") for _ in range(4)])
    for _ in range(2):
        world.worker.poll()
        chunk = world.worker.take()
        assert chunk is not None
        chunk.claimed.report(0, 1.0, [1, 2])
        world.worker.protocol.renew(chunk.claimed)
        world.lose()
    world.finish(batch_id)
    assert {row.attempts for row in world.rows(batch_id).values()} == {1}


def careful(world: World) -> None:
    """Have two workers lose what is on the queue, and a third claim it."""
    for _ in range(2):
        world.worker.poll()
        world.lose()
    world.worker.poll()


def test_a_careful_bundle_that_is_drained_charges_nobody_and_stays_careful() -> None:
    world = World()
    batch_id = world.submit([act("kill"), *[act() for _ in range(5)]])
    careful(world)
    (claimed,) = world.worker.workload.in_hand()
    assert claimed.careful
    world.worker.heartbeat.note(claimed, claimed.bundle.tasks[0])
    world.worker.ready += world.worker.workload.stop_starting()
    world.worker.settle()
    world.worker = world.hire()
    assert world.finish(batch_id) == 5
    judge(world, batch_id, {0}, most=1)


def test_a_noted_task_whose_worker_only_paused_is_charged_once_and_succeeds() -> None:
    world = World()
    batch_id = world.submit([act() for _ in range(5)])
    careful(world)
    paused = world.worker
    chunk = paused.take()
    assert chunk is not None
    assert paused.take() is None
    paused.finish(chunk)
    world.lose()
    assert world.finish(batch_id) == 0
    late = paused.take()
    assert late is not None
    paused.finish(late)  # its note is refused
    assert sum(world.runs.values()) == 6
    rows = world.rows(batch_id)
    assert {row.status for row in rows.values()} == {TaskStatus.SUCCEEDED}
    assert sorted(row.attempts for row in rows.values()) == [1, 1, 1, 1, 2]


def test_progress_of_a_careful_task_keeps_its_note() -> None:
    world = World()
    batch_id = world.submit([act("report") for _ in range(3)])
    careful(world)
    (claimed,) = world.worker.workload.in_hand()
    world.worker.heartbeat.note(claimed, claimed.bundle.tasks[1])
    claimed.report(1, 1.0, [1, 2])
    world.worker.protocol.renew(claimed)
    world.lose()
    world.finish(batch_id)
    assert [row.attempts for row in world.rows(batch_id).values()] == [1, 2, 1]


def test_a_careful_bundle_leaves_the_other_slots_to_other_bundles() -> None:
    world = World()
    world.submit([act() for _ in range(8)])
    careful(world)
    first = world.worker.take()
    assert first is not None
    assert len(first.tasks) == 1
    world.submit([act(None, "other") for _ in range(8)])
    assert world.worker.poll()
    others = [world.worker.take() for _ in range(3)]
    assert all(chunk and not chunk.claimed.careful for chunk in others)


def test_a_note_that_cannot_be_written_starts_nothing() -> None:
    world = World()
    batch_id = world.submit([act() for _ in range(2)])
    careful(world)
    before = sum(world.runs.values())
    (claimed,) = world.worker.workload.in_hand()
    world.cloud.clock.sleep(LEASE_S + 1)
    other = HandWorker(world.cloud, world.registry, worker_id="other", rng=world.rng)
    assert other.poll()
    chunk = world.worker.take()
    assert chunk is not None
    world.worker.finish(chunk)
    assert sum(world.runs.values()) == before
    assert claimed.lost
    assert world.worker.take() is None
    other.work()
    assert {row.status for row in world.rows(batch_id).values()} == {TaskStatus.SUCCEEDED}
