"""The limit of tasks that one client may have waiting or running, so that no client fills a stage.
Owns what counts and when a batch is refused; not the size of the limit (`taskfleet.settings`).

There is no counter, which every task would have to update: the count is read from the client's
newest batches when it submits one, and only if there is a limit. The list of batches lags by
moments, so submissions at the same time may together go over the limit; and batches that lie behind
`SEEN_BATCHES` newer ones are not counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from taskfleet.batch import BatchRecord
from taskfleet.errors import InvalidTask, LimitReached
from taskfleet.ports import TaskMonitor

SEEN_BATCHES = 100
"""Most batches that are counted, the newest first: as many as DynamoDB reads in one call. They cost
about 100 read units, a hundred-thousandth of a dollar."""
RETRY_AFTER_S = 10.0
"""Seconds after which a client should try again. It is told no better time, since its tasks may end
at any moment."""


@dataclass(frozen=True)
class ClientLimit:
    """Refuses batches of a client that has too many tasks.

    max_waiting: most tasks that a client may have waiting or running; None for no limit.
    """

    max_waiting: int | None = None

    def check(
        self,
        monitor: TaskMonitor,
        client_id: str,
        batch_id: str,
        tasks: int | None,
        *,
        first: int | None = None,
    ) -> None:
        """Raises LimitReached if the client has no room for a new batch or part, and InvalidTask if
        it is over the limit by itself. What is recorded may always be sent again.

        tasks: the number of its tasks; None for a file that is not read yet.
        first: of a part, the tasks of its batch before it.
        """
        if self.max_waiting is None:
            return
        try:
            self.check_size(tasks or 0)
            batches = monitor.batches(client_id, limit=SEEN_BATCHES, cursor=None).items
            self._check_room(self.max_waiting, batches, tasks or 1)
        except (InvalidTask, LimitReached):
            earlier = monitor.batch(batch_id)
            if earlier is None or (first is not None and earlier.total <= first):
                raise

    def check_size(self, tasks: int) -> None:
        """Raises InvalidTask if a batch of so many tasks is over the limit by itself."""
        if self.max_waiting is not None and tasks > self.max_waiting:
            raise InvalidTask(
                f"{tasks} tasks are over the limit of {self.max_waiting} that one client may have "
                "waiting; send smaller batches one after another"
            )

    def _check_room(self, limit: int, batches: list[BatchRecord], tasks: int) -> None:
        """Raises LimitReached if there is no room for `tasks` more beside these batches."""
        waiting = 0
        for batch in batches:
            count = unended(batch)
            if count is None:
                raise LimitReached(
                    f"the file of batch {batch.batch_id} is still being read, and the limit is "
                    f"{limit} tasks for one client; send this batch once it is read or cancelled",
                    RETRY_AFTER_S,
                )
            waiting += count
        if waiting + tasks > limit:
            raise LimitReached(
                f"{waiting} tasks of this client wait or run, and the limit is {limit}; send this "
                "batch again when some of them have ended",
                RETRY_AFTER_S,
            )


NO_LIMIT = ClientLimit()
"""Takes every batch."""


def unended(batch: BatchRecord) -> int | None:
    """Returns how many tasks of the batch wait or run; None while its file is being read, since it
    may have any number. Those of a cancelled batch count until workers have taken them from the
    queue."""
    if batch.cancelled_at is not None:
        return max(batch.enqueued - batch.tally.total, 0)
    if batch.upload is not None and not batch.closed and not batch.upload.checked:
        return None
    return max(batch.expected_total - batch.tally.total, 0)
