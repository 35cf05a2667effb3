"""Assembles the services that the handlers call from ports. Owns which parts there are; not the
adapters behind the ports (`chalice_app.wiring`), so that tests can pass those in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from taskfleet.bill import Odometer, Spend
from taskfleet.emf import EmfLog
from taskfleet.measure import Recorder
from taskfleet.ports import Clock, TaskMonitor, TaskQueue, UploadStore
from taskfleet.provisioner.history import Histories
from taskfleet.provisioner.ports import Fleet, FleetRecords, Nudge, ProvisionerPorts
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.provisioner.view import FleetViews
from taskfleet.registry import Registry
from taskfleet.scheduler.audits import Audits
from taskfleet.scheduler.completed import Completed
from taskfleet.scheduler.enqueue import Announcer, Enqueuer
from taskfleet.scheduler.expand import Expansion
from taskfleet.scheduler.kinds import Kinds
from taskfleet.scheduler.letters import DeadLetters
from taskfleet.scheduler.limit import ClientLimit
from taskfleet.scheduler.listing import Listing
from taskfleet.scheduler.open import OpenBatches
from taskfleet.scheduler.parts import Parts
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.quoter import Quoter
from taskfleet.scheduler.quotes import Quotes
from taskfleet.scheduler.rerun import Reruns
from taskfleet.scheduler.results import Results
from taskfleet.scheduler.stream import Stream
from taskfleet.scheduler.submit import Submission
from taskfleet.scheduler.tasks import TaskViews
from taskfleet.scheduler.upload import Uploads
from taskfleet.settings import Settings


@dataclass(frozen=True)
class Services:
    """Everything that the handlers call.

    token_secret: returns the secret that signs tokens. It is called only to read a token, since the
        authorizer is the only function that may read the secret.
    odometer: returns the AWS calls since it was last asked.
    provisioner: None where no machine may be launched.
    recorder: adds up the measurements of this process.
    report: tells what was measured since it was last called.
    """

    submission: Submission
    reruns: Reruns
    open_batches: OpenBatches
    uploads: Uploads
    expansion: Expansion
    results: Results
    listing: Listing
    completed: Completed
    audits: Audits
    stream: Stream
    tasks: TaskViews
    dead_letters: DeadLetters
    task_queue: TaskQueue
    monitor: TaskMonitor
    store: UploadStore
    clock: Clock
    token_secret: Callable[[], str]
    odometer: Odometer
    fleet_views: FleetViews
    histories: Histories
    kinds: Kinds
    provisioner: Provisioner | None
    recorder: Recorder
    report: Callable[[], None]
    quotes: Quotes


def assemble(
    *,
    registry: Registry,
    task_queue: TaskQueue,
    response_queue: TaskQueue,
    upload_queue: TaskQueue,
    monitor: TaskMonitor,
    store: UploadStore,
    clock: Clock,
    random_bytes: Callable[[int], bytes],
    token_secret: Callable[[], str],
    records: FleetRecords,
    fleet: Fleet | None,
    nudge: Nudge | None,
    settings: Settings,
    spent: Callable[[], Spend] = Spend,
    recorder: Recorder | None = None,
) -> Services:
    """Returns the services on the given ports.

    fleet: None where no machine may be launched.
    nudge: None where the provisioner cannot be called.
    spent: returns the running total of this process's AWS calls.
    recorder: adds up the measurements of this process; a new one unless given.
    """
    recorder = recorder or Recorder()
    announcer = Announcer(registry, records, nudge)
    provisioner = None
    if fleet is not None:
        provisioner = Provisioner(
            ProvisionerPorts(task_queue, monitor, records, fleet, clock), settings
        )

    def noted_slots() -> int | None:
        noted = records.noted()
        return None if noted is None else noted.slots

    planner = Planner(
        registry,
        monitor,
        least_slots=settings.slots,
        seen_slots=noted_slots if provisioner is not None else lambda: None,
    )
    quoter = Quoter(settings, records, clock, launches=provisioner is not None)
    enqueuer = Enqueuer(task_queue, monitor, spent, announcer.announce)
    limit = ClientLimit(settings.client_max_waiting)
    uploads = Uploads(
        planner,
        store,
        upload_queue,
        monitor,
        clock,
        random_bytes,
        max_bytes=settings.upload_max_bytes,
        expires_s=settings.upload_url_s,
        limit=limit,
    )
    open_batches = OpenBatches(
        registry,
        planner,
        enqueuer,
        Parts(store, enqueuer),
        monitor,
        clock,
        random_bytes,
        limit=limit,
        idle_s=settings.open_idle_s,
    )
    results = Results(registry, monitor, store, clock, open_batches.settle)
    completed = Completed(results, monitor, clock, open_batches.settle)
    submission = Submission(
        registry,
        planner,
        enqueuer,
        monitor,
        clock,
        random_bytes,
        uploads,
        limit=limit,
        quoter=quoter,
    )
    fleet_views = FleetViews(task_queue, records, clock, settings)
    return Services(
        submission=submission,
        reruns=Reruns(results, submission),
        open_batches=open_batches,
        uploads=uploads,
        expansion=Expansion(
            registry, planner, enqueuer, store, upload_queue, monitor, clock, limit=limit
        ),
        results=results,
        listing=Listing(monitor, clock),
        completed=completed,
        audits=Audits(results, monitor, clock),
        stream=Stream(completed),
        tasks=TaskViews(registry, results, monitor, store, clock, lambda: fleet_views.view().why),
        dead_letters=DeadLetters(
            {"tasks": task_queue, "responses": response_queue, "uploads": upload_queue}, monitor
        ),
        task_queue=task_queue,
        monitor=monitor,
        store=store,
        clock=clock,
        token_secret=token_secret,
        odometer=Odometer(spent),
        fleet_views=fleet_views,
        histories=Histories(records, clock),
        kinds=Kinds(registry, records, clock, settings.beat_s),
        provisioner=provisioner,
        recorder=recorder,
        report=_reporter(recorder, clock, settings),
        quotes=Quotes(registry, planner, quoter, records, clock, settings.beat_s),
    )


def _reporter(recorder: Recorder, clock: Clock, settings: Settings) -> Callable[[], None]:
    if settings.metrics != "emf":
        return lambda: None
    log = EmfLog(settings.stage, clock.now)
    return lambda: log.write(recorder.read())
