"""Keeping what is in hand: leases and visibility are renewed together, lost leases are dropped,
bundles that overstay are given back, and cancelled batches are noticed. A renewal also notes which
task of a careful bundle starts. What running tasks print is stored beside, in a thread of the pool,
since no lease may wait for it. The renewal itself belongs to `ec2_worker.protocol`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future

from ec2_worker.batchwatch import REFRESH_S, BatchWatch
from ec2_worker.claimed import ClaimedBundle
from ec2_worker.logs import Logs
from ec2_worker.protocol import BundleProtocol
from ec2_worker.telemetry import Telemetry
from ec2_worker.workload import Workload
from taskfleet.errors import LeaseLost, TaskfleetError
from taskfleet.log import bound, fields
from taskfleet.ports import Clock, TaskQueue
from taskfleet.task import Task

_log = logging.getLogger(__name__)


PROGRESS_S = 2.0
"""Most seconds by which the progress of a running task, as a client sees it, may be old."""


class Heartbeat:
    """Renews the leases. `beat` looks at everything in hand once; `run` does so about every second.

    settle: called with bundles of which nothing is left to run.
    """

    def __init__(
        self,
        workload: Workload,
        protocol: BundleProtocol,
        tasks: TaskQueue,
        watch: BatchWatch,
        clock: Clock,
        telemetry: Telemetry,
        *,
        lease_s: float,
        heartbeat_s: float,
        worker_id: str,
        logs: Logs,
        pool: Executor,
        settle: Callable[[ClaimedBundle], None],
    ) -> None:
        self._workload = workload
        self._protocol = protocol
        self._tasks = tasks
        self._watch = watch
        self._clock = clock
        self._telemetry = telemetry
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._worker_id = worker_id
        self._logs = logs
        self._pool = pool
        self._storing: Future[None] | None = None
        self._settle = settle
        self._watched_at = clock.now()

    def run(self, ended: threading.Event, tidy: Callable[[], None] = lambda: None) -> None:
        """Beat until `ended`, and call `tidy` as often."""
        while not ended.wait(min(1.0, self._heartbeat_s / 3)):
            self.beat()
            tidy()

    def beat(self) -> None:
        """Renew the leases that are due, and drop those that are lost."""
        now = self._clock.now()
        self._show_output(now)
        due = [claimed for claimed in self._workload.in_hand() if self._is_due(claimed, now)]
        if due:
            self._keep_invisible(due)
        for claimed in due:
            with bound(claimed.bundle.trace_id):
                self._renew(claimed)
        for claimed in self._workload.give_back_overdue():
            self._settle(claimed)
        if now - self._watched_at >= REFRESH_S:
            self._watched_at = now
            self._notice_cancelled()

    def _show_output(self, now: float) -> None:
        """Have the output of running tasks stored. What is stored counts as news for a renewal."""
        if self._storing is not None and not self._storing.done():
            return
        due = [claimed for claimed in self._workload.in_hand() if self._logs.is_due(claimed, now)]
        if due:
            self._storing = self._pool.submit(self._logs.show, due)

    def _is_due(self, claimed: ClaimedBundle, now: float) -> bool:
        age_s = now - (claimed.lease.expires_at - self._lease_s)
        wait_s = min(PROGRESS_S, self._heartbeat_s) if claimed.has_news else self._heartbeat_s
        return age_s >= wait_s

    def _keep_invisible(self, due: list[ClaimedBundle]) -> None:
        try:
            stale = self._tasks.change_visibility([(c.message, self._lease_s) for c in due])
        except TaskfleetError as error:
            _log.warning(
                "visibility not extended", extra=fields("visibility_failed", reason=str(error))
            )
            return
        for claimed in [claimed for claimed in due if claimed.message in stale]:
            # The lease still says who runs the bundle: another delivery is put off, not executed.
            with bound(claimed.bundle.trace_id):
                _log.warning(
                    "a message became visible while its bundle is in hand",
                    extra=fields("receipt_stale", message_id=claimed.message.message_id),
                )

    def note(self, claimed: ClaimedBundle, task: Task) -> bool:
        """Note in the bundle's item that a task of a careful bundle is about to start. Returns
        whether the note is written: else the task must not start."""
        claimed.note(task.index, self._clock.now(), self._worker_id)
        return self._renew(claimed)

    def _renew(self, claimed: ClaimedBundle) -> bool:
        """Renew the lease. Returns whether it was renewed; a bundle that is lost is dropped."""
        try:
            self._protocol.renew(claimed)
            return True
        except LeaseLost as error:
            self._drop(claimed, str(error))
        except Exception as error:  # noqa: BLE001 - one bundle must not stop the others
            _log.warning(
                "lease not renewed",
                extra=fields("renew_failed", job_id=claimed.bundle.job_id, reason=str(error)),
                exc_info=None if isinstance(error, TaskfleetError) else error,
            )
            if not isinstance(error, TaskfleetError) and self._workload.give_back(claimed):
                self._settle(claimed)  # meets the error, too, so that the bundle is set aside
            if self._clock.now() >= claimed.lease.expires_at:
                self._drop(claimed, f"it ended before it could be renewed: {error}")
        return False

    def _drop(self, claimed: ClaimedBundle, reason: str) -> None:
        if claimed.settling or claimed.lost:
            return  # the condition of the commit decides, or another thread was here first
        _log.warning(
            "lease lost, the bundle is dropped",
            extra=fields("lease_lost", job_id=claimed.bundle.job_id, reason=reason),
        )
        self._telemetry.lost(claimed, self._clock.now())
        self._workload.lose(claimed)

    def _notice_cancelled(self) -> None:
        batches = {c.bundle.batch_id for c in self._workload.in_hand() if c.pending}
        try:
            cancelled = {batch_id for batch_id in batches if self._watch.cancelled(batch_id)}
        except TaskfleetError as error:
            _log.warning("batches not looked at", extra=fields("watch_failed", reason=str(error)))
            return
        for claimed in self._workload.cancel(cancelled):
            self._settle(claimed)
