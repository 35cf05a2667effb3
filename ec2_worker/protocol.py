"""The protocol of one bundle, from its message to its answer: the steps in which such systems lose
data. In order:

    receive -> decode -> claim -> (execute, with heartbeats) -> commit -> publish -> delete
                           |                                     |
                           |  HELD: visible again later          release: back on the queue
                           |  DONE: publish again, delete        with its progress
                           v
    a throttle, a 5xx or a time-out is never taken for either

This module owns decode, claim and renew. Receiving belongs to `ec2_worker.intake`, executing to
`ec2_worker.execute`, commit and release to `ec2_worker.settlement`, publishing and deleting to
`ec2_worker.outbox`, what meets an unexpected error to `ec2_worker.asides`. The intake calls
`decode` and `claim`, the heartbeat calls `renew`.
"""

from __future__ import annotations

import hashlib
import logging
import random
from collections.abc import Mapping

from msgspec.structs import replace

from ec2_worker.batchwatch import BatchWatch
from ec2_worker.claimed import ClaimedBundle
from ec2_worker.reuse import Reuse
from ec2_worker.settlement import Recorded, Settlement
from ec2_worker.telemetry import Telemetry
from taskfleet.bundle import Bundle, bundle_number
from taskfleet.errors import (
    InvalidTask,
    TaskfleetError,
    TransientError,
    Undecodable,
    UnknownKind,
)
from taskfleet.lease import ClaimOutcome, held_delay_s
from taskfleet.log import fields
from taskfleet.ports import Clock, Message, TaskMonitor, TaskQueue
from taskfleet.registry import Registry
from taskfleet.task import Task, TaskResult, TaskStatus, task_id
from taskfleet.wire.queues import decode_bundle

_log = logging.getLogger(__name__)

HAND_BACK_S = (2.0, 10.0)
"""Least and most seconds for which a bundle that this worker will not take stays invisible."""
TROUBLE_S = (1.0, 5.0)
"""Least and most seconds for which a message stays invisible when the table does not answer."""


