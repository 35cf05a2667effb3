"""Both monitors side by side: after the same random calls, memory and DynamoDB give the same
answers. So the rules in memory, which are easy to read, hold for the condition expressions too."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskfleet.batch import (
    BatchRecord,
    Mark,
    Tally,
    Upload,
)
from taskfleet.errors import LeaseLost
from taskfleet.lease import Lease
from taskfleet.task import Task, TaskResult, TaskStatus
from tests.contract.conftest import World, aws_world, memory_world

JOBS = st.sampled_from(["b0:0", "b0:1"])
BATCHES = st.sampled_from(["b0", "b1"])
OWNERS = st.sampled_from(["ann", "bob", "cy"])
COUNTS = st.sampled_from([0, 2, 4, 6, 8])
UPLOADS = st.builds(
    Upload,
    st.just("uploads/x"),
    st.just("e"),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 3),
)
MARKS = st.builds(Mark, st.integers(1, 3), st.integers(0, 3), st.integers(1, 3))
MOMENTS = st.integers(0, 9).map(lambda n: 1_700_000_000.0 + n / 4)
TALLIES = st.dictionaries(
    st.sampled_from([0, 1, 2, 499, 500, 1_001]),
    st.builds(Tally, st.integers(0, 2), st.integers(0, 2), st.integers(0, 2)),
    max_size=4,
)
BUNDLE_STEPS = ("claim", "unclaim", "renew", "commit", "release")
STEPS = st.one_of(
    st.tuples(st.just("sleep"), st.sampled_from([0.5, 6.0, 11.0])),
    st.tuples(st.just("claim"), JOBS, OWNERS),
    st.tuples(st.just("unclaim"), JOBS, OWNERS),
    st.tuples(st.sampled_from(["renew", "commit", "release"]), JOBS, st.integers(0, 3)),
    st.tuples(st.just("create"), BATCHES, st.booleans(), st.none() | UPLOADS),
    st.tuples(st.just("add_part"), BATCHES, COUNTS, st.booleans()),
    st.tuples(st.just("record_enqueued"), BATCHES, COUNTS),
    st.tuples(st.just("record_upload"), BATCHES, UPLOADS),
    st.tuples(st.just("record_handed"), BATCHES, MARKS),
    st.tuples(st.sampled_from(["start_batch", "cancel_batch"]), BATCHES, MOMENTS),
    st.tuples(st.just("cancel_batch"), BATCHES, MOMENTS, st.just("line 3: why")),
    st.tuples(st.just("record_progress"), BATCHES, TALLIES, MOMENTS),
    st.tuples(st.just("note_follower"), BATCHES, st.sampled_from(["b7", "b8"])),
)


class Player:
    """Plays steps on one monitor. `leases` has the leases that it returned by bundle, newest
    first."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.clock.set(1_700_000_000.0)
        self.leases: dict[str, list[Lease]] = {}
        self.turn = 0

    def play(self, step: tuple[Any, ...]) -> Any:
        self.turn += 1
        name, *arguments = step
        monitor = self.world.monitor
        if name == "sleep":
            return self.world.clock.sleep(*arguments)
        if name == "claim":
            job_id, owner = arguments
            claim = monitor.claim(job_id, owner=owner, lease_s=10)
            if claim.lease is not None:
                self.leases.setdefault(job_id, []).insert(0, claim.lease)
            return claim
        if name == "unclaim":
            job_id, owner = arguments
            return monitor.unclaim(job_id, owner=owner)
        if name in ("renew", "commit", "release"):
            return self.end(name, *arguments)
        if name == "create":
            batch_id, closed, upload = arguments
            total, bundles = (0, 0) if upload else (6, 3)
            created_at = 1_700_000_000.0 + self.turn
            return monitor.create_batch(
                BatchRecord(
                    batch_id, "client", None, created_at, total, bundles, "0", closed, upload=upload
                )
            )
        if name == "add_part":
            batch_id, first, closed = arguments
            return monitor.add_part(batch_id, first=first, tasks=2, bundles=1, closed=closed)
        return getattr(monitor, name)(*arguments)

    def end(self, name: str, job_id: str, age: int) -> Any:
        leases = self.leases.get(job_id, [])
        if age >= len(leases):
            return None
        more = {"lease_s": 10} if name == "renew" else {}
        results = [TaskResult(self.turn, TaskStatus.SUCCEEDED, self.turn)]
        tasks = [Task(self.turn, "sleep", self.turn)]
        try:
            return getattr(self.world.monitor, name)(
                job_id, leases[age], tasks=tasks, results=results, **more
            )
        except LeaseLost as error:
            return str(error)

    def bundles(self) -> Any:
        return self.world.monitor.bundles(["b0:0", "b0:1"])

    def batches(self) -> Any:
        return self.world.monitor.batches("client", limit=10, cursor=None)


@given(steps=st.lists(STEPS, min_size=8, max_size=40))
@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_memory_and_dynamodb_give_the_same_answers(aws_stack, steps):
    memory, dynamodb = Player(memory_world()), Player(aws_world(aws_stack))
    for step in steps:
        assert dynamodb.play(step) == memory.play(step), step
        # Reading takes most of the time: after a step what it may change, in the end all.
        if step[0] in BUNDLE_STEPS:
            assert dynamodb.bundles() == memory.bundles(), step
        elif step[0] != "sleep":
            assert dynamodb.batches() == memory.batches(), step
    assert dynamodb.bundles() == memory.bundles()
    assert dynamodb.batches() == memory.batches()


def _end_of(history: list[tuple[int, Tally]], order: list[int], cuts: list[int]) -> Any:
    world = memory_world()
    world.monitor.create_batch(
        BatchRecord("b0", "client", None, 1_700_000_000.0, 1, 10_000, "0", True)
    )
    told = [history[place] for place in order]
    for start, end in zip([0, *cuts], [*cuts, len(told)], strict=True):
        world.monitor.record_progress("b0", dict(told[start:end]), 1_700_000_001.0)
    return world.monitor.batch("b0")


@pytest.mark.parametrize("size", [1, 7])
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_the_count_is_the_sum_over_bundles_in_any_order_and_portions(size, data):
    history = [(number, Tally(number, 1, number % 3)) for number in range(size)]
    order = data.draw(
        st.lists(st.integers(0, size - 1), max_size=30).flatmap(
            lambda extra: st.permutations([*range(size), *extra])
        )
    )
    cuts = sorted(data.draw(st.lists(st.integers(0, len(order)), max_size=6)))
    expected = sum((tally for _, tally in history), start=Tally())
    assert _end_of(history, order, cuts).tally == expected
