"""The audit of a batch: whether what was counted, what is recorded and what was submitted agree.
Owns the rule and the digest of the results, as pure functions; not the reading of the table
(`taskfleet.scheduler.audits`).

The digest is the SHA-256 over one line for each final result, in the order of their indexes: the
JSON array `[index, status, result, error]` without blanks, with the keys of objects sorted and
every character outside ASCII escaped, and a line feed. The result is the one that was recorded, as
`GET /batches/{batch_id}/results?recorded=true` gives it. In Python:

    lines = (
        json.dumps([r["index"], r["status"], r["result"], r["error"]],
                   sort_keys=True, separators=(",", ":")) + "\\n"
        for r in rows
    )
    hashlib.sha256("".join(lines).encode()).hexdigest()
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Container
from typing import Any

from taskfleet.batch import BatchRecord, Tally
from taskfleet.errors import PermanentError
from taskfleet.lease import BundleStatus
from taskfleet.ports import BundleRecord
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.http.batches import AuditView
from taskfleet.wire.http.times import iso_time

FAULTS_SHOWN = 100
"""Most faults that a receipt names; the others are only counted."""

Value = Callable[[TaskResult], Any]
"""Returns the recorded result of a row. Raises PermanentError if its object is gone."""


def digest_line(index: int, status: str, result: Any, error: str | None) -> bytes:
    """Returns what one result adds to the digest."""
    fields = [index, status, result, error]
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode() + b"\n"


class Audit:
    """The audit of one batch. `bundle` is called for each of its bundles, in order of their
    numbers; `receipt` says what was found.

    counted: the numbers of the bundles that the batch has counted.
    value: reads the result of a row.
    """

    def __init__(self, batch: BatchRecord, counted: Container[int], value: Value) -> None:
        self._batch = batch
        self._counted = counted
        self._value = value
        self._seen = bytearray(batch.total)
        self._statuses: list[TaskStatus] = []
        self._attempts = 0
        self._checksum = 0
        self._done = 0
        self._digest = hashlib.sha256()
        self._faults: list[str] = []
        self._fault_count = 0

    def bundle(self, number: int, record: BundleRecord | None, unreadable: str = "") -> None:
        """Take in a bundle's record, None if it has none. `unreadable` says why one that is there
        cannot be read."""
        counted = number in self._counted
        if unreadable:
            self._fault(f"the record of bundle {number} cannot be read: {unreadable}")
            return
        if record is None or record.status is not BundleStatus.DONE:
            state = "missing" if record is None else record.status
            if counted:
                self._fault(f"bundle {number} is counted, and its record is {state}")
            return
        self._done += 1
        if counted:
            self._checksum += record.checksum
        elif self._batch.finished:
            self._fault(f"bundle {number} has its results, and is not counted")
        if record.sealed is not None and record.sealed != record.checksum:
            self._fault(f"bundle {number} does not hold what was recorded in it")
        for row in sorted(record.results, key=lambda row: row.index):
            self._row(number, row)

    def _row(self, number: int, row: TaskResult) -> None:
        index = row.index
        if not 0 <= index < len(self._seen):
            self._fault(f"bundle {number} has a result of task {index}, which the batch has not")
            return
        if not row.status.final:
            self._fault(f"task {index} has no result in bundle {number}, which is done")
            return
        if self._seen[index]:
            self._fault(f"task {index} has more than one result, again in bundle {number}")
            return
        self._seen[index] = 1
        self._statuses.append(row.status)
        self._attempts += row.attempts
        error = row.error
        try:
            value = self._value(row)
        except PermanentError as gone:
            value, error = None, str(gone)
            self._fault(f"task {index} has lost its result: {gone}")
        self._digest.update(digest_line(index, row.status, value, error))

    def _fault(self, words: str) -> None:
        self._fault_count += 1
        if len(self._faults) < FAULTS_SHOWN:
            self._faults.append(words)

    def receipt(self, now: float) -> AuditView:
        """Returns the receipt, as of `now` in epoch seconds."""
        batch = self._batch
        found = Tally.of([TaskResult(0, status) for status in self._statuses])
        if batch.finished:
            self._compare(found)
        return AuditView(
            batch_id=batch.batch_id,
            at=iso_time(now),
            finished=batch.finished,
            balanced=batch.finished and not self._fault_count,
            total=batch.total,
            succeeded=found.succeeded,
            failed=found.failed,
            cancelled=found.cancelled,
            attempts=self._attempts,
            bundles=batch.bundles,
            bundles_done=self._done,
            sha256=self._digest.hexdigest(),
            faults=self._faults,
            fault_count=self._fault_count,
        )

    def _compare(self, found: Tally) -> None:
        """Compare what is recorded of a finished batch with what was submitted and counted."""
        for first, last in _gaps(self._seen):
            what = f"task {first} has" if first == last else f"tasks {first} to {last} have"
            self._fault(f"{what} no result")
        for name in ("succeeded", "failed", "cancelled"):
            counted, recorded = getattr(self._batch.tally, name), getattr(found, name)
            if counted != recorded:
                self._fault(f"{counted} tasks are counted as {name}, {recorded} are recorded so")
        if self._batch.checksum and self._checksum != self._batch.checksum:
            self._fault(
                "the records of the bundles are not those that were counted: their checksums add "
                f"up to {self._checksum}, those of the answers to {self._batch.checksum}"
            )


def _gaps(seen: bytearray) -> list[tuple[int, int]]:
    """Returns the first and the last index of each run of tasks that were not seen."""
    gaps, end = [], 0
    while (first := seen.find(0, end)) >= 0:
        end = seen.find(1, first)
        end = len(seen) if end < 0 else end
        gaps.append((first, end - 1))
    return gaps