class BundleProtocol:
    """The protocol's steps on the worker's ports. It keeps no state of its own.

    unavailable: kinds that this worker cannot run, with the reason.
    """

    def __init__(
        self,
        *,
        tasks: TaskQueue,
        monitor: TaskMonitor,
        settlement: Settlement,
        reuse: Reuse,
        registry: Registry,
        unavailable: Mapping[str, str],
        watch: BatchWatch,
        telemetry: Telemetry,
        clock: Clock,
        rng: random.Random,
        lease_s: float,
        worker_id: str,
    ) -> None:
        self._tasks = tasks
        self._monitor = monitor
        self._settlement = settlement
        self._reuse = reuse
        self._registry = registry
        self._unavailable = unavailable
        self._watch = watch
        self._telemetry = telemetry
        self._clock = clock
        self._rng = rng
        self._lease_s = lease_s
        self._worker_id = worker_id

    # --- decode and claim ----------------------------------------------------------------------

    def decode(self, message: Message) -> Bundle | None:
        """Read the bundle in the message. Returns None when this worker must not run it; the
        message is then on the dead-letter queue, or left to other workers."""
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
        """Leave a message whose bundle was not claimed to other workers."""
        self._tasks.change_visibility([(message, self._rng.uniform(*HAND_BACK_S))])

    def owner(self, message: Message) -> str:
        """The owner of leases that this worker takes for this delivery of the message. It is the
        same whenever it is asked for, so that a claim after an error finds its own lease."""
        delivery = hashlib.blake2b(message.receipt_handle.encode(), digest_size=8).hexdigest()
        return f"{self._worker_id}/{delivery}"

    def claim(self, bundle: Bundle, message: Message) -> ClaimedBundle | None:
        """Claim the bundle and validate its tasks. Returns None when it is not ours to run now: the
        message then becomes visible later, or is answered and deleted. Raises TransientError when
        the table does not answer. A claim that fails half-way is taken back, so it holds up no
        other worker and charges no task."""
        try:
            if self.is_forged(bundle, message):
                return None
            # Asked before the claim, so that no call to the table can fail after it.
            cancelled = self._watch.cancelled(bundle.batch_id)
            return self._claim(bundle, message, cancelled=cancelled)
        except TransientError:
            self._tasks.change_visibility([(message, self._rng.uniform(*TROUBLE_S))])
            raise

    def _claim(self, bundle: Bundle, message: Message, *, cancelled: bool) -> ClaimedBundle | None:
        owner = self.owner(message)
        try:
            claim = self._monitor.claim(bundle.job_id, owner=owner, lease_s=self._lease_s)
            if claim.outcome is ClaimOutcome.ACQUIRED and claim.lease is not None:
                valid, faults = self._validated(bundle)
                claimed = ClaimedBundle(
                    valid, message, claim.lease, claim.results, self._clock.now()
                )
                self._log_losses(claimed, claim.results)
                self._fail_hopeless(claimed, faults)
                if cancelled:
                    claimed.cancel_pending()
                claimed.record_pending(self._reuse.take(valid, list(claimed.pending)))
                self._telemetry.claimed(claimed)
                return claimed
        except Exception:
            self._take_back(bundle.job_id, owner)
            raise
        if claim.outcome is ClaimOutcome.DONE:
            self._telemetry.suppressed("done")
            recorded = Recorded(claim.results, claim.checksum)
            self._settlement.publish(bundle, recorded, message, poison=None, timings={})
            return None
        expires_at = claim.lease.expires_at if claim.lease else self._clock.now()
        delay_s = held_delay_s(expires_at, self._clock.now(), self._rng)
        self._telemetry.suppressed("held")
        self._tasks.change_visibility([(message, delay_s)])
        return None

    def _take_back(self, job_id: str, owner: str) -> None:
        """Take back a claim whose outcome is unknown or whose bundle cannot be taken in. Never
        raises: otherwise the lease runs out by itself, and the claim counts as lost."""
        try:
            self._monitor.unclaim(job_id, owner=owner)
        except TaskfleetError as error:
            _log.warning(
                "a claim was not taken back; the bundle is free when its lease ends",
                extra=fields("unclaim_failed", job_id=job_id, reason=str(error)),
            )

    def is_forged(self, bundle: Bundle, message: Message) -> bool:
        """Returns whether no recorded batch can have this bundle. The message then goes to the
        dead-letter queue, since claiming it would write over what other bundles and batches record.
        Bundles of the 2014 form have no batch."""
        if bundle.legacy is not None:
            return False
        last_index = max(task.index for task in bundle.tasks)
        number = bundle_number(bundle.job_id)
        fault = self._watch.fault(bundle.batch_id, bundle.client_id, number, last_index)
        if fault is None:
            return False
        _log.error(
            "a bundle of no known batch went to the dead-letter queue",
            extra=fields("dead_lettered", message_id=message.message_id, reason=fault),
        )
        self._tasks.dead_letter(message, fault)
        return True

    def _validated(self, bundle: Bundle) -> tuple[Bundle, dict[int, InvalidTask]]:
        """The bundle with canonical params, and the faults of its tasks by index. A task with a
        fault stays as it is. Params are parsed again here, since anybody with access to the queue
        may have put the bundle there."""
        tasks, faults = [], {}
        for task in bundle.tasks:
            try:
                tasks.append(self._registry.revalidate(task))
            except InvalidTask as error:
                tasks.append(task)
                faults[task.index] = error
        return replace(bundle, tasks=tasks), faults

    def _log_losses(self, claimed: ClaimedBundle, recorded: list[TaskResult]) -> None:
        """Log that the bundle is careful, and which task its last worker had noted."""
        if not claimed.careful:
            return
        bundle, lost = claimed.bundle, claimed.lease.attempt - 1
        _log.warning(
            "a bundle has lost several workers: its tasks run one at a time",
            extra=fields("careful", job_id=bundle.job_id, lost_claims=lost),
        )
        for row in recorded:
            if row.is_note:
                _log.warning(
                    "a task is charged for the loss of its worker",
                    extra=fields(
                        "task_lost",
                        task_id=task_id(bundle.batch_id, row.index),
                        attempt=row.attempts,
                        worker_id=row.worker_id,
                    ),
                )

    def _fail_hopeless(self, claimed: ClaimedBundle, faults: Mapping[int, InvalidTask]) -> None:
        """Record FAILED for tasks that no attempt can help: tasks of an unknown kind or with bad
        params, and tasks that were noted at their last attempt and lost with their worker. Mark
        those of a careful bundle for which the next loss is the last."""
        if not faults and not claimed.prior and not claimed.careful:
            return
        for task in list(claimed.pending):
            fault = faults.get(task.index)
            if fault is not None:
                self.fail(claimed, task, fault.reason)
                if isinstance(fault, UnknownKind):
                    claimed.poison = str(fault)
                continue
            kind = self._registry[task.kind]
            retry = kind.under(claimed.bundle.options, task.options).retry
            spent = claimed.attempts_spent(task.index)
            if retry.is_last(spent):
                reason = claimed.fail_lost(task)
                claimed.poison = f"task {task.index}: {reason}"
            elif claimed.careful and retry.is_last(spent + 1):
                claimed.last_chances.add(task.index)

    def fail(self, claimed: ClaimedBundle, task: Task, reason: str) -> None:
        """Record FAILED, for the reason, for a pending task that is not run."""
        claimed.pending.remove(task)
        claimed.record(
            TaskResult(
                task.index,
                TaskStatus.FAILED,
                error=reason,
                attempts=claimed.attempts_spent(task.index),
                worker_id=self._worker_id,
            )
        )

    # --- renew -------------------------------------------------------------------------------

    def renew(self, claimed: ClaimedBundle) -> None:
        """Extend the lease and record what is known so far. Raises LeaseLost when another worker
        may own the bundle."""
        with claimed.renewing:
            claimed.has_news = False
            claimed.lease = self._monitor.renew(
                claimed.bundle.job_id,
                claimed.lease,
                lease_s=self._lease_s,
                tasks=claimed.bundle.tasks,
                results=claimed.rows(),
            )
