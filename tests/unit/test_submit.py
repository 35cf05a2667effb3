import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from taskfleet.batch import (
    BatchStatus,
    Tally,
    keyed_batch_id,
)
from taskfleet.bundle import DEFAULT_SLOTS, Plan, borders
from taskfleet.errors import Conflict, InvalidTask, TransientError
from taskfleet.memory import ManualClock, MemoryMonitor, MemoryQueue
from taskfleet.pace import Sample
from taskfleet.registry import Registry, TaskKind, sleep
from taskfleet.wire.http.caps import MAX_TASKS
from taskfleet.wire.queues import (
    decode_bundle,
)
from taskfleet.wire.taskfile import (
    kind_and_params,
)
from tests.support.outage import OneByOne, Outage
from tests.support.scheduler import submission
from tests.support.worker import run_nothing

NOTE = TaskKind(name="note", run=run_nothing)  # of unknown duration: one task a bundle
REGISTRY = Registry([sleep, NOTE])


class World:
    def __init__(self, outage=None, slots=lambda: DEFAULT_SLOTS):
        outage = outage or Outage()
        self.clock = ManualClock()
        self.queue = MemoryQueue(self.clock)
        self.monitor = MemoryMonitor(self.clock)
        draws = iter(range(1000))
        self.submission = submission(
            REGISTRY,
            OneByOne(self.queue, outage),
            outage.wrap(self.monitor),
            self.clock,
            lambda count: next(draws).to_bytes(count),
            slots,
        )

    def submit(self, tasks, client_id="alice", **options):
        return self.submission.submit(tasks, client_id=client_id, **options)

    def batches(self, client_id="alice"):
        return self.monitor.batches(client_id, limit=100, cursor=None).items

    def bundles(self):
        """Returns every bundle on the queue, in order, with duplicates."""
        found = []
        while messages := self.queue.receive(10, wait_s=0, visibility_s=9):
            found += [decode_bundle(message.body) for message in messages]
            self.queue.delete(messages)
        return found


def indexes(bundles):
    return [task.index for bundle in bundles for task in bundle.tasks]


# --- a batch in one go ----------------------------------------------------------------------


def test_a_batch_is_recorded_then_put_on_the_queue_as_bundles():
    world = World()
    batch = world.submit(["sleep 1000"] * 5 + ["note a b"], name="mine")
    assert (batch.name, batch.client_id, batch.total, batch.bundles) == ("mine", "alice", 6, 6)
    assert (batch.status, batch.closed) == (BatchStatus.QUEUED, True)
    assert batch.created_at == world.clock.now()
    assert world.monitor.batch(batch.batch_id).enqueued == 6
    bundles = world.bundles()
    assert [bundle.job_id for bundle in bundles] == [f"{batch.batch_id}:{n}" for n in range(6)]
    assert {bundle.client_id for bundle in bundles} == {"alice"}
    assert {bundle.batch_id for bundle in bundles} == {batch.batch_id}
    assert indexes(bundles) == list(range(6))
    assert [task.params for bundle in bundles for task in bundle.tasks] == [1000] * 5 + ["a b"]


def test_the_messages_of_a_client_share_a_fair_queue_group():
    world = World()
    world.submit(["note"] * 20, client_id="big")
    world.submit(["note"], client_id="small")
    first = [decode_bundle(m.body) for m in world.queue.receive(2, wait_s=0, visibility_s=9)]
    assert {bundle.client_id for bundle in first} == {"big", "small"}


def test_without_a_key_each_submission_is_a_batch_of_its_own():
    world = World()
    ids = {world.submit(["sleep 0"]).batch_id for _ in range(3)}
    assert len(ids) == len(world.batches()) == 3


@pytest.mark.parametrize(
    ("tasks", "reason", "index"),
    [
        ([], "at least one task", None),
        (["sleep 1", "nap 1"], "task 1: unknown kind", 1),
        (["sleep 1"] * 999 + ["sleep -1"], "task 999: sleep -1 is negative", 999),
        (["sleep x", "sleep y"], "task 0: ", 0),
        (["sleep 1", "note " + "x" * 300_000], "task 1: has 300013 bytes of JSON, over", 1),
        (["sleep 1", {"kind": "sleep"}], "task 1: sleep needs a number", 1),
        (["sleep 1"] * (MAX_TASKS + 1), f"over the cap of {MAX_TASKS}", None),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_one_bad_task_and_nothing_is_recorded_or_sent(tasks, reason, index):
    world = World()
    with pytest.raises(InvalidTask, match=reason) as caught:
        world.submit(tasks, idempotency_key="k")
    assert caught.value.index == index
    assert world.batches() == []
    assert world.bundles() == []


# --- idempotency ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "repetition",
    [
        {"tasks": [{"kind": "note", "params": {"a": 1, "b": 2}}]},
        {"tasks": [{"params": {"b": 2, "a": 1}, "kind": "note"}]},
    ],
)
def test_the_same_payload_under_the_same_key_is_the_same_batch(repetition):
    world = World()
    first = world.submit([{"kind": "note", "params": {"a": 1, "b": 2}}], idempotency_key="k")
    assert len(world.bundles()) == 1
    world.clock.sleep(60)
    second = world.submit(repetition["tasks"], idempotency_key="k")
    assert (second.batch_id, second.created_at) == (first.batch_id, first.created_at)
    assert world.bundles() == []
    assert len(world.batches()) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"tasks": ["sleep 2"]},
        {"tasks": ["sleep 1", "sleep 1"]},
        {"tasks": ["sleep 1"], "name": "named"},
    ],
)
def test_another_payload_under_the_same_key_is_a_conflict(other):
    world = World()
    world.submit(["sleep 1"], idempotency_key="k")
    before = world.batches()
    with pytest.raises(Conflict, match="used before for another payload"):
        world.submit(idempotency_key="k", **other)
    assert world.batches() == before
    assert len(world.bundles()) == 1


