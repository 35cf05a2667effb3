"""Answers and deletions, sent in tens: publish and delete, the last two steps of the protocol. A
message is deleted only after its response was published."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from msgspec import structs

from ec2_worker.attempt import describe
from taskfleet.bill import Odometer
from taskfleet.bundle import Response
from taskfleet.errors import TaskfleetError, TransientError
from taskfleet.log import bound, fields
from taskfleet.ports import CALL_MAX_MESSAGES, Clock, Message, OutgoingMessage, TaskQueue
from taskfleet.wire.envelopes import pack
from taskfleet.wire.queues import encode_response, encode_states

_log = logging.getLogger(__name__)

LINGER_S = 0.05
"""Seconds for which a response waits for others, since ten in one message cost a tenth."""
LINGERS = 4
"""Most such waits while the worker has more in hand. More responses will come, and a client that
waits for the end of a batch waits for those anyway."""
TRIES = 5
"""Tries to publish a response that fails although the queue is there. One more is made without
results and errors."""
RETRY_S = 1.0
"""Pause in seconds after a failed sending."""


@dataclass(frozen=True)
class Letter:
    """The response of a settled bundle, and the message that brought the bundle. `poison` is why
    the message belongs on the dead-letter queue; None when it does not. `failures` counts tries
    that failed although the queue was there."""

    response: Response
    message: Message
    poison: str | None
    failures: int = 0

    def body(self) -> str:
        """The response as a message. After `TRIES` failures it has the states of the tasks only,
        which is what the batch needs to end; the table has the rest."""
        return (encode_response if self.failures < TRIES else encode_states)(self.response)


class Outbox:
    """Holds letters until `flush` sends them; `run` flushes from a thread of its own.

    odometer: says what was spent on AWS calls since the last letters; each gets its share.
    busy: returns whether more letters may come soon.
    """

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
        """Take a letter in."""
        with self._changed:
            self._letters.append(letter)
            self._changed.notify_all()

    def pending(self) -> int:
        """The number of letters that are not sent yet."""
        with self._changed:
            return len(self._letters) + self._flushing

    def run(self) -> None:
        """Flush as letters come, until `close`. Letters that are there by then are still sent."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._letters or self._closed)
                if not self._letters:
                    return
                for _ in range(LINGERS):
                    if self._changed.wait_for(self._must_go, LINGER_S):
                        break
            if not self.flush():
                self._clock.sleep(RETRY_S)

    def _must_go(self) -> bool:
        full = len(self._letters) >= CALL_MAX_MESSAGES
        urgent = any(letter.message.high for letter in self._letters)
        return full or urgent or self._closed or not self._busy()

    def hurry(self) -> None:
        """Look again whether more letters may come: the worker has nothing in hand any more."""
        with self._changed:
            self._changed.notify_all()

    def flush(self) -> bool:
        """Send the letters of one call. On an error they stay, and False is returned. A message
        whose response was published but which was not deleted comes back, and its response is
        published again; the protocol allows that."""
        with self._changed:
            count = min(CALL_MAX_MESSAGES, len(self._letters))
            letters = [self._letters.popleft() for _ in range(count)]
            self._flushing = len(letters)
        if not letters:
            return True
        letters = self._billed(letters)
        unsent = self._send_or_set_aside(letters)
        with self._changed:
            self._letters.extendleft(reversed(unsent))
            self._flushing = 0
            self._changed.notify_all()
        return not unsent

    def _send_or_set_aside(self, letters: list[Letter]) -> list[Letter]:
        """Send the letters and return those to be sent again. When they cannot be sent together,
        each is tried by itself, so that one that can never be sent holds up no other."""
        try:
            self._send(letters)
        except TransientError as error:
            _log.warning(
                "responses are kept back, trying again",
                extra=fields("publish_failed", responses=len(letters), reason=str(error)),
            )
            return letters
        except Exception as error:  # noqa: BLE001 - one response must not stop the others
            if len(letters) > 1:
                return [x for each in letters for x in self._send_or_set_aside([each])]
            with bound(letters[0].response.trace_id):
                return self._set_aside(letters[0], error)
        return []

    def _set_aside(self, letter: Letter, error: Exception) -> list[Letter]:
        """Keep a letter that failed by itself for another try. If even the bare states cannot be
        published, leave its message to the dead-letter queue. The results are recorded, so a
        redrive publishes them."""
        letter = replace(letter, failures=letter.failures + 1)
        reason = f"its response cannot be published: {describe(error):.200}"
        _log.error(
            "a response could not be published",
            extra=fields("publish_refused", job_id=letter.response.job_id, reason=reason),
            exc_info=error,
        )
        if letter.failures <= TRIES:
            return [letter]
        try:
            self._tasks.dead_letter(letter.message, reason)
        except TaskfleetError as trouble:
            _log.warning(
                "a message was not dead-lettered; it comes again when its visibility ends",
                extra=fields("set_aside_failed", reason=str(trouble)),
            )
        return []

    def _billed(self, letters: list[Letter]) -> list[Letter]:
        """The letters with their shares of what was spent since the last ones."""
        share = self._odometer.take() / len(letters)
        return [
            replace(x, response=structs.replace(x.response, spend=x.response.spend + share))
            for x in letters
        ]

    def _send(self, letters: list[Letter]) -> None:
        self._responses.send(
            [
                OutgoingMessage(body, group=client_id)
                for client_id, body in pack((x.response, x.body()) for x in letters)
            ]
        )
        self._tasks.delete([x.message for x in letters if x.poison is None])
        for letter in letters:
            if letter.poison is not None:
                self._tasks.dead_letter(letter.message, letter.poison)

    def close(self) -> None:
        """Let `run` end once all letters are sent."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
