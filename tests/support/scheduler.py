"""The front-end scheduler on given ports, assembled as by `chalice_app.services`."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from taskfleet.ports import Clock, TaskQueue
from taskfleet.registry import Registry
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.submit import Submission


def submission(
    registry: Registry,
    queue: TaskQueue,
    monitor: Any,
    clock: Clock,
    random_bytes: Callable[[int], bytes] = random.randbytes,
    seen_slots: Callable[[], int | None] = lambda: None,
) -> Submission:
    """A Submission that puts bundles on `queue` and records batches in `monitor`."""
    planner = Planner(registry, monitor, seen_slots=seen_slots)
    return Submission(registry, planner, Enqueuer(queue, monitor), monitor, clock, random_bytes)
