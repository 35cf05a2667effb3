"""A file that is deleted or replaced while it is read: what was recorded of its batch still gets
results, so that the batch ends, with total = succeeded + failed + cancelled."""

from __future__ import annotations

import random
from typing import Any

import pytest

from taskfleet.batch import BatchRecord
from taskfleet.errors import TransientError
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.expand import RESERVE_S, Expansion
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.upload import Uploads
from taskfleet.wire.queues import decode_upload
from tests.support.outage import OneByOne, Outage
from tests.support.worker import Cloud, HandWorker, run_nothing, thread_kind

NOTE = thread_kind("note", run_nothing)  # each travels in a bundle of its own
REGISTRY = Registry([sleep, NOTE])
DATA = b"note x\n" * 9
CALLS = 40
"""More calls than reading the file and handing it in takes, in parts of 3."""


class World:
    def __init__(self, outage: Outage) -> None:
        self.cloud = Cloud()
        self.outage = outage
        cloud, monitor = self.cloud, outage.wrap(self.cloud.monitor)
        self.uploads = Uploads(
            Planner(REGISTRY, monitor),
            cloud.store,
            cloud.uploads,
            cloud.monitor,
            cloud.clock,
            random.Random(1).randbytes,
            max_bytes=1_000,
            expires_s=60,
        )
        form = self.uploads.form("alice")
        self.key = form.fields["key"]
        cloud.store.put(self.key, DATA, content_type="text/plain")
        self.batch_id = self.uploads.submit(form.upload_id, client_id="alice").batch_id

    def expand(self, registry: Registry = REGISTRY) -> None:
        """Run the expander until its queue is empty or it is interrupted."""
        cloud, monitor = self.cloud, self.outage.wrap(self.cloud.monitor)
        tasks: Any = OneByOne(cloud.tasks, self.outage)
        expansion = Expansion(
            registry,
            Planner(registry, monitor),
            Enqueuer(tasks, monitor),
            cloud.store,
            cloud.uploads,
            monitor,
            cloud.clock,
            part_tasks=3,
        )
        while messages := cloud.uploads.receive(1, wait_s=0, visibility_s=30):
            expansion.expand(decode_upload(messages[0].body).batch_id, lambda: RESERVE_S + 1)
            cloud.uploads.delete(messages)

    def work(self, registry: Registry = REGISTRY) -> None:
        worker = HandWorker(self.cloud, registry)
        for _ in range(3):  # a bundle that was sent twice comes again later
            worker.work()
            self.cloud.collect()
            self.cloud.clock.sleep(31)

    def batch(self) -> BatchRecord:
        batch = self.cloud.monitor.batch(self.batch_id)
        assert batch is not None
        return batch


def assert_ended(world: World) -> None:
    batch = world.batch()
    assert (batch.finished, batch.tally.total) == (True, batch.total)
    rows = world.cloud.rows(REGISTRY, world.batch_id)
    assert [row.index for row in rows] == list(range(batch.total))
    assert world.cloud.dead.depth().backlog == 0


@pytest.mark.parametrize("fate", ["deleted", "replaced"])
@pytest.mark.parametrize("works_between", [True, False])
@pytest.mark.parametrize("took_effect", [True, False])
def test_wherever_the_reader_stops_before_the_file_is_gone_the_batch_ends(
    fate: str, works_between: bool, took_effect: bool
) -> None:
    interrupted = 0
    for call in range(1, CALLS):
        world = World(Outage({call: took_effect}))
        try:
            world.expand()
        except TransientError:
            interrupted += 1
        if works_between:
            world.work()
        if fate == "deleted":
            world.cloud.store.delete(world.key)
        else:
            world.cloud.store.put(world.key, b"note y\n" * 9, content_type="text/plain")
        world.cloud.clock.sleep(31)
        world.expand()
        world.work()
        assert_ended(world)
    assert interrupted > 15


def test_what_was_recorded_is_enqueued_by_another_version_as_it_was_cut() -> None:
    """A version that knows the kind no longer, or cuts otherwise, comes after an interruption."""
    sent = 6  # read, record upload, add part, then three sends
    world = World(Outage({sent: False}))
    with pytest.raises(TransientError):
        world.expand()
    assert (world.batch().total, world.batch().enqueued) == (3, 0)
    world.cloud.clock.sleep(31)
    world.expand(Registry([sleep]))
    world.work()
    assert world.batch().error is not None
    assert_ended(world)
