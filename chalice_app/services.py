"""What the handlers work with, put together from ports. Owns no concrete adapter
(`chalice_app.wiring`), so that a test hands in those in memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.bill import Odometer, Spend
from taskfleet.bundle import DEFAULT_SLOTS
from taskfleet.ports import (
    Clock,
    Fleet,
    FleetRecords,
    Nudge,
    ObjectStore,
    TaskMonitor,
    TaskQueue,
)
from taskfleet.provisioner.reconcile import Ports, Provisioner
from taskfleet.provisioner.view import FleetViews
from taskfleet.registry import Registry
from taskfleet.scheduler.announce import Announcer
from taskfleet.scheduler.enqueue import Parts
from taskfleet.scheduler.expand import Expansion
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
        provisioner = Provisioner(Ports(tasks, monitor, records, fleet, clock), settings)

    def slots() -> int:
        # A machine that is launched for a batch gets a minute's work of it for each slot, which
        # bundles of two seconds share out well: those that are there already are what counts.
        seen = records.slots() if provisioner is not None else None
        return max(DEFAULT_SLOTS, settings.slots, seen or 0)

    parts = Parts(registry, tasks, monitor, slots, spent, announcer.announce)
    return Services(
        submission=Submission(parts, monitor, clock, random_bytes),
        uploads=Uploads(
            parts,
            store,
            expand,
            monitor,
            clock,
            random_bytes,
            max_bytes=settings.upload_max_bytes,
            expires_s=settings.upload_url_s,
        ),
        expansion=Expansion(parts, store, expand, monitor, clock),
        results=Results(registry, monitor, store, clock),
        tasks=tasks,
        monitor=monitor,
        clock=clock,
        token_secret=token_secret,
        odometer=Odometer(spent),
        fleet_views=FleetViews(tasks, records, clock, settings),
        provisioner=provisioner,
    )
