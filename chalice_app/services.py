"""What the handlers work with, put together from ports. Owns no concrete adapter
(`chalice_app.wiring`), so that a test hands in those in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.bill import Odometer, Spend
from taskfleet.ports import Clock, ObjectStore, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.results import Results
from taskfleet.submit import Submission


@dataclass(frozen=True)
class Services:
    """`token_secret` is asked for it only when a token is read: of all the functions only the
    authorizer may read the secret."""

    submission: Submission
    results: Results
    tasks: TaskQueue
    monitor: TaskMonitor
    clock: Clock
    token_secret: Callable[[], str]
    odometer: Odometer


def assemble(
    *,
    registry: Registry,
    tasks: TaskQueue,
    monitor: TaskMonitor,
    store: ObjectStore,
    clock: Clock,
    random_bytes: Callable[[int], bytes],
    token_secret: Callable[[], str],
    spent: Callable[[], Spend] = Spend,
) -> Services:
    return Services(
        submission=Submission(registry, tasks, monitor, clock, random_bytes, spent=spent),
        results=Results(registry, monitor, store, clock),
        tasks=tasks,
        monitor=monitor,
        clock=clock,
        token_secret=token_secret,
        odometer=Odometer(spent),
    )
