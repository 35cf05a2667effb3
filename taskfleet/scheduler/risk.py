"""Why a batch will miss its deadline or its budget, or has missed its deadline. Owns what a reader
of the batch is told; the provisioner finds the reasons out in its rounds
(`taskfleet.provisioner.risks`)."""

from __future__ import annotations

from collections.abc import Sequence

from taskfleet.batch import BatchRecord
from taskfleet.provisioner.ports import FleetRecords


class Risks:
    """Finds the reasons for batches that are read.

    records: has what the provisioner told; None where there is no provisioner.
    """

    def __init__(self, records: FleetRecords | None) -> None:
        self._records = records

    def told(self, batches: Sequence[BatchRecord]) -> dict[str, str]:
        """Returns what the provisioner told in its last round of those of these batches that will
        miss a goal, by id. Reads nothing unless a batch that runs has a goal."""
        watched = [b for b in batches if b.options and b.options.has_goal and not b.finished]
        if self._records is None or not watched:
            return {}
        state = self._records.state()
        return {
            batch.batch_id: entry.at_risk
            for batch in watched
            if (entry := state.watched.get(batch.batch_id)) is not None and entry.at_risk
        }


def at_risk(batch: BatchRecord, now: float, told: str | None) -> str | None:
    """Returns why the batch will miss, or has missed, its goal; None if it has none or will not.

    told: what the provisioner told of it.
    """
    if batch.options is None or batch.cancelled_at is not None:
        return None
    late_s = 0.0
    if batch.options.deadline_s is not None:
        ends_at = now if batch.finished_at is None else batch.finished_at
        late_s = ends_at - batch.created_at - batch.options.deadline_s
    if batch.finished:
        return f"it ended {late_s:.0f} s after its deadline" if late_s > 0 else None
    if late_s > 0:
        return f"its deadline passed {late_s:.0f} s ago"
    return told
