"""The kinds of a stage and the versions of its workers, as clients see them. Owns which workers
count; not the kinds (`taskfleet.registry`) nor the reports (`taskfleet.provisioner.records`)."""

from __future__ import annotations

from taskfleet.ports import Clock
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.registry import Registry
from taskfleet.wire.http.kinds import KindList, KindView

MISSED_REPORTS = 3
"""Reports that a worker misses before it counts as dead."""


class Kinds:
    """Tells the kinds and the workers' versions.

    report_s: seconds between two reports of a worker.
    """

    def __init__(
        self, registry: Registry, records: FleetRecords, clock: Clock, report_s: float
    ) -> None:
        self._registry = registry
        self._records = records
        self._clock = clock
        self._report_s = report_s

    def view(self) -> KindList:
        """Returns all kinds by name, and each version that a living worker has reported."""
        kinds = [self._registry[name] for name in self._registry.names]
        alive_at = self._clock.now() - MISSED_REPORTS * self._report_s
        found: dict[str, set[str]] = {}
        for worker in self._records.workers():
            if worker.reported_at >= alive_at and not worker.leaving:
                for name, version in worker.versions.items():
                    found.setdefault(name, set()).add(version)
        return KindList(
            [
                KindView(
                    kind.name, kind.runs_in, kind.timeout_s, kind.retry.max_attempts, kind.schema
                )
                for kind in kinds
            ],
            {name: sorted(versions) for name, versions in sorted(found.items())},
        )
