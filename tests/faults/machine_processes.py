"""The processes of a history: the real code of the functions and the workers, on their own ports.
Owns how they are put together; not their steps (`tests.faults.machine_world`)."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from chalice_app.services import Services, assemble
from ec2_worker.claimed import Chunk
from taskfleet.registry import Registry
from taskfleet.settings import Settings
from tests.faults.machine_ports import Process
from tests.support.worker import HandWorker

PART_TASKS = 3
"""Most tasks of a part of a file. So that small files have several parts."""
SEND_MAX_BUNDLES = 4
"""Most bundles that a request enqueues itself. So that some batches go by a file."""


class Function:
    """A function's process: the services, made of its own ports."""

    def __init__(self, process: Process, registry: Registry, rng: random.Random) -> None:
        self.process = process
        cloud, port = process.cloud, process.port
        self.services: Services = assemble(
            registry=registry,
            task_queue=port("tasks", cloud.tasks),
            high_queue=port("tasks", cloud.high),
            response_queue=port("responses", cloud.responses),
            upload_queue=port("uploads", cloud.uploads),
            monitor=process.monitor(),
            store=port("store", cloud.store),
            clock=process.clock,
            random_bytes=rng.randbytes,
            token_secret=lambda: "",
            records=port("records", cloud.records),
            schedule_records=port("schedules", cloud.schedules),
            fleet=None,
            nudge=None,
            settings=Settings(bucket="b"),
        )
        self.services.expansion._part_tasks = PART_TASKS
        self.services.submission._send_max_bundles = SEND_MAX_BUNDLES


@dataclass
class Seat:
    """The cloud as a worker's process sees it."""

    tasks: Any
    high: Any
    responses: Any
    monitor: Any
    store: Any
    clock: Any


class Worker:
    """A worker's process, and the chunks that its slots took."""

    def __init__(self, process: Process, registry: Registry, rng: random.Random) -> None:
        self.process = process
        cloud, port = process.cloud, process.port
        seat: Any = Seat(
            port("tasks", cloud.tasks),
            port("tasks", cloud.high),
            port("responses", cloud.responses),
            process.monitor(),
            port("store", cloud.store),
            process.clock,
        )
        self.hand = HandWorker(
            seat,
            registry,
            threads=rng.choice([1, 3]),
            worker_id=f"{process.name}-{rng.getrandbits(32):08x}",
            rng=rng,
        )
        self.slots: list[Chunk] = []
