"""The daemon: starts the parts on their threads, drains, and ends. Owns the threads and the order
in which they stop: receiving first, then the slots, while heartbeats go on; then what is in hand is
committed or given back; then the answers."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from ec2_worker.batchwatch import BatchWatch
from ec2_worker.claimed import Holding
from ec2_worker.execute import Executor
from ec2_worker.heartbeat import Heartbeat
from ec2_worker.intake import Intake
from ec2_worker.outbox import Outbox
from ec2_worker.presence import Presence
from ec2_worker.protocol import Attempt
from ec2_worker.workload import Workload
from taskfleet.bill import Odometer, Spend
from taskfleet.errors import LeaseLost, PermanentError, TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import (
    Clock,
    ObjectStore,
    TaskMonitor,
    TaskQueue,
)
from taskfleet.provisioner.ports import (
    FleetRecords,
)
from taskfleet.registry import Registry
from taskfleet.settings import Settings

_log = logging.getLogger(__name__)

POOL_THREADS = 10
"""For claims and commits: as many as one receive can bring."""
GRACE_S = 5.0
"""After the drain time-out: for stopped tasks to end, and for what is in hand to be given back."""


INTAKE_S = 1.0
"""For claims under way. An empty long poll is waited for only when the worker leaves patiently;
else what it might yet bring is hidden from others until its visibility ends."""


@dataclass(frozen=True)
class Ports:
    """What the worker is wired to."""

    tasks: TaskQueue
    responses: TaskQueue
    monitor: TaskMonitor
    store: ObjectStore
    clock: Clock
    spent: Callable[[], Spend] = Spend
    """The running total of the process's AWS calls."""
    records: FleetRecords | None = None
    """Where the worker tells of itself; None for one that nobody provisions."""


