"""Runs the failed tasks of a batch again, as a new batch. Owns which tasks these are, and when it
may be done; not how a batch is taken in (`taskfleet.scheduler.submit`).
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from taskfleet.batch import BatchRecord
from taskfleet.errors import Conflict, InvalidTask, TooLarge
from taskfleet.options import BatchOptions
from taskfleet.scheduler.results import CALL_MAX_BUNDLES, Results, ended_as
from taskfleet.scheduler.submit import Submission
from taskfleet.task import TaskStatus
from taskfleet.wire.http.caps import MAX_TASKS

READ_MAX_BUNDLES = 20_000
"""Most bundles of a batch whose failed tasks are looked for: 200 calls, of some 50 ms each. A
request has 29 s."""


class Reruns:
    """Submits tasks of batches again on behalf of their clients.

    max_tasks, max_bundles: as the constants `MAX_TASKS` and `READ_MAX_BUNDLES`.
    """

    def __init__(
        self,
        results: Results,
        submission: Submission,
        *,
        max_tasks: int = MAX_TASKS,
        max_bundles: int = READ_MAX_BUNDLES,
    ) -> None:
        self._results = results
        self._submission = submission
        self._max_tasks = max_tasks
        self._max_bundles = max_bundles

    def retry(
        self,
        batch_id: str,
        *,
        client_id: str,
        statuses: frozenset[TaskStatus],
        idempotency_key: str | None = None,
        traceparent: str | None = None,
    ) -> BatchRecord:
        """Submit the tasks of the batch that ended with one of these statuses, in their order, with
        their own options and those of the batch but for `after`, under its name. Returns the new
        batch. The same `idempotency_key` gives the same batch; without one, each call makes
        another.

        Raises NotFound when the client has no such batch; Conflict while it has not ended;
        InvalidTask when it has no such task, or one whose kind is not there any more; TooLarge when
        it has too many; and what `Submission.submit` raises.
        """
        batch = self._results.own(batch_id, client_id)
        wanted = self._count(batch, statuses)
        return self._submission.submit(
            self._tasks(batch, statuses, wanted),
            client_id=client_id,
            name=batch.name,
            idempotency_key=idempotency_key,
            traceparent=traceparent,
            options=_options(batch),
            retry_of=batch_id,
        )

    def _count(self, batch: BatchRecord, statuses: frozenset[TaskStatus]) -> int:
        """Returns how many such tasks the batch has. Raises as `retry` does."""
        name, words = f"batch {batch.batch_id}", " or ".join(sorted(statuses))
        if not batch.finished:
            raise Conflict(
                f"{name} has not ended: {batch.tally.total} of {batch.expected_total} tasks have; "
                "retry when all have, or cancel it first"
            )
        wanted = ended_as(batch.tally, statuses)
        if not wanted:
            raise InvalidTask(f"{name} has no task that is {words}, so there is nothing to retry")
        instead = "read them with results?status= and submit them as a file through POST /uploads"
        if wanted > self._max_tasks:
            raise TooLarge(
                f"{name} has {wanted} tasks that are {words}, over the cap of {self._max_tasks} of "
                f"one retry; {instead}"
            )
        if batch.bundles > self._max_bundles:
            raise TooLarge(
                f"{name} has {batch.bundles} bundles, over the cap of {self._max_bundles} in which "
                f"one retry looks for tasks; {instead}"
            )
        return wanted

    def _tasks(
        self, batch: BatchRecord, statuses: frozenset[TaskStatus], wanted: int
    ) -> list[dict[str, Any]]:
        """Returns the tasks in the form in which a client submits them."""
        found: list[dict[str, Any]] = []
        bundles = self._results.bundles(batch.batch_id, range(batch.bundles), CALL_MAX_BUNDLES)
        for _, bundle in bundles:
            indexes = {result.index for result in bundle.results if result.status in statuses}
            found += [task.as_object for task in bundle.tasks if task.index in indexes]
            if len(found) >= wanted:
                break
        if len(found) != wanted:
            raise Conflict(
                f"only {len(found)} of the {wanted} tasks of batch {batch.batch_id} are recorded; "
                "submit them anew"
            )
        return found


def _options(batch: BatchRecord) -> BatchOptions | None:
    """Returns the options of the new batch: it waits for no other, since this one did."""
    if batch.options is None:
        return None
    return replace(batch.options, after=None, after_failures=None).whole
