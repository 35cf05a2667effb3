"""Tells the world that a batch has ended. Owns what is told, and what becomes of a failure; not how
the end of a batch is noticed (`taskfleet.scheduler.ended`) nor how an event is sent
(`taskfleet.scheduler.ports`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from taskfleet.batch import BatchRecord
from taskfleet.errors import TaskfleetError, TransientError
from taskfleet.log import fields
from taskfleet.ports import Clock
from taskfleet.scheduler.ports import EventSink
from taskfleet.scheduler.results import view
from taskfleet.wire.events import FinishedBatch

_log = logging.getLogger(__name__)


class Announcements:
    """Sends an event for each batch that has ended.

    sinks: where events go; all get each event.
    stage: the stage, which stands in the event.
    """

    def __init__(self, sinks: Sequence[EventSink], stage: str, clock: Clock) -> None:
        self._sinks = sinks
        self._stage = stage
        self._clock = clock

    def tell(self, batch: BatchRecord) -> None:
        """Send the event that the batch has ended to each sink. A listener of
        `taskfleet.scheduler.ended.Ended`.

        Raises TransientError, after all sinks had their turn, so that the event is sent again. Any
        other failure, such as a missing permission, is logged only: it would come again, and must
        not keep results from being counted.
        """
        shown = view(batch, self._clock.now())
        event = FinishedBatch(
            **{name: getattr(shown, name) for name in shown.__struct_fields__},
            client_id=batch.client_id,
            stage=self._stage,
        )
        passing: TransientError | None = None
        for sink in self._sinks:
            try:
                sink.send(event)
            except TransientError as error:
                passing = passing or error
            except TaskfleetError as error:
                _log.error(
                    "the event of a batch was not sent",
                    extra=fields("event_lost", batch_id=batch.batch_id, reason=str(error)),
                )
        if passing is not None:
            raise passing
