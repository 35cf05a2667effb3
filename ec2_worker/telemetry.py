"""What the worker measures: counts and times of each bundle, when it is claimed, settled or lost.
Owns which event counts as what; not the metrics themselves (`taskfleet.measure`), nor
where they and the spans go (`ec2_worker.outlets`)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ec2_worker.claimed import ClaimedBundle
from taskfleet.measure import (
    DUPLICATES,
    LEASES_LOST,
    QUEUE_SECONDS,
    RETRIES,
    RUN_SECONDS,
    TASKS,
    Recorder,
)

Spans = Callable[[ClaimedBundle, float, str], None]
"""Called with a bundle that left the worker's hand, when it did (epoch seconds), and its end:
`done`, `released` or `lost`."""


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

    def settled(self, claimed: ClaimedBundle, at: float) -> None:
        """What became of a bundle was recorded: each of its tasks that this claim executed, failed
        or cancelled counts."""
        outcomes: Counter[tuple[str, str]] = Counter()
        retries: Counter[str] = Counter()
        durations_s: dict[str, list[float]] = {}
        prior = {index for index, row in claimed.prior.items() if row.status.final}
        for task in claimed.bundle.tasks:
            row = claimed.results.get(task.index)
            if row is None or task.index in prior:
                continue
            if row.status.final:
                outcomes[task.kind, row.status.value.lower()] += 1
            else:
                retries[task.kind] += 1
            if row.duration_s is not None:
                durations_s.setdefault(task.kind, []).append(row.duration_s)
        for labels, count in outcomes.items():
            self.recorder.count(TASKS, *labels, by=count)
        for kind, count in retries.items():
            self.recorder.count(RETRIES, kind, by=count)
        for kind, values_s in durations_s.items():
            self.recorder.observe(RUN_SECONDS, values_s, kind)
        self._spans(claimed, at, "done" if claimed.finished else "released")

    def lost(self, claimed: ClaimedBundle, at: float) -> None:
        """The lease of a bundle ended, so its results do not count."""
        self.recorder.count(LEASES_LOST)
        self._spans(claimed, at, "lost")
