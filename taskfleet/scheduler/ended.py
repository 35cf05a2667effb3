"""The end of a batch, and who is told of it. Owns when and how often listeners are called; not what
they do.

A batch ends by one write to its record: the count of its last result, its cancellation or its
closing. Whoever makes the write, or makes it again, gets the record back and hands it to `Ended`. A
count is made again when its response is delivered again, a cancellation or a closing when its
client repeats the request after an error. So a process that dies between the write and the call
loses no end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from taskfleet.batch import BatchRecord
from taskfleet.errors import TaskfleetError
from taskfleet.log import fields

_log = logging.getLogger(__name__)

Listener = Callable[[BatchRecord], None]
"""Is called with a batch that has ended, once or more often, also by several processes at a time.
It raises an error only if a repetition may help: the caller then repeats the whole call."""


class Ended:
    """Tells listeners that a batch has ended.

    listeners: are called in this order.
    """

    def __init__(self, *listeners: Listener) -> None:
        self._listeners = listeners

    def tell(self, batch: BatchRecord) -> None:
        """Call each listener with the batch, unless it has not ended. An error of one listener
        keeps no other from being called. Raises the first error when all have been called."""
        if not batch.finished:
            return
        failures: list[TaskfleetError] = []
        for listener in self._listeners:
            try:
                listener(batch)
            except TaskfleetError as error:
                _log.warning(
                    "the end of a batch was not told to all",
                    extra=fields("end_untold", batch_id=batch.batch_id, reason=str(error)),
                )
                failures.append(error)
        if failures:
            raise failures[0]


UNHEARD = Ended()
"""Tells nobody."""
