"""Answers and deletions, gathered in tens. Owns the last two steps of the protocol, publish then
delete; a message is deleted only after its response was published."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from taskfleet.bill import Odometer
from taskfleet.bundle import Response
from taskfleet.errors import PermanentError, TransientError
from taskfleet.log import fields
from taskfleet.ports import Clock, Message, OutgoingMessage, TaskQueue
from taskfleet.wire.queues import (
    encode_response,
)

_log = logging.getLogger(__name__)

BATCH = 10
LINGER_S = 0.02
"""How long a response waits for company: an answer in company costs a tenth."""
LINGERS = 10
"""So often it waits again while its worker has more in hand: company will come, and whoever waits
for the last of a batch waits for that anyway."""
RETRY_S = 1.0


@dataclass(frozen=True)
class Letter:
    """A settled bundle's response and the message that brought the bundle; `poison` is why the
    message belongs on the dead-letter queue, if it does."""

    response: Response
    message: Message
    poison: str | None


class Outbox:
    """Letters wait here for `flush`; `run` flushes them from a thread of its own. `busy` says
    whether more of them may come soon."""

    def __init__(
        self,
        tasks: TaskQueue,
        responses: TaskQueue,
        clock: Clock,
        odometer: Odometer,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._tasks = tasks
        self._responses = responses
        self._clock = clock
        self._odometer = odometer
        self._busy = busy
        self._letters: deque[Letter] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._flushing = 0

    def put(self, letter: Letter) -> None:
        with self._changed:
            self._letters.append(letter)
            self._changed.notify_all()

    def pending(self) -> int:
        """Letters not sent yet."""
        with self._changed:
            return len(self._letters) + self._flushing

    def run(self) -> None:
        """Flush as letters come, until `close`; what is there by then is still sent."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._letters or self._closed)
                if not self._letters:
                    return
                for _ in range(LINGERS):
                    if self._changed.wait_for(self._must_go, LINGER_S) or not self._busy():
                        break
            if not self.flush():
                self._clock.sleep(RETRY_S)

    def _must_go(self) -> bool:
        return len(self._letters) >= BATCH or self._closed

    def flush(self) -> bool:
        """Send up to a batch of letters; on an error they stay and False is returned. What was
        published and not deleted comes back on the queue and is published again: that is allowed.
        """
        with self._changed:
            letters = [self._letters.popleft() for _ in range(min(BATCH, len(self._letters)))]
            self._flushing = len(letters)
        if not letters:
            return True
        share = self._odometer.take() / len(letters)
        responses = [replace(x.response, spend=x.response.spend + share) for x in letters]
        letters = [Letter(r, x.message, x.poison) for r, x in zip(responses, letters, strict=True)]
        try:
            self._responses.send(
                [OutgoingMessage(encode_response(r), group=r.client_id) for r in responses]
            )
            self._tasks.delete([x.message for x in letters if x.poison is None])
            for letter in letters:
                if letter.poison is not None:
                    self._tasks.dead_letter(letter.message, letter.poison)
        except (TransientError, PermanentError) as error:
            _log.warning(
                "responses are kept back, trying again",
                extra=fields("publish_failed", responses=len(letters), reason=str(error)),
            )
            with self._changed:
                self._letters.extendleft(reversed(letters))
                self._flushing = 0
            return False
        with self._changed:
            self._flushing = 0
            self._changed.notify_all()
        return True

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
