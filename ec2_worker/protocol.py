"""One attempt at one bundle, from its message to its answer. Owns the order of the steps in which
such systems lose data; it stands here once, top to bottom:

    receive -> decode -> claim -> (execute, with heartbeats) -> commit -> publish -> delete
                           |                                     |
                           |  HELD: visible again later          release: back on the queue
                           |  DONE: publish again, delete        with its progress
                           v
    a throttle, a 5xx or a time-out is never taken for either

Receiving is `intake`'s, executing `execute`'s, publishing and deleting `outbox`'s.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping

from ec2_worker.batchwatch import BatchWatch
from ec2_worker.claimed import Holding
from ec2_worker.outbox import Letter, Outbox
from taskfleet.bundle import Bundle, Response
from taskfleet.errors import InvalidTask, LeaseLost, TransientError, Undecodable, UnknownKind
from taskfleet.lease import ClaimOutcome, held_delay_s
from taskfleet.log import fields
from taskfleet.pace import Sample
from taskfleet.ports import Clock, Message, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.retry import backoff_s
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.queues import (
    decode_bundle,
)

_log = logging.getLogger(__name__)

HAND_BACK_S = (2.0, 10.0)
"""How long a bundle that this worker will not take stays invisible to the others, and to it."""
TROUBLE_S = (1.0, 5.0)
"""The same when the table cannot be asked."""


class Attempt:
    """The protocol's steps, on the worker's ports. `unavailable` names the kinds that this worker
    cannot run, with the reason."""

    def __init__(
        self,
        *,
        tasks: TaskQueue,
        monitor: TaskMonitor,
        outbox: Outbox,
        registry: Registry,
        unavailable: Mapping[str, str],
        watch: BatchWatch,
        clock: Clock,
        rng: random.Random,
        lease_s: float,
        worker_id: str,
    ) -> None:
        self._tasks = tasks
        self._monitor = monitor
        self._outbox = outbox
        self._registry = registry
        self._unavailable = unavailable
        self._watch = watch
        self._clock = clock
        self._rng = rng
        self._lease_s = lease_s
        self._worker_id = worker_id

    def decode(self, message: Message) -> Bundle | None:
        """The bundle in the message; None when this worker must not run it, and then the message
        is where it belongs."""
        try:
            bundle = decode_bundle(message.body)
        except (Undecodable, InvalidTask) as error:
            _log.error(
                "a message that is no bundle went to the dead-letter queue",
                extra=fields("dead_lettered", message_id=message.message_id, reason=str(error)),
            )
            self._tasks.dead_letter(message, str(error))
            return None
        if not self._unavailable.keys().isdisjoint(task.kind for task in bundle.tasks):
            self.hand_back(message)
            return None
        return bundle

    def hand_back(self, message: Message) -> None:
        """Leave the message to other workers; nothing was claimed."""
        self._tasks.change_visibility([(message, self._rng.uniform(*HAND_BACK_S))])

    def claim(self, bundle: Bundle, message: Message) -> Holding | None:
        """The bundle in hand, its tasks validated; None when it is not ours to run now, and then
        its message was dealt with."""
        owner = f"{self._worker_id}/{self._rng.getrandbits(64):016x}"
        try:
            claim = self._monitor.claim(bundle.job_id, owner=owner, lease_s=self._lease_s)
        except TransientError:
            self._tasks.change_visibility([(message, self._rng.uniform(*TROUBLE_S))])
            raise
        if claim.outcome is ClaimOutcome.DONE:
            self._publish(bundle, claim.results, message, poison=None, timings={})
            return None
        if claim.outcome is ClaimOutcome.HELD:
            expires_at = claim.lease.expires_at if claim.lease else self._clock.now()
            delay_s = held_delay_s(expires_at, self._clock.now(), self._rng)
            self._tasks.change_visibility([(message, delay_s)])
            return None
        assert claim.lease is not None  # noqa: S101 - ACQUIRED always carries the lease
        valid, faults = self._validated(bundle)
        now = self._clock.now()
        holding = Holding(valid, message, claim.lease, claim.results, now)
        self._fail_hopeless(holding, faults)
        if holding.pending and self._watch.cancelled(bundle.batch_id):
            holding.cancel_pending()
        return holding

    def _validated(self, bundle: Bundle) -> tuple[Bundle, dict[int, InvalidTask]]:
        """Anybody with access to the queue may have put the bundle there: params are parsed again.
        Tasks that do not parse stay as they are; the faults say why, by index."""
        tasks, faults = [], {}
        for task in bundle.tasks:
            try:
                tasks.append(self._registry.revalidate(task))
            except InvalidTask as error:
                tasks.append(task)
                faults[task.index] = error
        valid = Bundle(bundle.job_id, bundle.client_id, bundle.batch_id, tasks, bundle.legacy)
        return valid, faults

    def _fail_hopeless(self, holding: Holding, faults: Mapping[int, InvalidTask]) -> None:
        """Record FAILED for tasks that no attempt can help: those of an unknown kind or with bad
        params, and those whose attempts were all spent on workers that never came back."""
        if not faults and not holding.prior and holding.lease.attempt == 1:
            return
        for task in list(holding.pending):
            fault = faults.get(task.index)
            if fault is not None:
                self._fail(holding, task, fault.reason)
                if isinstance(fault, UnknownKind):
                    holding.poison = str(fault)
                continue
            attempts = self._registry[task.kind].retry.max_attempts
            if holding.attempt(task.index) > attempts:
                reason = (
                    f"gave up after {attempts} attempts: "
                    "the last one's worker ended or lost its lease"
                )
                self._fail(holding, task, reason)
                holding.poison = f"task {task.index}: {reason}"

    def _fail(self, holding: Holding, task: Task, reason: str) -> None:
        holding.pending.remove(task)
        holding.results[task.index] = TaskResult(
            task.index,
            TaskStatus.FAILED,
            error=reason,
            attempts=holding.attempt(task.index) - 1,
            worker_id=self._worker_id,
        )

    def renew(self, holding: Holding) -> None:
        """Extend the lease and record what is known so far. LeaseLost when it is another's."""
        holding.has_news = False
        holding.lease = self._monitor.renew(
            holding.bundle.job_id,
            holding.lease,
            lease_s=self._lease_s,
            tasks=holding.bundle.tasks,
            results=holding.rows(),
        )

    def settle(self, holding: Holding) -> None:
        """Commit and answer when every task has its result, else release the bundle with its
        progress. Tries again while the lease lives; LeaseLost when it does not."""
        wait_s = 0.1
        while True:
            try:
                if holding.finished:
                    self._commit(holding)
                else:
                    self._release(holding)
                return
            except TransientError as error:
                if self._clock.now() + wait_s >= holding.lease.expires_at:
                    raise LeaseLost(f"could not settle before the lease ended: {error}") from error
                _log.warning(
                    "settling failed, trying again",
                    extra=fields("settle_failed", job_id=holding.bundle.job_id, reason=str(error)),
                )
                self._clock.sleep(wait_s)
                wait_s = min(wait_s * 2, 5.0)

    def _commit(self, holding: Holding) -> None:
        bundle = holding.bundle
        results = [holding.results[task.index] for task in bundle.tasks]
        self._monitor.commit(bundle.job_id, holding.lease, tasks=bundle.tasks, results=results)
        timings = self._timings(bundle, results)
        self._publish(bundle, results, holding.message, holding.poison, timings)

    def _publish(
        self,
        bundle: Bundle,
        results: list[TaskResult],
        message: Message,
        poison: str | None,
        timings: dict[str, Sample],
    ) -> None:
        response = Response(
            bundle.job_id, bundle.client_id, bundle.batch_id, results, bundle.legacy, timings
        )
        self._outbox.put(Letter(response, message, poison))

    def _timings(self, bundle: Bundle, results: list[TaskResult]) -> dict[str, Sample]:
        """How long the bundle's tasks took, for kinds that do not say beforehand."""
        samples: dict[str, Sample] = {}
        for task, row in zip(bundle.tasks, results, strict=True):
            if row.status is not TaskStatus.SUCCEEDED or row.duration_s is None:
                continue
            if self._registry[task.kind].expected_s(task.params) is None:
                sample = samples.get(task.kind, Sample())
                samples[task.kind] = sample.add(row.duration_s)
        return samples

    def _release(self, holding: Holding) -> None:
        job_id = holding.bundle.job_id
        rows = holding.rows_to_release()
        self._monitor.release(job_id, holding.lease, tasks=holding.bundle.tasks, results=rows)
        retried = [r.attempts for r in holding.results.values() if not r.status.final]
        unfinished = len(holding.bundle.tasks) - sum(row.status.final for row in rows)
        all_failed = len(retried) == unfinished
        delay_s = backoff_s(min(retried), self._rng) if all_failed else 0.0
        self._tasks.change_visibility([(holding.message, delay_s)])
