"""Dead letters: shows them, and moves them back to the queue that they came from. Owns an order of
steps that loses none; the queue's reader decides what happens to a message that was moved back. A
bundle that already has its results is answered again and does not run twice.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator

from taskfleet.ports import CALL_MAX_MESSAGES, Message, OutgoingMessage, TaskQueue

HIDDEN_S = 60.0
"""Seconds for which a dead letter is invisible to other readers while it is handled here."""
WAIT_S = 1.0
"""Seconds to wait for a dead letter, such as one that another reader is about to give back."""


def peek(queue: TaskQueue, limit: int) -> Generator[Message, None, None]:
    """Yields up to `limit` dead letters of the queue and leaves them in place. They are invisible
    to other readers until the generator ends."""
    dead = queue.dead_letters()
    seen: list[Message] = []
    try:
        for messages in _new_messages(dead, limit, lambda message: message.message_id):
            seen += messages
            yield from messages
    finally:
        _show_again(dead, seen)


def redrive(
    queue: TaskQueue, limit: int, wanted: Callable[[Message], bool] = lambda _: True
) -> Iterator[Message]:
    """Looks at up to `limit` dead letters, moves those that are `wanted` back to the queue, and
    yields each once it is moved. The others stay in place.

    A message is sent before it is deleted. If the move is interrupted between the two, the message
    is on both queues, and its readers claim or count it once.
    """
    dead = queue.dead_letters()
    # Compared by body: a message that fails again meanwhile comes back under a new message id and
    # would otherwise be moved forever.
    left: list[Message] = []
    try:
        for messages in _new_messages(dead, limit, lambda message: message.body):
            moved = [message for message in messages if wanted(message)]
            left += [message for message in messages if message not in moved]
            if moved:
                queue.send([OutgoingMessage(message.body, high=message.high) for message in moved])
                dead.delete(moved)
                yield from moved
    finally:
        _show_again(dead, left)


def _new_messages(
    dead: TaskQueue, limit: int, identity: Callable[[Message], str]
) -> Iterator[list[Message]]:
    """Yields up to `limit` messages, one list a call, until a call returns nothing new. No two have
    the same identity; repetitions are made visible again."""
    seen: set[str] = set()
    left = limit
    while left > 0:
        new: list[Message] = []
        seen_before: list[Message] = []
        for message in dead.receive(
            min(CALL_MAX_MESSAGES, left), wait_s=WAIT_S, visibility_s=HIDDEN_S
        ):
            (seen_before if identity(message) in seen else new).append(message)
            seen.add(identity(message))
        if seen_before:
            _show_again(dead, seen_before)
        if not new:
            return
        left -= len(new)
        yield new


def _show_again(dead: TaskQueue, messages: list[Message]) -> None:
    dead.change_visibility([(message, 0.0) for message in messages])
