"""Assembles the services that the handlers call from ports. Owns which parts there are; not the
adapters behind the ports (`chalice_app.wiring`), so that tests can pass those in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from taskfleet.batch import BatchRecord
from taskfleet.bill import Odometer, Spend
from taskfleet.emf import EmfLog
from taskfleet.lanes import Lanes
from taskfleet.measure import Recorder
from taskfleet.ports import Clock, TaskMonitor, TaskQueue, UploadStore
from taskfleet.provisioner.history import Histories
from taskfleet.provisioner.ports import Fleet, FleetRecords, Nudge, ProvisionerPorts
from taskfleet.provisioner.reconcile import Provisioner
from taskfleet.provisioner.view import FleetViews
from taskfleet.registry import Registry
from taskfleet.scheduler.after import Precedence
from taskfleet.scheduler.audits import Audits
from taskfleet.scheduler.completed import Completed
from taskfleet.scheduler.ended import Ended
from taskfleet.scheduler.enqueue import Announcer, Enqueuer
from taskfleet.scheduler.events import Announcements
from taskfleet.scheduler.expand import Expansion
from taskfleet.scheduler.kinds import Kinds
from taskfleet.scheduler.learn import Learner
from taskfleet.scheduler.letters import DeadLetters
from taskfleet.scheduler.limit import ClientLimit
from taskfleet.scheduler.listing import Listing
from taskfleet.scheduler.open import OpenBatches
from taskfleet.scheduler.parts import Parts
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.ports import EventSink, ScheduleRecords
from taskfleet.scheduler.quoter import Quoter
from taskfleet.scheduler.quotes import Quotes
from taskfleet.scheduler.rerun import Reruns
from taskfleet.scheduler.results import Results
from taskfleet.scheduler.risk import Risks
from taskfleet.scheduler.schedules import Schedules
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
    ended: is told of each batch that has ended.
    learner: takes the durations that the collector measures.
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
    schedules: Schedules
    ended: Ended
    learner: Learner
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
    schedule_records: ScheduleRecords,
    fleet: Fleet | None,
    nudge: Nudge | None,
    settings: Settings,
    spent: Callable[[], Spend] = Spend,
    recorder: Recorder | None = None,
    sinks: Sequence[EventSink] = (),
    high_queue: TaskQueue | None = None,
) -> Services:
    """Returns the services on the given ports.

    fleet: None where no machine may be launched.
    nudge: None where the provisioner cannot be called.
    spent: returns the running total of this process's AWS calls.
    recorder: adds up the measurements of this process; a new one unless given.
    sinks: where the events of batches that have ended go.
    high_queue: that of bundles of high priority; None where these go to `task_queue`.
    """
    recorder = recorder or Recorder()
    lanes = Lanes(task_queue, high_queue)
    announcer = Announcer(registry, records, nudge, watches=fleet is not None)
    provisioner = None
    if fleet is not None:
        provisioner = Provisioner(
            ProvisionerPorts(task_queue, monitor, records, fleet, clock, high_queue), settings
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
    enqueuer = Enqueuer(lanes, monitor, spent, announcer.announce)
    limit = ClientLimit(settings.client_max_waiting)
    precedence = Precedence(monitor, upload_queue, clock)
    announcements = [Announcements(sinks, settings.stage, clock).tell] if sinks else []
    ended = Ended(precedence.hear, *announcements)
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
        precedence=precedence,
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
        ended=ended,
        idle_s=settings.open_idle_s,
    )

    def settle(batch: BatchRecord) -> BatchRecord:
        return precedence.settle(open_batches.settle(batch))

    risks = Risks(records if provisioner is not None else None)
    results = Results(registry, monitor, store, clock, settle, ended, risks=risks)
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
    # The tick that submits the batches of schedules runs the provisioner itself.
    quietly = Announcer(registry, records, None, watches=fleet is not None)
    fleet_views = FleetViews(lanes, records, clock, settings)
    return Services(
        submission=submission,
        reruns=Reruns(results, submission),
        open_batches=open_batches,
        uploads=uploads,
        expansion=Expansion(
            registry,
            planner,
            enqueuer,
            store,
            upload_queue,
            monitor,
            clock,
            limit=limit,
            ended=ended,
            precedence=precedence,
        ),
        results=results,
        listing=Listing(monitor, clock, risks=risks),
        completed=completed,
        audits=Audits(results, monitor, clock),
        stream=Stream(completed),
        tasks=TaskViews(
            registry,
            results,
            monitor,
            store,
            clock,
            lambda: fleet_views.view().why,
            precedence.why,
        ),
        dead_letters=DeadLetters(
            {"tasks": lanes, "responses": response_queue, "uploads": upload_queue}, monitor
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
        schedules=Schedules(
            registry,
            schedule_records,
            # Without uploads, which the tick may not write: a schedule's tasks are few.
            Submission(
                registry,
                planner,
                Enqueuer(lanes, monitor, spent, quietly.announce),
                monitor,
                clock,
                random_bytes,
                limit=limit,
                quoter=quoter,
            ),
            clock,
            random_bytes,
        ),
        ended=ended,
        learner=Learner(monitor, clock),
        quotes=Quotes(registry, planner, quoter, records, clock, settings.beat_s),
    )


def _reporter(recorder: Recorder, clock: Clock, settings: Settings) -> Callable[[], None]:
    if settings.metrics != "emf":
        return lambda: None
    log = EmfLog(settings.stage, clock.now)
    return lambda: log.write(recorder.read())
