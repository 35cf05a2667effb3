"""Dead letters: looking at them, and moving them back to the queue that they came from. Owns the
order of the steps in which none is lost; what happens to a message then is its reader's business:
a bundle that has its results is answered again, and never runs twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from taskfleet.ports import CALL_MAX_MESSAGES, Message, OutgoingMessage, TaskQueue

HIDDEN_S = 60.0
WAIT_S = 1.0
"""For what another reader has just made visible again."""


def look(queue: TaskQueue, limit: int) -> Iterator[Message]:
    """The first dead letters of the queue; they stay where they are."""
    dead = queue.dead_letters()
    seen: list[Message] = []
    try:
        for batch in _batches(dead, limit, lambda message: message.message_id):
            seen += batch
            yield from batch
    finally:
        dead.change_visibility([(message, 0.0) for message in seen])


def redrive(queue: TaskQueue, limit: int) -> Iterator[Message]:
    """Move up to `limit` dead letters back, yielding each once it is moved. Each is sent before it
    is deleted: cut short between the two it is on both queues, and claimed or counted once."""
    dead = queue.dead_letters()
    # By body: what dies again meanwhile is a new message, and would go round for ever.
    for batch in _batches(dead, limit, lambda message: message.body):
        queue.send([OutgoingMessage(message.body) for message in batch])
        dead.delete(batch)
        yield from batch


def _batches(
    dead: TaskQueue, limit: int, identity: Callable[[Message], str]
) -> Iterator[list[Message]]:
    """Up to ten at a time, none of the same identity twice, until nothing new comes."""
    seen: set[str] = set()
    left = limit
    while left > 0:
        fresh: list[Message] = []
        again: list[Message] = []
        for message in dead.receive(
            min(CALL_MAX_MESSAGES, left), wait_s=WAIT_S, visibility_s=HIDDEN_S
        ):
            (again if identity(message) in seen else fresh).append(message)
            seen.add(identity(message))
        if again:
            dead.change_visibility([(message, 0.0) for message in again])
        if not fresh:
            return
        left -= len(fresh)
        yield fresh
