"""The worker's parts put together: the one wiring that the daemon and the tests share. Owns who
gets what; threads belong to `ec2_worker.worker`."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from concurrent.futures import Executor as Pool
from dataclasses import dataclass, field

from ec2_worker.asides import Asides
from ec2_worker.batchwatch import BatchWatch
from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.execute import Executor, Ways
from ec2_worker.heartbeat import Heartbeat
from ec2_worker.intake import Intake
from ec2_worker.logs import Logs
from ec2_worker.outbox import Outbox
from ec2_worker.presence import Presence
from ec2_worker.protocol import BundleProtocol
from ec2_worker.reuse import Reuse
from ec2_worker.runner import taskuser
from ec2_worker.settlement import Settlement
from ec2_worker.telemetry import Telemetry
from ec2_worker.workload import Workload
from taskfleet.bill import Odometer, Spend
from taskfleet.errors import PermanentError
from taskfleet.lanes import Lanes
from taskfleet.log import fields
from taskfleet.ports import Clock, ObjectStore, TaskMonitor, TaskQueue
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.registry import Registry
from taskfleet.settings import Settings
from taskfleet.task import Task

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WorkerPorts:
    """The ports that the worker works on.

    spent: returns the running total of the process's AWS calls.
    records: where the worker reports itself; None for a worker that nobody provisions.
    telemetry: told what became of each bundle.
    high: the queue of bundles of high priority; None where there is none.
    """

    tasks: TaskQueue
    responses: TaskQueue
    monitor: TaskMonitor
    store: ObjectStore
    clock: Clock
    spent: Callable[[], Spend] = Spend
    records: FleetRecords | None = None
    telemetry: Telemetry = field(default_factory=Telemetry)
    high: TaskQueue | None = None


@dataclass(frozen=True)
class Identity:
    """Who the worker is. `instance_id` is None for one that runs on no machine of the fleet."""

    worker_id: str
    slots: int
    instance_id: str | None = None


@dataclass(frozen=True)
class Abilities:
    """What the worker can run.

    limits: most tasks of a kind that it runs at a time, for kinds that may not use all slots.
    unavailable: kinds that cannot run here, with the reason.
    """

    limits: dict[str, int]
    unavailable: dict[str, str]


@dataclass(frozen=True)
class Hooks:
    """Functions of the daemon that the parts of a worker call.

    settle: called with bundles of which nothing is left to run.
    leave: called when the provisioner asks the worker to leave.
    on_empty: called between two polls when one brought nothing.
    slot_given_up: called when a slot's thread was given up; see `ec2_worker.execute.Ways`.
    wait_s: returns the seconds for which a poll waits; `Settings.receive_wait_s` if it is None.
    """

    settle: Callable[[ClaimedBundle], None]
    leave: Callable[[], None]
    on_empty: Callable[[], None] = lambda: None
    slot_given_up: Callable[[Chunk, list[Task], float], None] = lambda _chunk, _rest, _seconds: None
    wait_s: Callable[[], float] | None = None


@dataclass(frozen=True)
class Parts:
    """The worker's parts. `presence` is None for a worker that nobody provisions."""

    workload: Workload
    executor: Executor
    outbox: Outbox
    watch: BatchWatch
    protocol: BundleProtocol
    settlement: Settlement
    asides: Asides
    intake: Intake
    heartbeat: Heartbeat
    presence: Presence | None


def find_abilities(registry: Registry) -> Abilities:
    """Prepare every kind, and ask for its limit and whether it can run here."""
    limits, unavailable = {}, {}
    for name in registry.names:
        kind = registry[name]
        try:
            kind.prepare()
            kind.check()
        except PermanentError as error:
            unavailable[name] = str(error)
            _log.warning(
                "this worker takes no tasks of one kind",
                extra=fields("kind_unavailable", kind=name, reason=str(error)),
            )
        limit = kind.max_concurrent()
        if limit is not None:
            limits[name] = limit
    return Abilities(limits, unavailable)


def assemble(
    ports: WorkerPorts,
    registry: Registry,
    settings: Settings,
    who: Identity,
    abilities: Abilities,
    hooks: Hooks,
    *,
    pool: Pool,
    rng: random.Random,
) -> Parts:
    """Put the parts together. `pool` runs the claims."""
    clock = ports.clock
    tasks = Lanes(ports.tasks, ports.high)
    workload = Workload(
        who.slots,
        abilities.limits,
        registry.expected_s,
        clock.now,
        registry.pace_name,
        lambda kind: registry[kind].hedge,
        ports.telemetry.copied,
    )
    outbox = Outbox(
        tasks,
        ports.responses,
        clock,
        Odometer(ports.spent),
        busy=lambda: workload.idle_since() is None,
    )
    watch = BatchWatch(ports.monitor, clock)
    logs = Logs(ports.store, clock, interval_s=settings.heartbeat_s)
    reuse = Reuse(ports.monitor, ports.store, registry, clock, who.worker_id)
    settlement = Settlement(
        tasks=tasks,
        monitor=ports.monitor,
        logs=logs,
        outbox=outbox,
        registry=registry,
        reuse=reuse,
        telemetry=ports.telemetry,
        clock=clock,
        rng=rng,
    )
    protocol = BundleProtocol(
        tasks=tasks,
        monitor=ports.monitor,
        settlement=settlement,
        reuse=reuse,
        registry=registry,
        unavailable=abilities.unavailable,
        watch=watch,
        telemetry=ports.telemetry,
        clock=clock,
        rng=rng,
        lease_s=settings.lease_s,
        worker_id=who.worker_id,
    )
    asides = Asides(
        protocol, settlement, tasks, ports.monitor, clock, rng, lease_s=settings.lease_s
    )
    intake = Intake(
        workload,
        protocol,
        asides,
        tasks,
        clock,
        rng,
        pool,
        ports.telemetry,
        lease_s=settings.lease_s,
        wait_s=hooks.wait_s or (lambda: settings.receive_wait_s),
        settle=hooks.settle,
        on_empty=hooks.on_empty,
    )
    heartbeat = Heartbeat(
        workload,
        protocol,
        tasks,
        watch,
        clock,
        ports.telemetry,
        lease_s=settings.lease_s,
        heartbeat_s=settings.heartbeat_s,
        worker_id=who.worker_id,
        logs=logs,
        pool=pool,
        settle=hooks.settle,
    )
    presence = None
    if ports.records is not None:
        presence = Presence(
            ports.records,
            workload,
            intake,
            clock,
            worker_id=who.worker_id,
            instance_id=who.instance_id,
            slots=who.slots,
            kinds=[name for name in registry.names if name not in abilities.unavailable],
            limits=abilities.limits,
            report_s=settings.beat_s,
            leave=hooks.leave,
        )
    ways = Ways(
        hooks.slot_given_up,
        heartbeat.note,
        settings.runner_max_tasks,
        settings.runner_max_mb,
        taskuser.find(settings.task_user),
    )
    executor = Executor(registry, ports.store, clock, who.worker_id, ways)
    return Parts(
        workload,
        executor,
        outbox,
        watch,
        protocol,
        settlement,
        asides,
        intake,
        heartbeat,
        presence,
    )
