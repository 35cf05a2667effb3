"""What the handlers work with, put together from ports. Owns no concrete adapter
(`chalice_app.wiring`), so that a test hands in those in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.bill import Odometer, Spend
from taskfleet.ports import (
    Clock,
    ObjectStore,
    TaskMonitor,
    TaskQueue,
)
from taskfleet.provisioner.ports import (
    Fleet,
    FleetRecords,
    Nudge,
)
from taskfleet.provisioner.reconcile import (
    Provisioner,
    ProvisionerPorts,
)
from taskfleet.provisioner.view import FleetViews
from taskfleet.registry import Registry
from taskfleet.scheduler.enqueue import Announcer, Enqueuer
from taskfleet.scheduler.expand import Expansion
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.results import Results
from taskfleet.scheduler.submit import Submission
from taskfleet.scheduler.upload import Uploads
from taskfleet.settings import Settings


@dataclass(frozen=True)
class Services:
    """`token_secret` is asked for it only when a token is read: of all the functions only the
    authorizer may read the secret."""

    submission: Submission
    uploads: Uploads
    expansion: Expansion
    results: Results
    tasks: TaskQueue
    monitor: TaskMonitor
    clock: Clock
    token_secret: Callable[[], str]
    odometer: Odometer
    fleet_views: FleetViews
    provisioner: Provisioner | None
    """None where no machine may be launched."""


def assemble(
    *,
    registry: Registry,
    tasks: TaskQueue,
    expand: TaskQueue,
    monitor: TaskMonitor,
    store: ObjectStore,
    clock: Clock,
    random_bytes: Callable[[int], bytes],
    token_secret: Callable[[], str],
    records: FleetRecords,
    fleet: Fleet | None,
    nudge: Nudge | None,
    settings: Settings,
    spent: Callable[[], Spend] = Spend,
) -> Services:
    announcer = Announcer(registry, records, nudge)
    provisioner = None
    if fleet is not None:
        provisioner = Provisioner(ProvisionerPorts(tasks, monitor, records, fleet, clock), settings)
    planner = Planner(
        registry,
        monitor,
        least_slots=settings.slots,
        seen_slots=records.slots if provisioner is not None else lambda: None,
    )
    enqueuer = Enqueuer(tasks, monitor, spent, announcer.announce)
    return Services(
        submission=Submission(registry, planner, enqueuer, monitor, clock, random_bytes),
        uploads=Uploads(
            planner,
            store,
            expand,
            monitor,
            clock,
            random_bytes,
            max_bytes=settings.upload_max_bytes,
            expires_s=settings.upload_url_s,
        ),
        expansion=Expansion(registry, planner, enqueuer, store, expand, monitor, clock),
        results=Results(registry, monitor, store, clock),
        tasks=tasks,
        monitor=monitor,
        clock=clock,
        token_secret=token_secret,
        odometer=Odometer(spent),
        fleet_views=FleetViews(tasks, records, clock, settings),
        provisioner=provisioner,
    )
