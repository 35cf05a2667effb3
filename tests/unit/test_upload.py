"""Uploads: recorded at once, checked whole, enqueued part by part, with no task lost or doubled
when a run ends early, fails, or is repeated."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from taskfleet.batch import BatchRecord, BatchStatus, Mark
from taskfleet.bundle import Bundle, Plan
from taskfleet.errors import Conflict, NotFound, TransientError, Undecodable
from taskfleet.memory import ManualClock, MemoryMonitor, MemoryQueue, MemoryStore
from taskfleet.pace import Sample
from taskfleet.ports import LINE_MAX_BYTES
from taskfleet.registry import (
    TASK_MAX_BYTES,
    Registry,
    TaskKind,
    sleep,
)
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.expand import RESERVE_S, Expansion
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.upload import Uploads
from taskfleet.wire.queues import (
    decode_bundle,
    decode_upload,
)
from taskfleet.wire.taskfile import (
    kind_and_params,
)
from tests.support.outage import OneByOne, Outage

NOTE = TaskKind(name="note", run=lambda _params, _context: None)  # travels singly
REGISTRY = Registry([sleep, NOTE])


class World:
    """`late` has the answers to whether the time is nearly up; after the last one it never is."""

    def __init__(self, outage: Outage | None = None, **sizes: int) -> None:
        self.outage = outage or Outage()
        self.clock = ManualClock()
        self.tasks = MemoryQueue(self.clock)
        self.upload_queue = MemoryQueue(self.clock)
        self.monitor = MemoryMonitor(self.clock)
        self.store = MemoryStore()
        flaky = self.outage.wrap(self.monitor)
        planner = Planner(REGISTRY, flaky)
        enqueuer = Enqueuer(OneByOne(self.tasks, self.outage), flaky)  # type: ignore[arg-type]
        flaky_uploads = self.outage.wrap(self.upload_queue)
        self.uploads = Uploads(
            planner,
            self.store,
            flaky_uploads,
            flaky,
            self.clock,
            random.Random(1).randbytes,
            max_bytes=1000,
            expires_s=60,
        )
        self.expansion = Expansion(
            REGISTRY,
            planner,
            enqueuer,
            self.store,
            flaky_uploads,
            flaky,
            self.clock,
            **sizes,
        )
        self.late: list[bool] = []
        self.forgets = 0

    def upload(self, data: bytes, client_id: str = "alice") -> str:
        form = self.uploads.form(client_id)
        self.store.put(form.fields["key"], data, content_type="text/plain")
        return form.upload_id

    def submit(self, data: bytes, **options: Any) -> BatchRecord:
        return self.uploads.submit(self.upload(data), client_id="alice", **options)

    def run(self) -> int:
        """Call the function as Lambda does until the queue is empty. Returns the number of runs."""
        runs = 0
        while messages := self.upload_queue.receive(1, wait_s=0, visibility_s=30):
            runs += 1
            assert runs < 200
            if runs == self.forgets:
                self._forget_offsets()
            try:
                self.expansion.expand(decode_upload(messages[0].body).batch_id, self._time_left_s)
            except TransientError:
                self.clock.sleep(31)
            else:
                self.upload_queue.delete(messages)
        return runs

    def _forget_offsets(self) -> None:
        batch = self.batch()
        if batch.upload is not None:
            old = replace(batch.upload, offset=0, handed=Mark())
            self.monitor._batches[batch.batch_id] = replace(batch, upload=old)

    def _time_left_s(self) -> float:
        return RESERVE_S - 1 if self.late and self.late.pop(0) else RESERVE_S + 1

    def batch(self) -> BatchRecord:
        (batch,) = self.monitor.batches("alice", limit=10, cursor=None).items
        return batch

    def bundles(self) -> list[Bundle]:
        found = []
        while messages := self.tasks.receive(10, wait_s=0, visibility_s=9):
            found += [decode_bundle(message.body) for message in messages]
            self.tasks.delete(messages)
        return found


def assert_marks_are_true(world: World, data: bytes) -> None:
    """Assert that each recorded place is one of the file, with its lines, tasks and bytes."""
    upload = world.batch().upload
    assert upload is not None
    for mark in (Mark(upload.lines, upload.tasks, upload.offset), upload.handed):
        before = data.splitlines(keepends=True)[: mark.lines]
        assert mark.offset == sum(map(len, before))
        assert mark.tasks == sum(split_line(line.decode().strip()) is not None for line in before)
    assert upload.handed.tasks <= world.batch().enqueued


def assert_whole(world: World, expected: list[tuple[str, Any]]) -> None:
    """Assert that the batch is closed and all its tasks are on the queue, each bundle always with
    the same content."""
    batch = world.batch()
    assert (batch.total, batch.enqueued, batch.closed) == (len(expected), len(expected), True)
    assert (batch.cancelled_at, batch.error) == (None, None)
    by_job: dict[str, Bundle] = {}
    for bundle in world.bundles():
        assert by_job.setdefault(bundle.job_id, bundle) == bundle
    assert set(by_job) == {f"{batch.batch_id}:{n}" for n in range(batch.bundles)}
    tasks = [task for n in range(batch.bundles) for task in by_job[f"{batch.batch_id}:{n}"].tasks]
    assert [task.index for task in tasks] == list(range(len(expected)))
    assert [(task.kind, str(task.params)) for task in tasks] == expected


# --- taken in ---------------------------------------------------------------------------------


def test_a_batch_stands_at_once_open_and_empty() -> None:
    world = World()
    world.monitor.learn({"note": Sample(4, 2.0, 1.0)})
    batch = world.submit(b"sleep 1\n" * 1000, name="big")
    assert (batch.name, batch.total, batch.closed, batch.status) == ("big", 0, False, "QUEUED")
    assert batch.plan == Plan({"note": 0.5})  # of whatever may be in the file
    assert world.tasks.depth().backlog == 0
    assert world.upload_queue.depth().backlog == 1


@pytest.mark.parametrize("upload_id", ["", "x", "../../etc", "0" * 26, "A" * 26, "0" * 26 + "\n"])
def test_a_malformed_upload_id_is_not_found(upload_id: str) -> None:
    with pytest.raises(NotFound, match="POST /uploads"):
        World().uploads.submit(upload_id, client_id="alice")


def test_an_upload_without_a_file_is_not_found() -> None:
    world = World()
    with pytest.raises(NotFound, match="send the file"):
        world.uploads.submit(world.uploads.form("alice").upload_id, client_id="alice")


def test_another_clients_upload_is_not_found() -> None:
    world = World()
    with pytest.raises(NotFound):
        world.uploads.submit(world.upload(b"sleep 1"), client_id="bob")


def test_once_it_is_being_read_sending_it_again_starts_no_second_reading() -> None:
    world = World(time_check_lines=1)
    upload_id = world.upload(b"sleep 1\nsleep 2")
    world.uploads.submit(upload_id, client_id="alice")
    world.run()
    world.uploads.submit(upload_id, client_id="alice")
    assert world.upload_queue.depth().backlog == 0


def test_the_same_key_for_another_name_is_a_conflict() -> None:
    world = World()
    upload_id = world.upload(b"sleep 1")
    world.uploads.submit(upload_id, client_id="alice", name="one")
    with pytest.raises(Conflict):
        world.uploads.submit(upload_id, client_id="alice", name="two")


# --- read -------------------------------------------------------------------------------------


def test_parts_grow_the_batch_with_running_indexes_and_job_ids() -> None:
    world = World(part_tasks=3)
    world.submit(b"\n".join(b"note %d" % n for n in range(8)))
    assert world.run() == 1
    assert_whole(world, [("note", str(n)) for n in range(8)])
    assert world.batch().upload.tasks == 8  # type: ignore[union-attr]


def test_a_part_is_bounded_in_bytes_too() -> None:
    world = World(part_bytes=100)
    world.submit(b"\n".join(b"note " + b"%d" % n * 40 for n in range(9)))
    world.late = [True] * 100
    assert world.run() == 3
    assert_whole(world, [("note", f"{n}" * 40) for n in range(9)])


def test_lines_are_those_of_a_task_file() -> None:
    world = World(part_tasks=2)
    data = (
        '\ufeff# comment\r\n\r\nsleep 1\r\n  note a b \n\xa0# comment\n\x1c\n{"kind": "note"}\n'
        "\xa0note \xfc\n#\n\n"
    )
    world.submit(data.encode())
    world.run()
    assert_whole(world, [("sleep", "1"), ("note", "a b"), ("note", "None"), ("note", "\xfc")])


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "there is no task in the file"),
        (b"\n# sleep 1\n", "there is no task in the file"),
        (b"sleep 1\n\nnap 1\nnap 2", "line 3: unknown kind 'nap'; known: note, sleep"),
        (b"sleep 1\n" * 20 + b"sleep -1", "line 21: sleep -1 is negative"),
        (b"sleep 1\n\xff", "line 2: not UTF-8: byte 0 cannot be read"),
        (b'{"kind": "note"\n', "line 1: malformed JSON: Expecting ',' delimiter"),
        (b'note 1\n{"kind": "note", "x": 1}', "line 2: has an unknown field 'x'"),
        (b"note 1\nnote " + b"x" * LINE_MAX_BYTES, f"line 2: over the cap of {LINE_MAX_BYTES}"),
        (b"note 1\nnote " + b"x" * TASK_MAX_BYTES, "line 2: has 250013 bytes of JSON, over"),
        (b"note " + b"\xc3\xbc" * 400 + b"\nn" + b"x" * 900, "line 2: unknown kind 'nxxx"),
    ],
    ids=lambda value: repr(value)[:24],
)
@pytest.mark.parametrize("late", [False, True])
def test_a_file_with_a_fault_runs_nothing_and_ends_with_its_line(
    data: bytes, error: str, late: bool
) -> None:
    world = World(part_tasks=2, time_check_lines=2)
    world.submit(data)
    world.late = [late] * 100
    world.run()
    batch = world.batch()
    assert batch.error is not None
    assert batch.error.startswith(error)
    assert len(batch.error) <= 500
    assert (batch.status, batch.total, batch.finished) == (BatchStatus.CANCELLED, 0, True)
    assert batch.finished_at == batch.cancelled_at
    assert world.tasks.depth().backlog == world.upload_queue.depth().backlog == 0


def test_checking_goes_on_where_the_time_was_up() -> None:
    world = World(time_check_lines=10)
    world.submit(b"sleep 0\n# \n" * 25)
    world.late = [True] * 3
    assert world.run() == 4
    assert_whole(world, [("sleep", "0")] * 25)


def test_handing_in_goes_on_after_the_last_whole_part() -> None:
    world = World(part_tasks=4)
    world.submit(b"note x\n\n" * 18)
    world.late = [True] * 100
    assert world.run() == 5
    assert_whole(world, [("note", "x")] * 18)


def test_every_run_goes_forward_however_late_it_starts() -> None:
    world = World(part_tasks=1, time_check_lines=1)
    world.submit(b"note x\n" * 5)
    world.late = [True] * 1000
    assert world.run() == 5 + 5
    assert_whole(world, [("note", "x")] * 5)


def test_a_file_that_makes_too_many_bundles_is_refused_where_they_end() -> None:
    world = World(part_tasks=4, max_bundles=10)
    world.submit(b"note x\n" * 13)
    world.run()
    assert world.batch().error == (
        "the file makes more than 10 bundles, the most of one batch; "
        "its first 8 tasks were handed in; split the file"
    )
    assert world.batch().total == world.batch().enqueued == 8
    assert world.batch().cancelled_at is not None


def test_another_file_sent_in_its_place_is_not_read() -> None:
    world = World()
    upload_id = world.upload(b"sleep 1\n")
    batch = world.uploads.submit(upload_id, client_id="alice")
    assert batch.upload is not None
    world.store.put(batch.upload.key, b"sleep 2\n", content_type="text/plain")
    world.run()
    assert world.batch().error == "the file is gone, or another was sent in its place"


def test_a_batch_that_is_cancelled_gets_no_further_part() -> None:
    world = World(part_tasks=2)
    batch = world.submit(b"note x\n" * 9)
    world.late = [True, True]
    (message,) = world.upload_queue.receive(1, wait_s=0, visibility_s=30)
    for _ in range(2):
        world.expansion.expand(decode_upload(message.body).batch_id, world._time_left_s)
    world.monitor.cancel_batch(batch.batch_id, world.clock.now())
    world.clock.sleep(31)
    world.run()
    cancelled = world.batch()
    assert (cancelled.total, cancelled.enqueued, cancelled.error) == (4, 4, None)
    assert len(world.bundles()) == 4


def test_what_was_recorded_of_a_cancelled_batch_is_still_enqueued() -> None:
    """Workers then report its tasks as cancelled; otherwise the batch would never end."""
    # Calls: create, send; read, record upload, add part, send
    world = World(Outage({6: False}), part_tasks=2)
    batch = world.submit(b"note x\n" * 9)
    (message,) = world.upload_queue.receive(1, wait_s=0, visibility_s=30)
    with pytest.raises(TransientError):
        world.expansion.expand(decode_upload(message.body).batch_id, world._time_left_s)
    world.monitor.cancel_batch(batch.batch_id, world.clock.now())
    world.clock.sleep(31)
    world.run()
    assert (world.batch().total, world.batch().enqueued) == (2, 2)
    assert [bundle.job_id for bundle in world.bundles()] == [
        f"{batch.batch_id}:{n}" for n in (0, 1)
    ]


def test_of_two_runs_at_once_the_one_that_is_behind_stops() -> None:
    world = World(part_tasks=2)
    batch = world.submit(b"note x\n" * 8)
    behind = _Stale(world.monitor, batch)
    late = Expansion(
        REGISTRY,
        Planner(REGISTRY, world.monitor),
        Enqueuer(world.tasks, world.monitor),
        world.store,
        world.upload_queue,
        behind,
        world.clock,
        part_tasks=2,  # type: ignore[arg-type]
    )
    world.run()
    late.expand(batch.batch_id, lambda: RESERVE_S + 1)
    assert world.upload_queue.depth().backlog == 0
    assert_whole(world, [("note", "x")] * 8)


class _Stale:
    """A monitor whose `batch` returns an outdated record."""

    def __init__(self, monitor: MemoryMonitor, batch: BatchRecord) -> None:
        self._monitor = monitor
        self._batch = batch

    def batch(self, _batch_id: str) -> BatchRecord:
        return self._batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._monitor, name)


LINES = st.lists(
    st.sampled_from(["note x", "sleep 0", "sleep 900", "", "# no", '{"kind": "note"}']), max_size=14
)


@given(
    LINES.filter(lambda lines: any(split_line(line) for line in lines)),
    st.dictionaries(st.integers(3, 80), st.booleans(), max_size=12),
    st.lists(st.booleans(), max_size=20),
    st.integers(1, 5),
    st.integers(10, 60),
    st.sampled_from(["\n", "\r\n"]),
    st.integers(0, 8),
)
def test_cut_short_at_any_call_and_late_at_any_time_a_file_is_handed_in_whole(
    lines: list[str],
    at: dict[int, bool],
    late: list[bool],
    part_tasks: int,
    part_bytes: int,
    end: str,
    forgets: int,
) -> None:
    """`forgets` is the number of the run before which the record becomes one of the version that
    recorded no offsets."""
    world = World(Outage(at), part_tasks=part_tasks, part_bytes=part_bytes, time_check_lines=2)
    data = end.join(lines).encode()
    world.submit(data)
    world.late = late
    world.forgets = forgets
    world.run()
    assert_whole(world, [task for line in lines if (task := split_line(line))])
    if not forgets:
        assert_marks_are_true(world, data)


@given(
    LINES,
    st.integers(0, 14),
    st.dictionaries(st.integers(3, 60), st.booleans(), max_size=8),
    st.lists(st.booleans(), max_size=20),
)
def test_whatever_happens_nothing_of_a_file_with_a_fault_is_enqueued(
    lines: list[str], place: int, at: dict[int, bool], late: list[bool]
) -> None:
    world = World(Outage(at), part_tasks=2, time_check_lines=2)
    lines = [*lines[:place], "nap 1", *lines[place:]]
    world.submit("\n".join(lines).encode())
    world.late = late
    world.run()
    batch = world.batch()
    assert batch.error == f"line {lines.index('nap 1') + 1}: unknown kind 'nap'; known: note, sleep"
    assert (batch.total, batch.finished) == (0, True)
    assert world.tasks.depth().backlog == 0


def split_line(line: str) -> tuple[str, str] | None:
    """Returns the kind and the params, as text, of a line; None when the line is skipped."""
    if not line or line.startswith("#"):
        return None
    kind, params = kind_and_params(json.loads(line) if line.startswith("{") else line)
    return kind, str(params)


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"v": 1}', '{"v": 2, "batch_id": "b"}'])
def test_a_message_of_another_form_is_undecodable(body: str) -> None:
    with pytest.raises(Undecodable):
        decode_upload(body)


def test_memory_does_not_grow_with_the_file() -> None:
    """The lines are distinct, so that the cache of lines does not help."""
    import tracemalloc

    def peak(tasks: int) -> int:
        world = World(part_tasks=500)
        world.tasks.send = lambda messages: None  # type: ignore[method-assign]
        world.submit(b"\n".join(b"sleep %d" % n for n in range(tasks)))
        tracemalloc.start()
        world.run()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert world.batch().enqueued == tasks
        return found

    assert peak(20_000) < peak(2_000) + 3_000_000
