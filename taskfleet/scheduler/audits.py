"""Audits batches on behalf of clients. Owns the reading; `taskfleet.scheduler.audit` has the
rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from taskfleet.batch import PAGE_BUNDLES, BatchRecord
from taskfleet.bundle import job_id
from taskfleet.errors import PermanentError, TooLarge
from taskfleet.ports import BundleRecord, Clock, TaskMonitor
from taskfleet.scheduler.audit import Audit
from taskfleet.scheduler.results import CALL_MAX_BUNDLES, Results
from taskfleet.wire.http.batches import AuditView

AUDIT_MAX_BUNDLES = 50_000
"""Most bundles that one answer audits: 500 reads of the table, about 15 seconds."""
_CALL_MAX_PAGES = 100
"""Most pages of counted bundles in one read."""


class Audits:
    """Reads and audits batches."""

    def __init__(self, results: Results, monitor: TaskMonitor, clock: Clock) -> None:
        self._results = results
        self._monitor = monitor
        self._clock = clock

    def audit(self, batch_id: str, *, client_id: str) -> AuditView:
        """Returns the receipt of the batch as it is now. Raises NotFound when the client has no
        such batch, TooLarge for one of more than `AUDIT_MAX_BUNDLES` bundles."""
        batch = self._results.own(batch_id, client_id)
        if batch.bundles > AUDIT_MAX_BUNDLES:
            raise TooLarge(
                f"the batch has {batch.bundles} bundles, more than the {AUDIT_MAX_BUNDLES} that "
                "one answer audits"
            )
        counted = self._counted(batch)
        audit = Audit(batch, counted, lambda row: self._results.recorded(batch_id, row))
        for number, record, unreadable in self._bundles(batch):
            audit.bundle(number, record, unreadable)
        return audit.receipt(self._clock.now())

    def _counted(self, batch: BatchRecord) -> frozenset[int]:
        """Returns the numbers of the bundles that are counted."""
        pages = range(-(-batch.bundles // PAGE_BUNDLES))
        counted: set[int] = set()
        for start in range(0, len(pages), _CALL_MAX_PAGES):
            found = self._monitor.counted(batch.batch_id, pages[start : start + _CALL_MAX_PAGES])
            counted |= found.bundles if found is not None else set()
        return frozenset(counted)

    def _bundles(self, batch: BatchRecord) -> Iterator[tuple[int, BundleRecord | None, str]]:
        """Yields the number and the record of each bundle, with the reason why one cannot be
        read."""
        for start in range(0, batch.bundles, CALL_MAX_BUNDLES):
            numbers = range(start, min(start + CALL_MAX_BUNDLES, batch.bundles))
            try:
                records = self._read(batch.batch_id, numbers)
            except PermanentError:
                yield from (self._alone(batch.batch_id, number) for number in numbers)
            else:
                yield from ((number, records.get(number), "") for number in numbers)

    def _alone(self, batch_id: str, number: int) -> tuple[int, BundleRecord | None, str]:
        try:
            return number, self._read(batch_id, [number]).get(number), ""
        except PermanentError as error:
            return number, None, str(error)

    def _read(self, batch_id: str, numbers: Sequence[int]) -> dict[int, BundleRecord]:
        ids = {job_id(batch_id, number): number for number in numbers}
        return {ids[found.job_id]: found for found in self._monitor.bundles(list(ids))}
