"""What the worker measures: counts and times of each bundle, when it is claimed, settled or lost.
Owns which event counts as what; not the metrics themselves (`taskfleet.measure`), nor
where they and the spans go (`ec2_worker.outlets`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ec2_worker.claimed import ClaimedBundle
from taskfleet.measure import (
    COPIES,
    DUPLICATES,
    LEASES_LOST,
    QUEUE_SECONDS,
    RETRIES,
    RUN_SECONDS,
    TASKS,
    Recorder,
)
from taskfleet.task import TaskResult, TaskStatus

Spans = Callable[[ClaimedBundle, float, str], None]
"""Called with a bundle that left the worker's hand, when it did (epoch seconds), and its end:
`done`, `released` or `lost`."""
_COUNTED: tuple[tuple[Any, ...], ...] = (
    (TASKS, TaskStatus.SUCCEEDED, "succeeded"),
    (TASKS, TaskStatus.FAILED, "failed"),
    (TASKS, TaskStatus.CANCELLED, "cancelled"),
    (RETRIES, TaskStatus.QUEUED),
)
"""The metric in which a task of each status counts, and the labels after its kind."""


class Telemetry:
    """Measures bundles. Its methods may be called from any thread and never raise.

    recorder: adds up the counts and times.
    spans: makes spans of a trace; nothing unless given.
    """

    def __init__(
        self, recorder: Recorder | None = None, spans: Spans = lambda _claimed, _at, _end: None
    ) -> None:
        self.recorder = recorder or Recorder()
        self._spans = spans

    def claimed(self, claimed: ClaimedBundle) -> None:
        """A bundle was claimed. Its time in the queue counts at its first claim only: later ones
        also waited for a lease or for a retry."""
        if claimed.lease.attempt == 1 and not claimed.prior:
            waited_s = claimed.claimed_at - claimed.message.sent_at
            self.recorder.observe(QUEUE_SECONDS, [waited_s])

    def suppressed(self, outcome: str) -> None:
        """A delivery was not executed, since its bundle is done, or held by another worker, or in
        hand here."""
        self.recorder.count(DUPLICATES, outcome)

    def copied(self, kind: str) -> None:
        """A second copy of a task was started."""
        self.recorder.count(COPIES, kind)

    def settled(self, claimed: ClaimedBundle, at: float, end: str) -> None:
        """What became of a bundle was recorded: each of its tasks that this claim executed, failed
        or cancelled counts. `end` is `done` or `released`."""
        for kind, rows in _rows_by_kind(claimed).items():
            statuses = [row.status for row in rows]
            for metric, status, *outcome in _COUNTED:
                if count := statuses.count(status):
                    self.recorder.count(metric, kind, *outcome, by=count)
                    if count == len(rows):
                        break
            durations_s = [
                row.duration_s
                for row in rows
                if row.duration_s is not None and row.reused_from is None
            ]
            if durations_s:
                self.recorder.observe(RUN_SECONDS, durations_s, kind)
        self._spans(claimed, at, end)

    def lost(self, claimed: ClaimedBundle, at: float) -> None:
        """The lease of a bundle ended, so its results do not count."""
        self.recorder.count(LEASES_LOST)
        self._spans(claimed, at, "lost")


def _rows_by_kind(claimed: ClaimedBundle) -> dict[str, list[TaskResult]]:
    """Returns the results of this claim, without those that earlier claims recorded as final."""
    tasks = claimed.bundle.tasks
    if not claimed.prior and len({task.kind for task in tasks}) == 1:
        return {tasks[0].kind: list(claimed.results.values())}  # a shorter way for most bundles
    earlier = {index for index, row in claimed.prior.items() if row.status.final}
    by_kind: dict[str, list[TaskResult]] = {}
    for task in tasks:
        row = claimed.results.get(task.index)
        if row is not None and task.index not in earlier:
            by_kind.setdefault(task.kind, []).append(row)
    return by_kind