def test_a_key_belongs_to_its_client():
    world = World()
    ids = {world.submit(["sleep 1"], client_id=c, idempotency_key="k").batch_id for c in "ab"}
    assert len(ids) == 2
    assert [len(world.batches(c)) for c in "ab"] == [1, 1]


# --- cut short anywhere ---------------------------------------------------------------------


TASKS = st.lists(st.sampled_from(["note x", "sleep 0", "sleep 900"]), min_size=1, max_size=8)


@given(TASKS, st.dictionaries(st.integers(1, 30), st.booleans(), max_size=12))
def test_cut_short_at_any_call_and_sent_again_until_it_passes_a_batch_is_whole(tasks, at):
    world = World(Outage(at))
    for _ in range(len(at) + 1):
        try:
            batch = world.submit(tasks, idempotency_key="k")
            break
        except TransientError:
            continue
    else:
        pytest.fail("each outage may cost one try only")

    expected = [kind_and_params(task) for task in tasks]
    (recorded,) = world.batches()
    assert batch.batch_id == recorded.batch_id
    assert recorded.total == recorded.enqueued == len(expected)
    assert recorded.closed
    assert recorded.cancelled_at is None

    by_job = {}
    for bundle in world.bundles():
        assert by_job.setdefault(bundle.job_id, bundle) == bundle
    assert set(by_job) == {f"{recorded.batch_id}:{n}" for n in range(recorded.bundles)}
    found = sorted((t for b in by_job.values() for t in b.tasks), key=lambda task: task.index)
    assert [task.index for task in found] == list(range(len(expected)))
    for task, (kind, params) in zip(found, expected, strict=True):
        assert (task.kind, str(task.params)) == (kind, params)


def begun_batch(tasks):
    """A batch as recorded under the key `k`, whose submission ended before a message was sent."""
    world = World(Outage({2: False}))
    with pytest.raises(TransientError):
        world.submit(tasks, idempotency_key="k")
    return world.monitor.batch(keyed_batch_id("alice", "k"))


def test_sent_again_it_is_cut_by_the_estimates_it_was_recorded_with():
    begun = begun_batch(["note a"] * 10)
    # The same batch as a submitter that had learned more would have recorded it.
    world = World()
    learned = replace(
        begun, bundles=2, plan=Plan({"note": 0.25}), borders=borders([range(8), range(2)])
    )
    world.monitor.create_batch(learned)
    batch = world.submit(["note a"] * 10, idempotency_key="k")
    bundles = world.bundles()
    assert [len(bundle.tasks) for bundle in bundles] == [8, 2]
    assert [bundle.job_id for bundle in bundles] == [f"{batch.batch_id}:{n}" for n in range(2)]
    assert indexes(bundles) == list(range(10))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"borders": borders([range(19), range(21)])}, id="as many bundles"),
        pytest.param({"borders": 0}, id="by a version that did not record it"),
    ],
)
def test_a_batch_that_another_version_cut_otherwise_is_not_mixed(change):
    begun = begun_batch(["sleep 100"] * 40)
    world = World()
    world.monitor.create_batch(replace(begun, **change))
    with pytest.raises(Conflict, match=r"another version of Taskfleet.* another idempotency key"):
        world.submit(["sleep 100"] * 40, idempotency_key="k")
    assert world.bundles() == []


def test_sent_again_it_is_cut_for_the_fleet_it_was_recorded_with():
    slots, outage = [160], Outage({2: False})
    world = World(outage, lambda: slots[0])
    with pytest.raises(TransientError):
        world.submit(["note a"] * 128, idempotency_key="k")
    slots[0] = 16
    batch = world.submit(["note a"] * 128, idempotency_key="k")
    bundles = world.bundles()
    assert batch.plan.slots == 160
    assert [bundle.job_id for bundle in bundles] == [f"{batch.batch_id}:{n}" for n in range(128)]
    assert indexes(bundles) == list(range(128))
    other = world.submit(["note a"] * 128, idempotency_key="another")
    assert (other.plan.slots, other.bundles) == (16, 32)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 6))
