import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from taskfleet.batch import BatchStatus, keyed_batch_id
from taskfleet.bundle import Plan, Tally, decode_bundle
from taskfleet.errors import Conflict, InvalidTask, TransientError
from taskfleet.memory import ManualClock, MemoryMonitor, MemoryQueue
from taskfleet.pace import Sample
from taskfleet.registry import Registry, TaskKind, sleep, split
from taskfleet.submit import MAX_TASKS, Part, Submission


def run_nothing(_params, _context):
    return None


NOTE = TaskKind(name="note", run=run_nothing)  # of unknown duration: one task a bundle
REGISTRY = Registry([sleep, NOTE])


class Outage:
    """Wraps ports. `at` maps the number of a call, from 1 over all of them, to whether it took
    effect before it raised TransientError, as when a reply is lost, or not."""

    def __init__(self, at=None):
        self.calls = 0
        self.at = at or {}

    def wrap(self, port):
        return _Flaky(port, self)

    def around(self, call, *args, **kwargs):
        self.calls += 1
        took_effect = self.at.get(self.calls)
        if took_effect is False:
            raise TransientError("no answer")
        answer = call(*args, **kwargs)
        if took_effect:
            raise TransientError("the answer was lost")
        return answer


class _Flaky:
    def __init__(self, port, outage):
        self._port, self._outage = port, outage

    def __getattr__(self, name):
        method = getattr(self._port, name)
        if name == "paces":  # asked before anything is done, and not worth a number
            return method
        return lambda *args, **kwargs: self._outage.around(method, *args, **kwargs)


class OneByOne:
    """A queue whose sending may be cut short between two messages, as calls of ten are."""

    def __init__(self, queue, outage):
        self._queue, self._outage = queue, outage

    def send(self, messages):
        for message in messages:
            self._outage.around(self._queue.send, [message])


class World:
    def __init__(self, outage=None):
        outage = outage or Outage()
        self.clock = ManualClock()
        self.queue = MemoryQueue(self.clock)
        self.monitor = MemoryMonitor(self.clock)
        draws = iter(range(1000))
        self.submission = Submission(
            REGISTRY,
            OneByOne(self.queue, outage),
            outage.wrap(self.monitor),
            self.clock,
            lambda count: next(draws).to_bytes(count),
        )

    def submit(self, tasks, client_id="alice", **options):
        return self.submission.submit(tasks, client_id=client_id, **options)

    def batches(self, client_id="alice"):
        return self.monitor.batches(client_id, limit=100, cursor=None).items

    def bundles(self):
        """Every bundle on the queue, in order, duplicates too."""
        found = []
        while messages := self.queue.receive(10, wait_s=0, visibility_s=9):
            found += [decode_bundle(message.body, split) for message in messages]
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
    assert world.monitor.batch(batch.batch_id).parts_enqueued == 1
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
    first = [decode_bundle(m.body, split) for m in world.queue.receive(2, wait_s=0, visibility_s=9)]
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
    "again",
    [
        {"tasks": [{"kind": "note", "params": {"a": 1, "b": 2}}]},
        {"tasks": [{"params": {"b": 2, "a": 1}, "kind": "note"}]},
    ],
)
def test_the_same_payload_under_the_same_key_is_the_same_batch(again):
    world = World()
    first = world.submit([{"kind": "note", "params": {"a": 1, "b": 2}}], idempotency_key="k")
    assert len(world.bundles()) == 1
    world.clock.sleep(60)
    second = world.submit(again["tasks"], idempotency_key="k")
    assert (second.batch_id, second.created_at) == (first.batch_id, first.created_at)
    assert world.bundles() == []
    assert len(world.batches()) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"tasks": ["sleep 2"]},
        {"tasks": ["sleep 1", "sleep 1"]},
        {"tasks": ["sleep 1"], "name": "named"},
        {"tasks": ["sleep 1"], "part": Part(0, last=False)},
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


# --- parts ----------------------------------------------------------------------------------


def test_parts_grow_one_batch_with_running_indexes_and_job_ids():
    world = World()
    for number, size in enumerate([3, 2, 4]):
        batch = world.submit(
            ["note"] * size, idempotency_key="k", part=Part(number, last=number == 2)
        )
    assert (batch.total, batch.bundles, batch.closed) == (9, 9, True)
    bundles = world.bundles()
    assert indexes(bundles) == list(range(9))
    assert [bundle.job_id for bundle in bundles] == [f"{batch.batch_id}:{n}" for n in range(9)]


def send_parts(world, *parts):
    for number, last in parts:
        world.submit([f"note {number}"], idempotency_key="k", part=Part(number, last))


@pytest.mark.parametrize(
    ("before", "part", "reason"),
    [
        ([], (1, True), "send part 0 before it"),
        ([(0, False)], (2, True), "send part 1 before part 2"),
        ([(0, True)], (1, True), "closed with part 0"),
        ([(0, False), (1, True)], (2, False), "closed with part 1"),
        ([(0, False), (1, True)], (1, False), "another payload"),
    ],
)
def test_a_part_out_of_turn_is_a_conflict_and_changes_nothing(before, part, reason):
    world = World()
    send_parts(world, *before)
    batches = world.batches()
    with pytest.raises(Conflict, match=reason):
        send_parts(world, part)
    assert world.batches() == batches
    assert len(world.bundles()) == len(before)


