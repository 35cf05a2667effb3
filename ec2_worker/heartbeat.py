"""Keeping what is in hand: leases and visibility renewed together, lost ones dropped, bundles that
overstay given back, cancelled batches noticed. Owns the beat; what a renewal is belongs to
`attempt`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from ec2_worker.batchwatch import FRESH_S, BatchWatch
from ec2_worker.claimed import Holding
from ec2_worker.protocol import Attempt
from ec2_worker.workload import Workload
from taskfleet.errors import LeaseLost, TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import Clock, TaskQueue

_log = logging.getLogger(__name__)


PROGRESS_S = 2.0
"""How old the progress of a running task may be that a client sees."""


class Heartbeat:
    """`beat` looks at everything in hand once; `run` does so about every second. `settle` is
    called with holdings of which nothing is left to run."""

    def __init__(
        self,
        workload: Workload,
        attempt: Attempt,
        tasks: TaskQueue,
        watch: BatchWatch,
        clock: Clock,
        *,
        lease_s: float,
        heartbeat_s: float,
        settle: Callable[[Holding], None],
    ) -> None:
        self._workload = workload
        self._attempt = attempt
        self._tasks = tasks
        self._watch = watch
        self._clock = clock
        self._lease_s = lease_s
        self._heartbeat_s = heartbeat_s
        self._settle = settle
        self._looked_at = clock.now()

    def run(self, ended: threading.Event) -> None:
        while not ended.wait(min(1.0, self._heartbeat_s / 3)):
            self.beat()

    def beat(self) -> None:
        """Renew what is due, drop what is lost."""
        now = self._clock.now()
        due = [holding for holding in self._workload.holdings() if self._is_due(holding, now)]
        if due:
            self._keep_invisible(due)
        for holding in due:
            self._renew(holding)
        for holding in self._workload.give_back_overdue():
            self._settle(holding)
        if now - self._looked_at >= FRESH_S:
            self._looked_at = now
            self._notice_cancelled()

    def _is_due(self, holding: Holding, now: float) -> bool:
        age_s = now - (holding.lease.expires_at - self._lease_s)
        return age_s >= (PROGRESS_S if holding.has_news else self._heartbeat_s)

    def _keep_invisible(self, due: list[Holding]) -> None:
        try:
            stale = self._tasks.change_visibility([(h.message, self._lease_s) for h in due])
        except TaskfleetError as error:
            _log.warning(
                "visibility not extended", extra=fields("visibility_failed", reason=str(error))
            )
            return
        for message in stale:
            # The lease still says who runs it: another delivery of it is put off, not executed.
            _log.warning(
                "a message became visible while its bundle is in hand",
                extra=fields("receipt_stale", message_id=message.message_id),
            )

    def _renew(self, holding: Holding) -> None:
        try:
            self._attempt.renew(holding)
        except LeaseLost as error:
            self._drop(holding, str(error))
        except TaskfleetError as error:
            _log.warning(
                "lease not renewed",
                extra=fields("renew_failed", job_id=holding.bundle.job_id, reason=str(error)),
            )
            if self._clock.now() >= holding.lease.expires_at:
                self._drop(holding, f"it ended before it could be renewed: {error}")

    def _drop(self, holding: Holding, reason: str) -> None:
        if holding.settling:
            return  # the commit's own condition decides
        _log.warning(
            "lease lost, the bundle is dropped",
            extra=fields("lease_lost", job_id=holding.bundle.job_id, reason=reason),
        )
        self._workload.lose(holding)

    def _notice_cancelled(self) -> None:
        batches = {h.bundle.batch_id for h in self._workload.holdings() if h.pending}
        try:
            cancelled = {batch_id for batch_id in batches if self._watch.cancelled(batch_id)}
        except TaskfleetError as error:
            _log.warning("batches not looked at", extra=fields("watch_failed", reason=str(error)))
            return
        for holding in self._workload.cancel(cancelled):
            self._settle(holding)
