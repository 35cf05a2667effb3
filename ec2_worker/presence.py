"""The worker tells of itself: a record in `Task_Monitor` about every `beat_s`, at once when it
becomes busy or idle. Owns the beat; what the provisioner makes of it is
`taskfleet.provisioner.observe`'s.

Its answer says whether the worker was asked to leave. The lease of what is in hand is another
matter (`ec2_worker.heartbeat`): a worker whose beats do not arrive goes on working.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from ec2_worker.intake import Intake
from ec2_worker.workload import Workload
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import Clock
from taskfleet.provisioner.ports import (
    FleetRecords,
)
from taskfleet.provisioner.records import WorkerRecord

_log = logging.getLogger(__name__)

CHANGE_S = 2.0
"""The least time between two beats."""
UNFED_S = 3.0
"""After so long without a message, and with room for one, the queue has none."""


class Presence:
    """`run` beats until `ended`; `sign_off` is the last word. `leave` is called when the worker is
    asked to."""

    def __init__(
        self,
        records: FleetRecords,
        workload: Workload,
        intake: Intake,
        clock: Clock,
        *,
        worker_id: str,
        instance_id: str | None,
        slots: int,
        kinds: list[str],
        limits: Mapping[str, int],
        beat_s: float,
        leave: Callable[[], None],
    ) -> None:
        self._records = records
        self._workload = workload
        self._intake = intake
        self._clock = clock
        self._leave = leave
        self._beat_s = beat_s
        self._known = WorkerRecord(
            worker_id,
            instance_id,
            slots,
            kinds,
            started_at=clock.now(),
            reported_at=clock.now(),
            limits=dict(limits),
        )
        self._last: WorkerRecord | None = None
        self._leaving = False

    def run(self, ended: threading.Event) -> None:
        while True:
            self.beat_if_due()
            if ended.wait(min(1.0, self._beat_s / 3)):
                return

    def leaving(self) -> None:
        """The worker drains: the next beat says so, and comes soon."""
        self._leaving = True

    def beat_if_due(self) -> None:
        now, last = self._clock.now(), self._last
        record = self._record(now)
        if last is not None:
            since_s = now - last.reported_at
            changed = (
                bool(record.busy) != bool(last.busy)
                or record.leaving != last.leaving
                or record.finds_queue_empty != last.finds_queue_empty
            )
            if since_s < (min(CHANGE_S, self._beat_s) if changed else self._beat_s):
                return
        try:
            asked = self._records.report(record)
        except TaskfleetError as error:
            _log.warning("no beat", extra=fields("beat_failed", reason=str(error)))
            return
        self._last = record
        if asked and not self._leaving:
            _log.info("asked to leave", extra=fields("worker_retired", worker_id=record.worker_id))
            self._leave()

    def sign_off(self) -> None:
        try:
            self._records.sign_off(self._known.worker_id)
        except TaskfleetError as error:
            # The record grows old, and goes with its time to live.
            _log.warning("not signed off", extra=fields("sign_off_failed", reason=str(error)))

    def _record(self, now: float) -> WorkerRecord:
        known = self._known
        running, pending, bundles = self._workload.census()
        hungry = self._workload.has_room() and now - self._intake.last_work_at > UNFED_S
        return WorkerRecord(
            known.worker_id,
            known.instance_id,
            known.slots,
            known.kinds,
            known.started_at,
            now,
            running=running,
            pending=pending,
            limits=known.limits,
            bundles=bundles,
            finds_queue_empty=hungry and not self._leaving,
            leaving=self._leaving,
        )