class Worker:
    """`run` works until `drain` is called (from any thread, or a signal handler), or until nothing
    came for `exit_when_idle_s`."""

    def __init__(
        self,
        ports: Ports,
        registry: Registry,
        settings: Settings,
        *,
        threads: int,
        worker_id: str,
        rng: random.Random,
        exit_when_idle_s: float | None = None,
        instance_id: str | None = None,
    ) -> None:
        self._settings = settings
        self._clock = ports.clock
        self._exit_when_idle_s = exit_when_idle_s
        self._threads = threads
        self.worker_id = worker_id
        self._drain_asked = threading.Event()
        self._patient = False
        self._ended = threading.Event()
        self._crashed = False
        limits, unavailable = _abilities(registry)
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="steps")
        self._workload = Workload(
            threads,
            limits,
            lambda task: registry[task.kind].expected_s(task.params),
            ports.clock.now,
        )
        self._executor = Executor(registry, ports.store, ports.clock, worker_id)
        self._outbox = Outbox(
            ports.tasks,
            ports.responses,
            ports.clock,
            Odometer(ports.spent),
            busy=lambda: self._workload.idle_since() is None,
        )
        watch = BatchWatch(ports.monitor, ports.clock)
        self._attempt = Attempt(
            tasks=ports.tasks,
            monitor=ports.monitor,
            outbox=self._outbox,
            registry=registry,
            unavailable=unavailable,
            watch=watch,
            clock=ports.clock,
            rng=rng,
            lease_s=settings.lease_s,
            worker_id=worker_id,
        )
        self._wait_s = min(settings.receive_wait_s, exit_when_idle_s or settings.receive_wait_s)
        self._intake = Intake(
            self._workload,
            self._attempt,
            ports.tasks,
            ports.clock,
            rng,
            self._pool,
            lease_s=settings.lease_s,
            wait_s=self._wait_s,
            settle=self._settle_soon,
            on_empty=self._leave_if_idle,
        )
        self._presence = None
        if ports.records is not None:
            self._presence = Presence(
                ports.records,
                self._workload,
                self._intake,
                ports.clock,
                worker_id=worker_id,
                instance_id=instance_id,
                slots=threads,
                kinds=[name for name in registry.names if name not in unavailable],
                limits=limits,
                beat_s=settings.beat_s,
                leave=partial(self.drain, patiently=True),
            )
        self._heartbeat = Heartbeat(
            self._workload,
            self._attempt,
            ports.tasks,
            watch,
            ports.clock,
            lease_s=settings.lease_s,
            heartbeat_s=settings.heartbeat_s,
            settle=self._settle_soon,
        )

    def run(self) -> bool:
        """Work until drained; whether every part ended as it should."""
        _log.info(
            "worker starts",
            extra=fields("worker_started", worker_id=self.worker_id, threads=self._threads),
        )
        for _ in range(self._threads):
            self._start("slot", self._slot)
        intake = self._start("intake", lambda: self._intake.run(self._drain_asked))
        self._start("heartbeat", lambda: self._heartbeat.run(self._ended))
        outbox = self._start("outbox", self._outbox.run)
        presence, telling = self._presence, None
        if presence is not None:
            telling = self._start("presence", partial(presence.run, self._ended))
        self._drain_asked.wait()
        poll_ends = time.monotonic() + self._wait_s + INTAKE_S
        if presence is not None:
            presence.leaving()
        self._finish_or_release(intake)
        self._outbox.close()
        outbox.join(GRACE_S)
        if self._patient:
            intake.join(max(0.0, poll_ends - time.monotonic()))
        self._ended.set()
        if presence is not None and telling is not None:
            telling.join(GRACE_S)
            presence.sign_off()
        self._pool.shutdown(wait=False, cancel_futures=True)
        _log.info(
            "worker ends",
            extra=fields("worker_ended", worker_id=self.worker_id, **self._workload.snapshot()),
        )
        return not self._crashed

    def drain(self, *, patiently: bool = False) -> None:
        """Ask `run` to receive no more, finish or give back what is in hand, and return.
        `patiently`: not before a poll under way has ended, which takes up to `receive_wait_s`; what
        it brings is given back at once."""
        self._patient = self._patient or patiently
        self._drain_asked.set()

    def stop_tasks(self) -> None:
        """Tell every running task to end at once, and end its subprocesses."""
        for holding in self._workload.holdings():
            holding.stop()

    # --- threads -----------------------------------------------------------------------------

    def _start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except Exception:  # noqa: BLE001 - logged, and the process ends with 1
                # A worker without one of its threads would look alive and do nothing.
                _log.critical(
                    "a part of the worker crashed; draining",
                    extra=fields("worker_crashed", part=name),
                    exc_info=True,
                )
                self._crashed = True
                self.drain()

        thread = threading.Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def _slot(self) -> None:
        while (chunk := self._workload.take()) is not None:
            started = time.perf_counter()
            rest = self._executor.run(chunk)
            if self._workload.done(chunk, rest, time.perf_counter() - started):
                self._settle_soon(chunk.holding)

    def _settle_soon(self, holding: Holding) -> None:
        self._pool.submit(self._settle, holding)

    def _settle(self, holding: Holding) -> None:
        job_id = holding.bundle.job_id
        try:
            self._attempt.settle(holding)
        except LeaseLost as error:
            _log.warning(
                "lease lost, the bundle's results are dropped",
                extra=fields("lease_lost", job_id=job_id, reason=str(error)),
            )
        except TaskfleetError as error:
            _log.error(
                "a bundle could not be settled; it will be delivered again",
                extra=fields("settle_failed", job_id=job_id, reason=str(error)),
            )
        except Exception:  # noqa: BLE001 - logged, and the process ends with 1
            _log.critical(
                "settling crashed; draining",
                extra=fields("worker_crashed", part="settle", job_id=job_id),
                exc_info=True,
            )
            self._crashed = True
            self.drain()
        finally:
            self._workload.remove(holding)

    # --- the end -----------------------------------------------------------------------------

    def _leave_if_idle(self) -> None:
        """Between two polls, so that none is under way that could bring a message to nobody."""
        idle_since = self._workload.idle_since()
        if self._exit_when_idle_s is None or idle_since is None:
            return
        idle_s = self._clock.now() - max(idle_since, self._intake.last_work_at)
        if idle_s >= self._exit_when_idle_s:
            _log.info("nothing to do", extra=fields("worker_idle", worker_id=self.worker_id))
            self.drain()

    def _finish_or_release(self, intake: threading.Thread) -> None:
        for holding in self._workload.stop_starting():
            self._settle_soon(holding)
        intake.join(INTAKE_S)
        deadline = time.monotonic() + self._settings.drain_timeout_s
        if not self._workload.wait_empty(deadline - time.monotonic()):
            _log.warning(
                "drain time-out: running tasks are given back",
                extra=fields("drain_timeout", worker_id=self.worker_id),
            )
            self.stop_tasks()
            if not self._workload.wait_empty(GRACE_S):
                for holding in self._workload.abandon():
                    self._settle(holding)


def _abilities(registry: Registry) -> tuple[dict[str, int], dict[str, str]]:
    """How many tasks of a kind may run at a time, for those kinds that say; and the kinds that
    cannot run here, with the reason."""
    limits, unavailable = {}, {}
    for name in registry.names:
        kind = registry[name]
        try:
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
    return limits, unavailable
