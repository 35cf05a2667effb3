"""The daemon: starts the parts on their threads, drains, and ends. Owns the threads and the order
in which they stop. Receiving stops first, then the slots, while heartbeats go on. Then what is in
hand is committed or given back. The answers go last.

An unexpected error of one bundle never ends the worker: the bundle is set aside
(`ec2_worker.asides`), and the others go on. Only two things end the process by themselves,
with exit code 1 after a drain: an error of a part outside of the handling of any bundle (`_start`),
since a worker without one of its threads would look alive and do nothing; and a second signal
(`ec2_worker.run`).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.parts import Hooks, Identity, WorkerPorts, assemble, find_abilities
from ec2_worker.timed import SlotGivenUp
from taskfleet.errors import LeaseLost, TaskfleetError
from taskfleet.log import bound, fields
from taskfleet.ports import CALL_MAX_MESSAGES
from taskfleet.registry import Registry
from taskfleet.settings import Settings
from taskfleet.task import Task

_log = logging.getLogger(__name__)

POOL_THREADS = CALL_MAX_MESSAGES
"""Threads for claims and commits: as many as one receive can bring."""
SIGNALS_S = 1.0
"""How long the main thread waits at a time. Python runs signal handlers in that thread only, and a
signal that the kernel gives to another thread does not end the main thread's wait."""
GRACE_S = 5.0
"""Seconds after the drain time-out in which stopped tasks end and bundles are given back."""
INTAKE_S = 1.0
"""Seconds for claims under way. An empty long poll is waited for only when the worker leaves
patiently; else a message that it might yet bring stays hidden until its visibility ends."""
LAST_POLL_S = 1.0
"""Least seconds of a poll of a worker that is about to leave."""


