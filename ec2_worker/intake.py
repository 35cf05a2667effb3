"""Receiving messages: as many as the free slots can take, and no more. Owns the polling and which
messages are handed back; the claim itself belongs to `ec2_worker.protocol`.

Messages of high priority come by a long poll of their own, which nearly always hangs on the other
queue. So they are noticed at once, and a worker to whom none come pays three calls a minute.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait

from ec2_worker.asides import Asides
from ec2_worker.claimed import ClaimedBundle
from ec2_worker.protocol import BundleProtocol
from ec2_worker.telemetry import Telemetry
from ec2_worker.workload import Workload
from taskfleet.errors import PermanentError, TaskfleetError
from taskfleet.lanes import Lanes
from taskfleet.log import bound, fields
from taskfleet.ports import Clock, Message

_log = logging.getLogger(__name__)

TROUBLE_S = (0.5, 2.0)
"""Least and most seconds of pause after a failed poll; ten times that when the queue or the
permission is missing."""
REFUSED_S = (0.5, 1.5)
"""Least and most seconds of pause after a poll of which nothing could be taken."""


class Intake:
    """Polls the queues and claims what comes. `run` polls one of them until `ended`.

    pool: runs the claims in parallel, so that ten claims take one round trip, and the next messages
        are received meanwhile.
    settle: called with bundles that need no running.
    wait_s: returns the seconds for which a poll waits for a message.
    on_empty: called between two polls of the normal queue when one brought nothing and no claim is
        under way.
    """

    def __init__(
        self,
        workload: Workload,
        protocol: BundleProtocol,
        asides: Asides,
        tasks: Lanes,
        clock: Clock,
        rng: random.Random,
        pool: Executor,
        telemetry: Telemetry,
        *,
        lease_s: float,
        wait_s: Callable[[], float],
        settle: Callable[[ClaimedBundle], None],
        on_empty: Callable[[], None] = lambda: None,
    ) -> None:
        self._workload = workload
        self._protocol = protocol
        self._asides = asides
        self._tasks = tasks
        self._clock = clock
        self._rng = rng
        self._pool = pool
        self._telemetry = telemetry
        self._lease_s = lease_s
        self._wait_s = wait_s
        self._settle = settle
        self._on_empty = on_empty
        self.last_work_at = clock.now()
        """When a poll last brought something."""

    def run(self, ended: threading.Event, *, high: bool = False) -> None:
        """Poll the queue of this priority until `ended`, then wait for the claims under way."""
        claims: list[Future[bool]] = []
        while not ended.is_set():
            earlier, claims = claims, self._poll_or_pause(ended, high)
            # Wait for the previous round's claims only after fetching the next.
            taken = [claim.result() for claim in earlier]
            if taken and not any(taken):
                ended.wait(self._rng.uniform(*REFUSED_S))
            elif not claims and not high:
                self._on_empty()
        wait(claims)

    def _poll_or_pause(self, ended: threading.Event, high: bool) -> list[Future[bool]]:
        """Poll once; after an error, pause instead and return no claims."""
        try:
            return self.poll(ended, high=high)
        except TaskfleetError as error:
            factor = 10 if isinstance(error, PermanentError) else 1
            _log.warning(
                "cannot receive, trying again",
                extra=fields("receive_failed", reason=str(error)),
            )
            ended.wait(factor * self._rng.uniform(*TROUBLE_S))
            return []

    def poll(self, ended: threading.Event, *, high: bool = False) -> list[Future[bool]]:
        """Receive once from the queue of this priority, when there is room, and begin to claim what
        came. Returns a future for each message, True once the message was taken."""
        room = self._workload.wait_for_room(1.0, high=high)
        if not room:
            return []
        receive = self._tasks.receive_high if high else self._tasks.receive
        messages: list[Message] = []
        try:
            messages = receive(room, wait_s=self._wait_s(), visibility_s=self._lease_s)
        finally:
            self._workload.give_up_room(room - len(messages), high=high)
        if not messages:
            return []
        self.last_work_at = self._clock.now()
        if high:
            self._workload.found_high()
        if ended.is_set():
            self._workload.give_up_room(len(messages), high=high)
            self._tasks.change_visibility([(message, 0.0) for message in messages])
            return []
        return [self._pool.submit(self.take_in, message) for message in messages]

    def take_in(self, message: Message) -> bool:
        """Claim the message's bundle and put it before the slots, unless it is not ours to run.
        Returns whether the message was dealt with here; False leaves it to other workers or to a
        later delivery."""
        with contextlib.ExitStack() as context:
            return self._take_in(message, context)

    def _take_in(self, message: Message, context: contextlib.ExitStack) -> bool:
        claimed = None
        try:
            bundle = self._protocol.decode(message)
            if bundle is None:
                return False
            context.enter_context(bound(bundle.trace_id))
            if self._workload.adopt(bundle.job_id, message):
                self._telemetry.suppressed("in_hand")
                return True
            if self._workload.refuses({task.kind for task in bundle.tasks}):
                self._protocol.hand_back(message)
                return False
            claimed = self._protocol.claim(bundle, message)
            if claimed is None:
                return True
        except TaskfleetError as error:
            _log.warning(
                "a message could not be taken in; it will come again",
                extra=fields("claim_failed", message_id=message.message_id, reason=str(error)),
            )
            return False
        except Exception as error:  # noqa: BLE001 - one bundle must not stop the others
            self._asides.put(message, error)
            return False
        finally:
            if claimed is None:
                self._workload.give_up_room(1, high=message.high)
        if self._workload.add(claimed):
            self._settle(claimed)
        return True