def test_a_submission_that_nobody_can_send_again_is_cancelled(call, after):
    """The calls are: create the batch, send three bundles, record them as enqueued."""
    world = World(Outage({call: after}))
    with pytest.raises(TransientError):
        world.submit(["note"] * 3)
    nothing_recorded = call == 1 and not after
    assert [b.status for b in world.batches()] == (
        [] if nothing_recorded else [BatchStatus.CANCELLED]
    )


@pytest.mark.parametrize("call", range(1, 6))
def test_a_submission_under_a_key_is_left_to_be_sent_again(call):
    world = World(Outage({call: True}))
    with pytest.raises(TransientError):
        world.submit(["note"] * 3, idempotency_key="k")
    assert [b.status for b in world.batches()] == [BatchStatus.QUEUED]


def test_sending_again_while_workers_are_at_it_keeps_what_they_did():
    world = World(Outage({4: False}))  # the third bundle is not sent
    with pytest.raises(TransientError):
        world.submit(["note"] * 3, idempotency_key="k")
    batch_id = keyed_batch_id("alice", "k")
    world.monitor.start_batch(batch_id, world.clock.now())
    world.monitor.record_progress(batch_id, {0: Tally(1)}, world.clock.now())
    batch = world.submit(["note"] * 3, idempotency_key="k")
    assert batch.status is BatchStatus.RUNNING
    assert world.monitor.batch(batch_id).tally == Tally(1)
    assert Counter(b.job_id for b in world.bundles()) == {
        f"{batch_id}:0": 2,
        f"{batch_id}:1": 2,
        f"{batch_id}:2": 1,
    }


def test_a_message_on_the_queue_is_plain_json():
    world = World()
    batch = world.submit([{"kind": "note", "params": {"text": "naïve \N{GRINNING FACE}"}}])
    (message,) = world.queue.receive(1, wait_s=0, visibility_s=9)
    assert json.loads(message.body) == {
        "v": 1,
        "job_id": f"{batch.batch_id}:0",
        "client_id": "alice",
        "batch_id": batch.batch_id,
        "tasks": [[0, "note", {"text": "naïve \N{GRINNING FACE}"}]],
    }


# --- how long tasks take ----------------------------------------------------------------------


def test_bundles_follow_what_was_learned_of_a_kind_then_its_hint():
    hinted = TaskKind(name="hinted", run=run_nothing, hint_s=0.05)
    registry = Registry([sleep, NOTE, hinted])
    world = World()
    made = submission(registry, world.queue, world.monitor, world.clock)

    def plan(*tasks):
        return made.submit(list(tasks), client_id="alice").plan

    assert plan("note", "hinted", "sleep 1") == Plan({"hinted": 0.05})
    world.monitor.learn({"note": Sample(4, 2.0, 1.0), "hinted": Sample(1, 3.0, 9.0)})
    assert plan("note", "hinted") == Plan({"note": 0.5, "hinted": 3.0})


def test_bundles_follow_what_was_learned_of_a_function_and_not_of_its_kind():
    calls = TaskKind(name="call", run=run_nothing, hint_s=0.5, pace=lambda params: params)
    world = World()
    made = submission(Registry([calls]), world.queue, world.monitor, world.clock)
    quick, slow = Sample(1_000, 0.1, 0.00001), Sample(1, 100.0, 10_000.0)
    world.monitor.learn({"call": slow, "call:f": quick, "call:g": slow})
    plan = made.submit(["call f", "call g", "call new"], client_id="alice").plan
    assert plan.estimates == {"call:f": pytest.approx(1e-4), "call:g": 100.0, "call:new": 0.5}
    for function, messages in (("f", 1), ("g", 40)):
        batch = made.submit([f"call {function}"] * 40, client_id="alice")
        assert batch.bundles == messages


@pytest.mark.parametrize(
    ("tasks", "slots", "bundles"),
    [
        (["sleep 0"] * 4_000, None, 2),
        (["sleep 1000"] * 8, None, 4),
        (["sleep 1000"] * 320, None, 160),
        (["sleep 100"] * 3_200, None, 160),
        (["note"] * 32, None, 32),
        (["note"] * 400, 16, 50),
        (["note"] * 400, 160, 200),
        (["note"] * 400, 100_000, 400),
        (["note", *["sleep 100"] * 320], 16, 33),
    ],
)
def test_slots_are_read_only_where_durations_are_unknown_and_each_gets_a_bundle(
    tasks, slots, bundles
):
    """`slots` is None where the number of slots must not be asked for."""

    def seen_slots():
        assert slots is not None
        return slots

    assert World(slots=seen_slots).submit(tasks).bundles == bundles
