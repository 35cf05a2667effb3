"""Files that keep their reader busy: each ends after a number of reads that its size bounds, and
holds up no other client's file (D6)."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from taskfleet.batch import BatchRecord
from taskfleet.memory import ManualClock, MemoryMonitor, MemoryQueue, MemoryStore
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.expand import Expansion
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.upload import Uploads
from taskfleet.wire.queues import decode_bundle, decode_upload

LINE_S = 1e-6
"""Seconds that reading a line takes here. S3 and Python are not faster."""
RUN_S = 300.0
"""Seconds that Lambda lets a reader run."""


class SlowStore(MemoryStore):
    """A store from which each line takes `LINE_S`, in time that passes on the test's clock."""

    def __init__(self, clock: ManualClock, line_s: float) -> None:
        super().__init__()
        self._clock = clock
        self._line_s = line_s
        self.read = 0

    def lines(self, key: str, **where: object) -> Iterator[bytes]:
        for line in super().lines(key, **where):  # type: ignore[arg-type]
            self.read += 1
            self._clock.set(self._clock.now() + self._line_s)
            yield line


class World:
    def __init__(self, line_s: float = LINE_S) -> None:
        self.clock = ManualClock()
        self.tasks = MemoryQueue(self.clock)
        self.upload_queue = MemoryQueue(self.clock)
        self.monitor = MemoryMonitor(self.clock)
        self.store = SlowStore(self.clock, line_s)
        registry = Registry([sleep])
        planner = Planner(registry, self.monitor)
        self.uploads = Uploads(
            planner,
            self.store,
            self.upload_queue,
            self.monitor,
            self.clock,
            random.Random(1).randbytes,
            max_bytes=1_000_000_000,
            expires_s=60,
        )
        self.expansion = Expansion(
            registry,
            planner,
            Enqueuer(self.tasks, self.monitor),
            self.store,
            self.upload_queue,
            self.monitor,
            self.clock,
        )
        self.runs = 0

    def submit(self, data: bytes, client_id: str = "mallory") -> str:
        form = self.uploads.form(client_id)
        self.store.put(form.fields["key"], data, content_type="text/plain")
        return self.uploads.submit(form.upload_id, client_id=client_id).batch_id

    def run_once(self) -> bool:
        """Run the reader on one message as Lambda does. Returns False when there is none."""
        messages = self.upload_queue.receive(1, wait_s=0, visibility_s=1_800)
        if not messages:
            return False
        ends_at = self.clock.now() + RUN_S
        self.runs += 1
        self.expansion.expand(
            decode_upload(messages[0].body).batch_id, lambda: ends_at - self.clock.now()
        )
        self.upload_queue.delete(messages)
        return True

    def run(self, at_most: int) -> None:
        while self.run_once():
            assert self.runs <= at_most, f"not at its end after {at_most} runs"

    def batch(self, batch_id: str) -> BatchRecord:
        batch = self.monitor.batch(batch_id)
        assert batch is not None
        return batch


def test_a_file_of_newlines_is_refused_at_its_first_line_too_many() -> None:
    world = World()
    batch_id = world.submit(b"\n" * 1_200_000)
    world.run(at_most=3)
    error = world.batch(batch_id).error
    assert error is not None
    assert error.startswith("line 1000001: 1000001 lines so far hold no task; a file may have")
    assert world.store.read <= 1_000_001


@pytest.mark.parametrize("data", [b"sleep 0\n" * 6_000 + b"\n" * 20_000 + b"sleep 1\n"])
def test_a_file_too_long_for_one_run_is_read_once_for_each_purpose(data: bytes) -> None:
    """Each run lasts long enough for 10,000 lines. Read from its start every time, as before, the
    file never ended: its last task lies further than one run gets."""
    world = World(line_s=RUN_S / 10_000)
    batch_id = world.submit(data)
    world.run(at_most=40)
    batch = world.batch(batch_id)
    assert (batch.total, batch.enqueued, batch.closed, batch.error) == (6_001, 6_001, True, None)
    lines = data.count(b"\n")
    assert world.store.read <= 2 * lines + world.runs


def test_a_line_is_named_by_its_number_however_many_runs_lie_before_it() -> None:
    world = World(line_s=RUN_S / 10_000)
    batch_id = world.submit(b"sleep 0\r\n# \xc3\xbc\n" * 15_000 + b"sleep -1\n")
    world.run(at_most=40)
    assert world.runs > 3
    assert world.batch(batch_id).error == "line 30001: sleep -1 is negative"


def test_a_comment_for_each_task_and_a_long_head_are_no_offence() -> None:
    world = World(line_s=0)
    batch_id = world.submit(b"#\n" * 100_000 + b"# what\n\nsleep 0\n" * 5_000)
    world.run(at_most=3)
    assert (world.batch(batch_id).total, world.batch(batch_id).error) == (5_000, None)


def test_idle_lines_past_those_that_tasks_allow_are_refused() -> None:
    world = World(line_s=0)
    world.expansion._idle_lines_max = 100
    fair = world.submit(b"sleep 0\n" * 50 + b"\n" * 250 + b"sleep 0\n")
    unfair = world.submit(b"sleep 0\n" * 50 + b"\n" * 251 + b"sleep 0\n")
    world.run(at_most=3)
    assert world.batch(fair).total == 51
    assert world.batch(unfair).error is not None
    assert world.batch(unfair).error.startswith("line 301: 251 lines")  # type: ignore[union-attr]


# --- fairness ---------------------------------------------------------------------------------


def test_a_small_file_waits_for_one_slice_of_the_large_ones_before_it() -> None:
    """With one reader for all, where Lambda has five. A run lasts 20 s and a look at the clock."""
    world = World(line_s=RUN_S / 1_000_000)
    for n in range(5):
        world.submit(b"sleep 0\n" * 150_000, f"mallory-{n}")
    assert world.run_once()
    began = world.clock.now()
    small = world.submit(b"sleep 1\n" * 3, "alice")
    while not world.batch(small).closed:
        assert world.run_once()
    assert world.runs <= 7
    assert world.clock.now() - began <= 6 * 25
    big = world.monitor.batches("mallory-0", limit=1, cursor=None).items[0]
    assert not big.closed
    world.run(at_most=200)
    for n in range(5):
        (big,) = world.monitor.batches(f"mallory-{n}", limit=1, cursor=None).items
        assert (big.total, big.closed) == (150_000, True)


def test_many_files_of_one_client_are_one_turn_beside_another_client() -> None:
    world = World(line_s=RUN_S / 1_000_000)
    for _ in range(8):
        world.submit(b"sleep 0\n" * 100_000)
    assert world.run_once()
    small = world.submit(b"sleep 1\n" * 3, "alice")
    while not world.batch(small).closed:
        assert world.run_once()
    assert world.runs <= 3


def test_a_large_file_that_is_put_back_stands_behind_a_small_one() -> None:
    world = World(line_s=RUN_S / 1_000_000)
    big = world.submit(b"sleep 0\n" * 150_000)
    small = world.submit(b"sleep 1\n", "alice")
    assert world.run_once()
    assert not world.batch(big).closed
    assert world.run_once()
    assert world.batch(small).closed
    (message,) = world.tasks.receive(1, wait_s=0, visibility_s=9)
    assert decode_bundle(message.body).batch_id == small
