"""Dead letters as clients see them: whose a letter is, and who may see and move it. Owns that rule;
not the order of steps in which letters are moved (`taskfleet.scheduler.redrive`).

A client sees its own letters, and those that name no client, such as a message that is no bundle,
without their text: it may be anybody's. It moves the same ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

import msgspec

from taskfleet.batch import is_id
from taskfleet.ports import Message, TaskMonitor, TaskQueue
from taskfleet.scheduler.redrive import peek, redrive
from taskfleet.wire.http.letters import LetterList, LetterView, QueueName, Redriven
from taskfleet.wire.http.times import iso_time

LOOK_MAX = 500
"""Most letters of a queue that one request looks at, ten a call."""
BODY_MAX_CHARS = 1_000
"""Characters of a letter's text that are shown."""
REASON_MAX_CHARS = 1_000
"""Characters of a reason that are shown."""
NO_REASON = "received too often"
"""Reason of a letter that SQS moved there itself."""


class _Head(msgspec.Struct, frozen=True):
    """What may be told of a message of any of the queues, also of one that is otherwise not
    valid."""

    client_id: Any = None
    clientID: Any = None  # noqa: N815 - the name in messages of 2014
    batch_id: Any = None
    job_id: Any = None
    jobID: Any = None  # noqa: N815
    responses: list[_Head] = []


class DeadLetters:
    """Shows and moves dead letters on behalf of clients.

    queues: the queues to which dead letters belong, by the names that clients use.
    monitor: tells whose the batch of an upload is.
    """

    def __init__(self, queues: Mapping[QueueName, TaskQueue], monitor: TaskMonitor) -> None:
        self._queues = queues
        self._monitor = monitor

    def page(self, queue: QueueName, *, client_id: str, limit: int) -> LetterList:
        """Returns up to `limit` letters of the queue that the client may see, of those that one
        request looks at."""
        letters: list[LetterView] = []
        with contextlib.closing(peek(self._queues[queue], LOOK_MAX)) as messages:
            for message in messages:
                head = _head(message.body)
                owners = self._owners(head)
                if owners <= {client_id}:
                    letters.append(_view(queue, message, head if owners else None))
                if len(letters) == limit:
                    break
        return LetterList(letters)

    def redrive(self, queue: QueueName, *, client_id: str) -> Redriven:
        """Moves the letters that the client may see back to the queue, of those that one request
        looks at. Returns how many."""

        def is_wanted(message: Message) -> bool:
            return self._owners(_head(message.body)) <= {client_id}

        moved = redrive(self._queues[queue], LOOK_MAX, is_wanted)
        return Redriven(sum(1 for _ in moved))

    def _owners(self, head: _Head) -> set[str]:
        """Returns the clients that a message names."""
        heads = [head, *head.responses]
        named = {str(id_) for each in heads for id_ in (each.client_id, each.clientID) if id_}
        if not named and isinstance(head.batch_id, str) and is_id(head.batch_id):
            batch = self._monitor.batch(head.batch_id)
            return set() if batch is None else {batch.client_id}
        return named


def _head(body: str) -> _Head:
    try:
        return msgspec.json.decode(body, type=_Head)
    except (msgspec.DecodeError, RecursionError):
        return _Head()


def _view(queue: QueueName, message: Message, own: _Head | None) -> LetterView:
    """Returns a letter as its client sees it; without a head, as everybody does."""
    reason = message.attributes.get("reason", NO_REASON)[:REASON_MAX_CHARS]
    sent_at = iso_time(message.sent_at)
    if own is None:
        return LetterView(message.message_id, queue, reason, None, None, sent_at, None)
    first = own.responses[0] if own.responses else own
    job = first.job_id if first.clientID is None else f"{first.clientID};{first.jobID}"
    return LetterView(
        message.message_id,
        queue,
        reason,
        first.batch_id if isinstance(first.batch_id, str) else None,
        job if isinstance(job, str) else None,
        sent_at,
        message.body[:BODY_MAX_CHARS],
    )