class Worker:
    """A worker with `threads` slots. `run` works until `drain` is called, from any thread or a
    signal handler, or until nothing came for `exit_when_idle_s`."""

    def __init__(
        self,
        ports: WorkerPorts,
        registry: Registry,
        settings: Settings,
        *,
        threads: int,
        worker_id: str,
        rng: random.Random,
        exit_when_idle_s: float | None = None,
        instance_id: str | None = None,
    ) -> None:
        self._clock = ports.clock
        self._has_high = ports.high is not None
        self._telemetry = ports.telemetry
        self._exit_when_idle_s = exit_when_idle_s
        self._threads = threads
        self.worker_id = worker_id
        self._drain_timeout_s = settings.drain_timeout_s
        self._drain_asked = threading.Event()
        self._patient = False
        self._ended = threading.Event()
        self._crashed = False
        self._poll_s = min(settings.receive_wait_s, exit_when_idle_s or settings.receive_wait_s)
        self._pool = ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="steps")
        parts = assemble(
            ports,
            registry,
            settings,
            Identity(worker_id, threads, instance_id),
            find_abilities(registry),
            Hooks(
                settle=self._settle_soon,
                leave=partial(self.drain, patiently=True),
                on_empty=self._leave_if_idle,
                slot_given_up=self._replace_slot,
                wait_s=self._wait_s,
            ),
            pool=self._pool,
            rng=rng,
        )
        self._workload, self._executor = parts.workload, parts.executor
        self._asides, self._settlement = parts.asides, parts.settlement
        self._intake = parts.intake
        self._outbox, self._heartbeat, self._presence = (
            parts.outbox,
            parts.heartbeat,
            parts.presence,
        )

    def run(self) -> bool:
        """Work until drained. Returns whether every part ended as it should."""
        _log.info(
            "worker starts",
            extra=fields("worker_started", worker_id=self.worker_id, threads=self._threads),
        )
        for _ in range(self._threads):
            self._start("slot", self._slot)
        intakes = [self._start("intake", lambda: self._intake.run(self._drain_asked))]
        if self._has_high:
            watch = partial(self._intake.run, self._drain_asked, high=True)
            intakes.append(self._start("intake-high", watch))
        self._start("heartbeat", lambda: self._heartbeat.run(self._ended, self._executor.tidy))
        outbox = self._start("outbox", self._outbox.run)
        presence, reporting = self._presence, None
        if presence is not None:
            reporting = self._start("presence", partial(presence.run, self._ended))
        while not self._drain_asked.wait(SIGNALS_S):
            pass
        poll_ends = time.monotonic() + self._poll_s + INTAKE_S
        if presence is not None:
            presence.leaving()
        self._finish_or_release(intakes)
        self._outbox.close()
        outbox.join(GRACE_S)
        if self._patient:
            _join(intakes, poll_ends)
        self._ended.set()
        if presence is not None and reporting is not None:
            reporting.join(GRACE_S)
            presence.sign_off()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._executor.close()
        census = self._workload.census()
        _log.info(
            "worker ends",
            extra=fields(
                "worker_ended",
                worker_id=self.worker_id,
                in_hand=census.in_hand,
                running=sum(census.running.values()),
                pending=sum(census.pending.values()),
            ),
        )
        return not self._crashed

    def drain(self, *, patiently: bool = False) -> None:
        """Ask `run` to receive no more, to finish or give back what is in hand, and to return. If
        `patiently`, `run` also waits for a poll under way, up to `receive_wait_s`, and gives back
        at once what it brings."""
        self._patient = self._patient or patiently
        self._drain_asked.set()

    def leave_when_idle(self) -> None:
        """Go on working, but drain at the first idle moment. May be called from any thread or a
        signal handler."""
        self._exit_when_idle_s = 0.0

    def stop_tasks(self) -> None:
        """Tell every running task to end at once, and end its subprocesses."""
        for claimed in self._workload.in_hand():
            claimed.stop()

    # --- threads -----------------------------------------------------------------------------

    def _start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        def guarded() -> None:
            try:
                work()
            except Exception:  # noqa: BLE001 - logged, and the process ends with 1
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
            try:
                rest = self._executor.run(chunk)
            except SlotGivenUp:
                return
            self._done(chunk, rest, time.perf_counter() - started)

    def _done(self, chunk: Chunk, rest: list[Task], elapsed_s: float) -> None:
        if self._workload.done(chunk, rest, elapsed_s):
            self._settle_soon(chunk.claimed)

    def _replace_slot(self, chunk: Chunk, rest: list[Task], elapsed_s: float) -> None:
        """Start a slot's thread in the place of one whose task does not end."""
        self._start("slot", self._slot)
        self._done(chunk, rest, elapsed_s)

    def _settle_soon(self, claimed: ClaimedBundle) -> None:
        self._pool.submit(self._settle, claimed)

    def _settle(self, claimed: ClaimedBundle) -> None:
        with bound(claimed.bundle.trace_id):
            self._settle_bundle(claimed)

    def _settle_bundle(self, claimed: ClaimedBundle) -> None:
        job_id = claimed.bundle.job_id
        settled = False
        try:
            self._settlement.settle(claimed)
            settled = True
        except LeaseLost as error:
            _log.warning(
                "lease lost, the bundle's results are dropped",
                extra=fields("lease_lost", job_id=job_id, reason=str(error)),
            )
            self._telemetry.lost(claimed, self._clock.now())
        except TaskfleetError as error:
            _log.error(
                "a bundle could not be settled; it will be delivered again",
                extra=fields("settle_failed", job_id=job_id, reason=str(error)),
            )
        except Exception as error:  # noqa: BLE001 - one bundle must not stop the others
            self._asides.put(claimed.message, error, claimed.lease.owner)
        finally:
            self._workload.remove(claimed, settled=settled)
            if self._workload.idle_since() is not None:
                self._outbox.hurry()

    # --- the end -----------------------------------------------------------------------------

    def _leave_if_idle(self) -> None:
        """Drain after a long time without work. Called between two polls of the normal queue. A
        poll of the other one that is under way ends about now, and what it brings is given back."""
        left_s = self._idle_left_s()
        if left_s is not None and left_s <= 0:
            _log.info("nothing to do", extra=fields("worker_idle", worker_id=self.worker_id))
            self.drain(patiently=True)

    def _idle_left_s(self) -> float | None:
        """Seconds after which the worker leaves if no work comes; None if it has work, or stays
        anyway."""
        idle_since = self._workload.idle_since()
        if self._exit_when_idle_s is None or idle_since is None:
            return None
        idle_s = self._clock.now() - max(idle_since, self._intake.last_work_at)
        return self._exit_when_idle_s - idle_s

    def _wait_s(self) -> float:
        """Seconds for which a poll waits for a message: no longer than the worker may stay, so that
        the polls of both queues end together, and neither keeps its machine."""
        left_s = self._idle_left_s()
        return self._poll_s if left_s is None else min(self._poll_s, max(left_s, LAST_POLL_S))

    def _finish_or_release(self, intakes: list[threading.Thread]) -> None:
        """Finish what is in hand within the drain time-out; then give back the rest."""
        for claimed in self._workload.stop_starting():
            self._settle_soon(claimed)
        _join(intakes, time.monotonic() + INTAKE_S)
        deadline = time.monotonic() + self._drain_timeout_s
        if not self._workload.wait_empty(deadline - time.monotonic()):
            _log.warning(
                "drain time-out: running tasks are given back",
                extra=fields("drain_timeout", worker_id=self.worker_id),
            )
            self.stop_tasks()
            if not self._workload.wait_empty(GRACE_S):
                for claimed in self._workload.abandon():
                    self._settle(claimed)


def _join(threads: list[threading.Thread], until: float) -> None:
    """Wait for the threads to end, until this time of the monotonic clock."""
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
