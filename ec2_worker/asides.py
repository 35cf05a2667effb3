"""Messages that meet an unexpected error: set aside so that the worker goes on with the others, and
given up when it happens each time. The steps of a bundle in which nothing unexpected happens belong
to `ec2_worker.protocol` and `ec2_worker.settlement`."""

from __future__ import annotations

import logging
import random

from ec2_worker.attempt import describe
from ec2_worker.claimed import ClaimedBundle
from ec2_worker.protocol import BundleProtocol
from ec2_worker.settlement import Recorded, Settlement
from taskfleet.errors import LeaseLost, TaskfleetError, TransientError
from taskfleet.lease import ClaimOutcome
from taskfleet.log import fields
from taskfleet.ports import Clock, Message, TaskMonitor, TaskQueue
from taskfleet.retry import backoff_s
from taskfleet.wire.queues import decode_bundle

_log = logging.getLogger(__name__)

SET_ASIDE_DELIVERIES = 5
"""Deliveries after which a message that causes unexpected errors is given up."""


class Asides:
    """Sets messages aside. It keeps no state of its own."""

    def __init__(
        self,
        protocol: BundleProtocol,
        settlement: Settlement,
        tasks: TaskQueue,
        monitor: TaskMonitor,
        clock: Clock,
        rng: random.Random,
        *,
        lease_s: float,
    ) -> None:
        self._protocol = protocol
        self._settlement = settlement
        self._tasks = tasks
        self._monitor = monitor
        self._clock = clock
        self._rng = rng
        self._lease_s = lease_s

    def put(self, message: Message, error: Exception, owner: str | None = None) -> None:
        """Put a message aside that caused an unexpected error, so that the worker goes on with the
        others: it comes again after a pause, and in the end its tasks are FAILED with the error,
        and it becomes a dead letter. Never raises.

        owner: the owner of the lease on its bundle, if another delivery of the message took it.
        """
        reason = f"unexpected error: {describe(error):.200}"
        _log.error(
            "a message was set aside",
            extra=fields("set_aside", message_id=message.message_id, reason=reason),
            exc_info=error,
        )
        try:
            last = message.receive_count >= SET_ASIDE_DELIVERIES
            owner = owner or self._protocol.owner(message)
            if not last or not self._give_up(message, reason, owner):
                pause_s = backoff_s(message.receive_count, self._rng)
                self._tasks.change_visibility([(message, pause_s)])
        except TaskfleetError as trouble:
            _log.warning(
                "a message could not be set aside; it comes again when its visibility ends",
                extra=fields("set_aside_failed", reason=str(trouble)),
            )

    def _give_up(self, message: Message, reason: str, owner: str) -> bool:
        """Record FAILED for the message's tasks that have no recorded result, and answer. If that
        meets an unexpected error too, as when the table is what fails, the message becomes a dead
        letter alone. Returns False when it must come again: the table does not answer, or another
        worker has the bundle."""
        try:
            bundle = decode_bundle(message.body)
            if self._protocol.is_forged(bundle, message):
                return True
            claim = self._monitor.claim(bundle.job_id, owner=owner, lease_s=self._lease_s)
            if claim.outcome is ClaimOutcome.HELD:
                return False
            recorded = Recorded(claim.results, claim.checksum)
            if claim.lease is not None:
                now = self._clock.now()
                claimed = ClaimedBundle(bundle, message, claim.lease, claim.results, now)
                for task in list(claimed.pending):
                    self._protocol.fail(claimed, task, reason)
                recorded = self._settlement.record(claimed)
            self._settlement.publish(bundle, recorded, message, poison=reason, timings={})
        except (TransientError, LeaseLost) as trouble:
            _log.warning(
                "a bundle could not be given up; its message comes again",
                extra=fields("give_up_delayed", message_id=message.message_id, reason=str(trouble)),
            )
            return False
        except Exception as trouble:  # noqa: BLE001 - logged, and the worker goes on
            _log.exception(
                "a message became a dead letter without results for its tasks",
                extra=fields("give_up_failed", message_id=message.message_id, reason=str(trouble)),
            )
            self._tasks.dead_letter(message, reason)
        return True
