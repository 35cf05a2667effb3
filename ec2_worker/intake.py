"""Receiving: as many messages as the free slots can take, and no more. Owns the polling and who
gets handed back; what a claim is belongs to `attempt`."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, wait

from ec2_worker.claimed import Holding
from ec2_worker.protocol import Attempt
from ec2_worker.workload import Workload
from taskfleet.errors import PermanentError, TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import Clock, Message, TaskQueue

_log = logging.getLogger(__name__)

TROUBLE_S = (0.5, 2.0)
"""Pause after a poll that failed; ten times that when no permission or queue is there."""
REFUSED_S = (0.5, 1.5)
"""Pause after a poll of which nothing could be taken."""


class Intake:
    """`poll` is one round; `run` polls until `ended`, and calls `on_empty` between polls when one
    brought nothing and no claim is under way. Claims run on `pool`, in parallel, so that ten of
    them cost one round trip, and the next round is fetched meanwhile."""

    def __init__(
        self,
        workload: Workload,
        attempt: Attempt,
        tasks: TaskQueue,
        clock: Clock,
        rng: random.Random,
        pool: Executor,
        *,
        lease_s: float,
        wait_s: float,
        settle: Callable[[Holding], None],
        on_empty: Callable[[], None] = lambda: None,
    ) -> None:
        self._workload = workload
        self._attempt = attempt
        self._tasks = tasks
        self._clock = clock
        self._rng = rng
        self._pool = pool
        self._lease_s = lease_s
        self._wait_s = wait_s
        self._settle = settle
        self._on_empty = on_empty
        self.last_work_at = clock.now()
        """When a poll last brought something."""

    def run(self, ended: threading.Event) -> None:
        claims: list[Future[bool]] = []
        while not ended.is_set():
            before = claims
            try:
                claims = self.poll(ended)
            except TaskfleetError as error:
                claims = []
                factor = 10 if isinstance(error, PermanentError) else 1
                _log.warning(
                    "cannot receive, trying again",
                    extra=fields("receive_failed", reason=str(error)),
                )
                ended.wait(factor * self._rng.uniform(*TROUBLE_S))
            # Not before the next messages are here and being claimed too: a slot may wait for them.
            if wait(before).done and not any(claim.result() for claim in before):
                ended.wait(self._rng.uniform(*REFUSED_S))
            elif not claims:
                self._on_empty()
        wait(claims)

    def poll(self, ended: threading.Event) -> list[Future[bool]]:
        """Receive once, when there is room, and begin to claim what came: a future for each
        message, True once it was taken."""
        room = self._workload.wait_for_room(1.0)
        if not room:
            return []
        messages: list[Message] = []
        try:
            messages = self._tasks.receive(room, wait_s=self._wait_s, visibility_s=self._lease_s)
        finally:
            self._workload.give_up_room(room - len(messages))
        if not messages:
            return []
        self.last_work_at = self._clock.now()
        if ended.is_set():
            self._workload.give_up_room(len(messages))
            self._tasks.change_visibility([(message, 0.0) for message in messages])
            return []
        return [self._pool.submit(self.take_in, message) for message in messages]

    def take_in(self, message: Message) -> bool:
        """Claim the message's bundle and put it before the slots, unless it is not ours to run.
        Whether it was taken."""
        holding = None
        try:
            bundle = self._attempt.decode(message)
            if bundle is None:
                return False
            if self._workload.adopt(bundle.job_id, message):
                return True
            if self._workload.refuses({task.kind for task in bundle.tasks}):
                self._attempt.hand_back(message)
                return False
            holding = self._attempt.claim(bundle, message)
            if holding is None:
                return True
        except TaskfleetError as error:
            _log.warning(
                "a message could not be taken in; it will come again",
                extra=fields("claim_failed", message_id=message.message_id, reason=str(error)),
            )
            return False
        finally:
            if holding is None:
                self._workload.give_up_room(1)
        if self._workload.add(holding):
            self._settle(holding)
        return True
