"""The two queues of bundles as one: `Task_to_process` and `Task_to_process_high`, whose messages
workers take first. Owns which queue a message is sent to and which one it came from; not whose turn
it is (`ec2_worker.turns`).

A message of the queue `high` has the attribute `priority`, which stays with it among the dead
letters, so that a redrive finds the way back.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from taskfleet.ports import (
    HIGH,
    PRIORITY,
    Message,
    OutgoingMessage,
    QueueDepth,
    TaskQueue,
)


class Lanes:
    """Implements `taskfleet.ports.TaskQueue` on two queues. `receive` takes from the normal queue,
    `receive_high` from the other; each message that came from either can be given to every method.

    high: None where there is one queue only, so that all messages go there.
    """

    def __init__(self, normal: TaskQueue, high: TaskQueue | None = None) -> None:
        self._normal = normal
        self._high = high

    @property
    def has_high(self) -> bool:
        """Returns whether there are two queues."""
        return self._high is not None

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        if self._high is None:
            self._normal.send(messages)
            return
        high = [message for message in messages if message.high]
        if high:
            self._high.send(high)
        if len(high) < len(messages):
            self._normal.send([message for message in messages if not message.high])

    def receive(self, max_messages: int, *, wait_s: float, visibility_s: float) -> list[Message]:
        messages = self._normal.receive(max_messages, wait_s=wait_s, visibility_s=visibility_s)
        return [_marked(message, high=False) for message in messages]

    def receive_high(
        self, max_messages: int, *, wait_s: float, visibility_s: float
    ) -> list[Message]:
        """Receive from the queue `high`, as `receive` does from the other. Returns nothing, at
        once, if there is none."""
        if self._high is None:
            return []
        messages = self._high.receive(max_messages, wait_s=wait_s, visibility_s=visibility_s)
        return [_marked(message, high=True) for message in messages]

    def change_visibility(self, changes: Sequence[tuple[Message, float]]) -> list[Message]:
        high = [change for change in changes if self._is_high(change[0])]
        stale = self._high.change_visibility(high) if self._high and high else []
        if len(high) == len(changes):
            return stale
        others = [change for change in changes if not self._is_high(change[0])]
        return [*stale, *self._normal.change_visibility(others)]

    def delete(self, messages: Sequence[Message]) -> None:
        high = [message for message in messages if self._is_high(message)]
        if self._high and high:
            self._high.delete(high)
        if len(high) < len(messages):
            self._normal.delete([message for message in messages if not self._is_high(message)])

    def dead_letter(self, message: Message, reason: str) -> None:
        queue = self._high if self._high and message.high else self._normal
        queue.dead_letter(message, reason)

    def depth(self) -> QueueDepth:
        """Returns the numbers of messages on both queues, by one call to each."""
        depth = self._normal.depth()
        return depth if self._high is None else depth + self._high.depth()

    def dead_letters(self) -> TaskQueue:
        """Returns the dead-letter queue, which both queues share."""
        return self._normal.dead_letters()

    def _is_high(self, message: Message) -> bool:
        return self._high is not None and message.high


def _marked(message: Message, *, high: bool) -> Message:
    """Returns the message with the mark of the queue that it came from, whatever its sender
    wrote."""
    if message.high == high:
        return message
    others = {name: value for name, value in message.attributes.items() if name != PRIORITY}
    return replace(message, attributes={**others, PRIORITY: HIGH} if high else others)