def test_a_part_waits_for_an_earlier_one_that_never_reached_the_queue():
    world = World(Outage({2: False}))  # the recording passes, the sending does not
    with pytest.raises(TransientError):
        send_parts(world, (0, False))
    with pytest.raises(Conflict, match="send part 0 before part 1"):
        send_parts(world, (1, True))
    send_parts(world, (0, False), (1, True))
    assert indexes(world.bundles()) == [0, 1]


def test_an_earlier_part_sent_again_does_nothing():
    world = World()
    send_parts(world, (0, False), (1, False))
    assert len(world.bundles()) == 2
    send_parts(world, (0, False), (1, False), (2, True))
    assert indexes(world.bundles()) == [2]
    assert world.batches()[0].total == 3


def test_no_part_joins_a_cancelled_batch():
    world = World()
    send_parts(world, (0, False))
    world.monitor.cancel_batch(keyed_batch_id("alice", "k"), world.clock.now())
    with pytest.raises(Conflict, match="was cancelled"):
        send_parts(world, (1, True))
    assert world.batches()[0].total == 1


@pytest.mark.parametrize("part", [Part(0, last=False), Part(1, last=True)])
def test_parts_need_a_key_to_share(part):
    with pytest.raises(Conflict, match="needs an idempotency_key"):
        World().submit(["sleep 1"], part=part)


def test_parts_are_cut_by_the_estimates_their_batch_began_with():
    world = World()
    parts = [["note a"] * 5, ["note b"] * 5]
    world.submit(parts[0], idempotency_key="k", part=Part(0, last=False))
    begun = world.monitor.batch(keyed_batch_id("alice", "k"))
    # The same batch as a submitter that had learned more would have begun it, cut short.
    world = World()
    world.monitor.create_batch(
        replace(begun, bundles=2, plan=Plan({"note": 0.0625}), parts_enqueued=0)
    )
    world.submit(parts[0], idempotency_key="k", part=Part(0, last=False))
    batch = world.submit(parts[1], idempotency_key="k", part=Part(1, last=True))
    bundles = world.bundles()
    assert [len(bundle.tasks) for bundle in bundles] == [4, 1, 4, 1]
    assert [bundle.job_id for bundle in bundles] == [f"{batch.batch_id}:{n}" for n in range(4)]
    assert indexes(bundles) == list(range(10))
    assert batch.bundles == 4


# --- cut short anywhere ---------------------------------------------------------------------


TASKS = st.lists(st.sampled_from(["note x", "sleep 0", "sleep 900"]), min_size=1, max_size=8)


@given(
    st.lists(TASKS, min_size=1, max_size=4),
    st.dictionaries(st.integers(1, 60), st.booleans(), max_size=12),
)
def test_cut_short_at_any_call_and_sent_again_until_it_passes_a_batch_is_whole(parts, at):
    world = World(Outage(at))
    ids = set()
    for number, tasks in enumerate(parts):
        part = Part(number, last=number == len(parts) - 1)
        for _ in range(len(at) + 1):
            try:
                batch = world.submit(tasks, idempotency_key="k", part=part)
                break
            except TransientError:
                continue
        else:
            pytest.fail("each outage may cost one try only")
        ids.add(batch.batch_id)

    expected = [split(task) for tasks in parts for task in tasks]
    (recorded,) = world.batches()
    assert ids == {recorded.batch_id}
    assert recorded.total == len(expected)
    assert recorded.closed
    assert recorded.cancelled_at is None
    assert recorded.parts_enqueued == len(recorded.part_hashes) == len(parts)

    by_job = {}
    for bundle in world.bundles():
        assert by_job.setdefault(bundle.job_id, bundle) == bundle
    assert set(by_job) == {f"{recorded.batch_id}:{n}" for n in range(recorded.bundles)}
    tasks = sorted((t for b in by_job.values() for t in b.tasks), key=lambda task: task.index)
    assert [task.index for task in tasks] == list(range(len(expected)))
    for task, (kind, params) in zip(tasks, expected, strict=True):
        assert (task.kind, str(task.params)) == (kind, params)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("call", range(1, 6))
def test_a_submission_that_nobody_can_send_again_is_cancelled(call, after):
    """Calls: create the batch, send three bundles, mark them enqueued."""
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


def test_what_stands_on_the_queue_is_plain_json():
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
    submission = Submission(registry, world.queue, world.monitor, world.clock, random.randbytes)

    def plan(*tasks):
        return submission.submit(list(tasks), client_id="alice").plan

    assert plan("note", "hinted", "sleep 1") == Plan({"hinted": 0.05})
    world.monitor.learn({"note": Sample(4, 2.0, 1.0), "hinted": Sample(1, 3.0, 9.0)})
    assert plan("note", "hinted") == Plan({"note": 0.5, "hinted": 3.0})
