"""Storing what the tasks of a bundle printed: while they run, so that a client can read along, and
when the bundle leaves the worker. Owns when that is done and what the rows then say; not the
keeping (`ec2_worker.output`) nor the reading (`taskfleet.output`).

One object for each claim of a bundle has the output of all its tasks, and is stored as a whole each
time. A bundle whose tasks print nothing costs no call.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from msgspec.structs import replace

from ec2_worker.claimed import ClaimedBundle
from ec2_worker.output import key as output_key
from taskfleet.bundle import bundle_number
from taskfleet.errors import TaskfleetError
from taskfleet.log import bound, fields
from taskfleet.ports import Clock, ObjectStore

_log = logging.getLogger(__name__)

BYTES_PER_S = 100_000
"""Most bytes a second, on average, that the output of one bundle in hand is stored at: an object of
10 MB is stored every 100 s."""
CONTENT_TYPE = "text/plain; charset=utf-8"


class Logs:
    """Stores the output of bundles.

    interval_s: least seconds between two times that the output of one bundle is stored.
    """

    def __init__(self, store: ObjectStore, clock: Clock, *, interval_s: float) -> None:
        self._store = store
        self._clock = clock
        self._interval_s = interval_s

    def is_due(self, claimed: ClaimedBundle, now: float) -> bool:
        """Returns whether a bundle in hand has or may have output that is to be stored."""
        output = claimed.output
        if not output.is_used or claimed.settling or claimed.lost:
            return False
        pause_s = max(self._interval_s, output.size / BYTES_PER_S)
        return now >= max(claimed.claimed_at, claimed.logs.at) + pause_s

    def show(self, bundles: Iterable[ClaimedBundle]) -> None:
        """Store the output of bundles in hand as far as it is new, and have their next heartbeat
        record where it is. Never raises: the next time may do."""
        for claimed in bundles:
            with bound(claimed.bundle.trace_id), claimed.logs.storing:
                if claimed.settling or claimed.lost:
                    continue
                claimed.logs.at = self._clock.now()
                claimed.output.refresh()
                if self._put(claimed, "not_stored"):
                    claimed.has_news = True

    def keep(self, claimed: ClaimedBundle) -> None:
        """Store the output of a bundle that leaves the worker, and note in the rows of its tasks
        where it is. Output that cannot be stored is lost, and costs no result."""
        with claimed.logs.storing:
            self._put(claimed, "lost")
            for index, (ref, _) in claimed.logs.shown.items():
                if (row := claimed.results.get(index)) is not None:
                    claimed.results[index] = replace(row, log=ref)

    def _put(self, claimed: ClaimedBundle, failed: str) -> bool:
        """Store the output if there is news. Returns whether there was."""
        output, logs, bundle = claimed.output, claimed.logs, claimed.bundle
        if output.changes == logs.changes or bundle.legacy is not None:
            return False
        changes = output.changes
        name = output_key(bundle.batch_id, bundle_number(bundle.job_id), claimed.lease.owner)
        try:
            taken = output.snapshot()
            self._store.put_file(name, taken.file, content_type=CONTENT_TYPE)
        except (OSError, TaskfleetError) as error:
            _log.warning(
                f"the output of a bundle's tasks is {failed.replace('_', ' ')}",
                extra=fields(f"output_{failed}", job_id=bundle.job_id, reason=str(error)),
            )
            return False
        logs.changes = changes
        logs.shown = {
            index: ((name, *place), taken.started.get(index))
            for index, place in taken.places.items()
        }
        return True
