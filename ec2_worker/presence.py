"""The worker's reports about itself: a record in `Task_Monitor` about every `Settings.beat_s`, and
at once when the worker becomes busy or idle. The provisioner reads them
(`taskfleet.provisioner.observe`).

The answer to a report says whether the worker was asked to leave. Leases are another matter
(`ec2_worker.heartbeat`): a worker whose reports do not arrive goes on working.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import metadata

from msgspec.structs import replace

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
"""Least seconds between two reports."""
UNFED_S = 3.0
"""Seconds without a message, while there is room for one, after which the queue counts as empty."""
REPORTED_PACKAGES = ("cloudpickle",)
"""Packages whose versions a worker reports: those that a client's must fit."""


class Presence:
    """Reports until `run` ends; `sign_off` is the last report. `leave` is called when the worker is
    asked to leave."""

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
        report_s: float,
        leave: Callable[[], None],
    ) -> None:
        self._records = records
        self._workload = workload
        self._intake = intake
        self._clock = clock
        self._leave = leave
        self._report_s = report_s
        self._known = WorkerRecord(
            worker_id,
            instance_id,
            slots,
            kinds,
            started_at=clock.now(),
            reported_at=clock.now(),
            limits=dict(limits),
            versions=_versions(),
        )
        self._last: WorkerRecord | None = None
        self._leaving = False

    def run(self, ended: threading.Event) -> None:
        """Report when due, until `ended`."""
        while True:
            self.report_if_due()
            if ended.wait(min(1.0, self._report_s / 3)):
                return

    def leaving(self) -> None:
        """Let the next report, which comes soon, say that the worker drains."""
        self._leaving = True

    def report_if_due(self) -> None:
        """Report, if something changed or the last report is old."""
        now, last = self._clock.now(), self._last
        record = self._record(now)
        if last is not None:
            since_s = now - last.reported_at
            changed = (
                bool(record.busy) != bool(last.busy)
                or record.leaving != last.leaving
                or record.finds_queue_empty != last.finds_queue_empty
            )
            if since_s < (min(CHANGE_S, self._report_s) if changed else self._report_s):
                return
        try:
            asked = self._records.report(record)
        except TaskfleetError as error:
            _log.warning(
                "the worker could not report", extra=fields("beat_failed", reason=str(error))
            )
            return
        self._last = record
        if asked and not self._leaving:
            _log.info("asked to leave", extra=fields("worker_retired", worker_id=record.worker_id))
            self._leave()

    def sign_off(self) -> None:
        """Report for the last time. The counts are final, when all that was in hand has been
        recorded or given back."""
        self._leaving = True
        last = replace(self._record(self._clock.now()), signed_off=True)
        try:
            self._records.sign_off(last)
        except TaskfleetError as error:
            # The record grows old and expires.
            _log.warning("not signed off", extra=fields("sign_off_failed", reason=str(error)))

    def _record(self, now: float) -> WorkerRecord:
        known = self._known
        census = self._workload.census()
        finds_queue_empty = self._workload.has_room() and now - self._intake.last_work_at > UNFED_S
        return WorkerRecord(
            known.worker_id,
            known.instance_id,
            known.slots,
            known.kinds,
            known.started_at,
            now,
            running=census.running,
            pending=census.pending,
            limits=known.limits,
            bundles=census.claimed,
            finds_queue_empty=finds_queue_empty and not self._leaving,
            leaving=self._leaving,
            versions=known.versions,
            ended=census.ended,
        )


def _versions() -> dict[str, str]:
    """Returns this process's versions of Python and of the reported packages that it has."""
    found = {"python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for name in REPORTED_PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
