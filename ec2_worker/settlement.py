"""The end of a claim: committing a bundle whose tasks have their results, and answering; or
releasing it with its progress. The steps before belong to `ec2_worker.protocol`, publishing and
deleting to `ec2_worker.outbox`."""

from __future__ import annotations

import logging
import random
from typing import NamedTuple

from ec2_worker.claimed import ClaimedBundle
from ec2_worker.logs import Logs
from ec2_worker.outbox import Letter, Outbox
from ec2_worker.reuse import Reuse
from ec2_worker.telemetry import Telemetry
from taskfleet.bundle import Bundle, Response
from taskfleet.errors import LeaseLost, TransientError
from taskfleet.log import fields
from taskfleet.pace import Sample
from taskfleet.ports import Clock, Message, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.retry import backoff_s
from taskfleet.task import TaskResult, TaskStatus

_log = logging.getLogger(__name__)


class Recorded(NamedTuple):
    """The final results of a bundle as the table has them, and the checksum of that record."""

    results: list[TaskResult]
    checksum: int


class Settlement:
    """The last steps of the protocol, on the worker's ports. It keeps no state of its own."""

    def __init__(
        self,
        *,
        tasks: TaskQueue,
        monitor: TaskMonitor,
        logs: Logs,
        outbox: Outbox,
        registry: Registry,
        reuse: Reuse,
        telemetry: Telemetry,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._tasks = tasks
        self._monitor = monitor
        self._logs = logs
        self._outbox = outbox
        self._registry = registry
        self._reuse = reuse
        self._telemetry = telemetry
        self._clock = clock
        self._rng = rng

    def settle(self, claimed: ClaimedBundle) -> None:
        """Commit and answer when every task has its result; else release the bundle with its
        progress. Tries again while the lease lives, and raises LeaseLost when it ends. What the
        tasks printed is stored before, so that a row never points to a missing object."""
        self._logs.keep(claimed)
        wait_s = 0.1
        while True:
            try:
                if claimed.finished:
                    self._commit(claimed)
                else:
                    self._release(claimed)
                return
            except TransientError as error:
                if self._clock.now() + wait_s >= claimed.lease.expires_at:
                    raise LeaseLost(f"could not settle before the lease ended: {error}") from error
                _log.warning(
                    "settling failed, trying again",
                    extra=fields("settle_failed", job_id=claimed.bundle.job_id, reason=str(error)),
                )
                self._clock.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)

    def _commit(self, claimed: ClaimedBundle) -> None:
        recorded = self.record(claimed)
        timings = self._timings(claimed, recorded.results)
        self.publish(claimed.bundle, recorded, claimed.message, claimed.poison, timings)

    def record(self, claimed: ClaimedBundle) -> Recorded:
        """Record the final results and return them, in the order of the tasks."""
        bundle = claimed.bundle
        results = [claimed.results[task.index] for task in bundle.tasks]
        checksum = self._monitor.commit(
            bundle.job_id, claimed.lease, tasks=bundle.tasks, results=results
        )
        self._telemetry.settled(claimed, self._clock.now(), "done")
        self._reuse.keep(bundle, results)
        return Recorded(results, checksum)

    def publish(
        self,
        bundle: Bundle,
        recorded: Recorded,
        message: Message,
        poison: str | None,
        timings: dict[str, Sample],
    ) -> None:
        """Answer for a bundle that is DONE, and delete its message.

        poison: why the message becomes a dead letter instead; None when it does not.
        """
        response = Response(
            bundle.job_id,
            bundle.client_id,
            bundle.batch_id,
            recorded.results,
            bundle.legacy,
            timings,
            traceparent=bundle.traceparent,
            checksum=recorded.checksum,
        )
        self._outbox.put(Letter(response, message, poison))

    def _timings(self, claimed: ClaimedBundle, results: list[TaskResult]) -> dict[str, Sample]:
        """The durations of the bundle's tasks by the name of their pace, for kinds that do not say
        beforehand."""
        if not claimed.prior and not claimed.paces:
            return {}  # all kinds said so beforehand
        timed = [
            (task, row.duration_s)
            for task, row in zip(claimed.bundle.tasks, results, strict=True)
            if row.status is TaskStatus.SUCCEEDED
            and row.duration_s is not None
            and row.reused_from is None
        ]
        expected_s = self._registry.expected_s([task for task, _ in timed])
        samples: dict[str, Sample] = {}
        for (task, duration_s), seconds in zip(timed, expected_s, strict=True):
            if seconds is None:
                name = self._registry.pace_name(task)
                samples[name] = samples.get(name, Sample()).add(duration_s)
        return samples

    def _release(self, claimed: ClaimedBundle) -> None:
        job_id = claimed.bundle.job_id
        rows = claimed.rows_to_release()
        self._monitor.release(job_id, claimed.lease, tasks=claimed.bundle.tasks, results=rows)
        claimed.released = True  # before the message is visible: it may come back at once
        retried = [r.attempts for r in claimed.results.values() if not r.status.final]
        unfinished = len(claimed.bundle.tasks) - sum(row.status.final for row in rows)
        all_failed = len(retried) == unfinished
        delay_s = backoff_s(min(retried), self._rng) if all_failed else 0.0
        self._tasks.change_visibility([(claimed.message, delay_s)])
        # Not before: when this fails, `settle` comes here again.
        self._telemetry.settled(claimed, self._clock.now(), "released")
