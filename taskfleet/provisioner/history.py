"""`GET /fleet/history`: how the fleet stood over time, for charts. Owns the view of the points that
the provisioner recorded (`taskfleet.provisioner.points`)."""

from __future__ import annotations

from taskfleet.ports import Clock
from taskfleet.provisioner.points import Point
from taskfleet.provisioner.ports import FleetRecords
from taskfleet.wire.http.fleet import FleetHistory, FleetPoint
from taskfleet.wire.http.times import iso_time


class Histories:
    """Reads the history on behalf of clients."""

    def __init__(self, records: FleetRecords, clock: Clock) -> None:
        self._records = records
        self._clock = clock

    def view(self, minutes: int) -> FleetHistory:
        """Returns the points of the last so many minutes, oldest first."""
        now = self._clock.now()
        return FleetHistory([_shown(point) for point in self._records.points(now - minutes * 60)])


def _shown(point: Point) -> FleetPoint:
    return FleetPoint(
        iso_time(point.at),
        point.backlog,
        point.in_flight,
        point.running,
        point.ended,
        point.slots,
        point.workers,
        point.instances,
        point.desired,
        point.usd_per_hour,
    )
