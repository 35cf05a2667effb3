"""The ports of one process of the model, and the faults of calls. The monitor is the real one in
memory; the queues keep no more promises than SQS does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from taskfleet.ports import Message, OutgoingMessage
from taskfleet.wire.envelopes import decode_responses
from tests.model.world import World

BUNDLE_CALLS = ("claim", "renew", "commit", "release", "unclaim")
"""Calls that change the item of a bundle."""


class Bound:
    """The monitor of one process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def __getattr__(self, name: str) -> Any:
        world = self._world

        def call(*args: Any, **kwargs: Any) -> Any:
            def take_effect() -> Any:
                if world.witness is not None and name in BUNDLE_CALLS:
                    world.witness(world, name, args, kwargs)
                value = getattr(world.monitor, name)(*args, **kwargs)
                if name == "renew":
                    for row in kwargs["results"]:
                        if row.is_note and world.ghost.charged[row.index] < row.attempts:
                            world.count("charged", row.index)
                return value

            late = None
            if name in BUNDLE_CALLS:
                frozen = {k: tuple(v) if isinstance(v, list) else v for k, v in kwargs.items()}
                late = (name, args, tuple(frozen.items()))
            return world.call(name, take_effect, late)

        return call


class ModelQueue:
    """The queue of tasks, of one process. A message that is not deleted can be delivered at any
    time, whatever its visibility, as SQS does now and then."""

    def __init__(self, world: World) -> None:
        self._world = world

    def change_visibility(self, changes: Sequence[tuple[Message, float]]) -> list[Message]:
        return list(self._world.call("visibility", list))

    def delete(self, messages: Sequence[Message]) -> None:
        gone = {int(message.message_id) for message in messages}
        self._world.call("delete", lambda: self._world.queue.difference_update(gone))

    def dead_letter(self, message: Message, reason: str) -> None:
        self._world.call("dead letter", lambda: self._world.dead.add(int(message.message_id)))
        self.delete([message])


class Answers:
    """The queue of answers, of one process."""

    def __init__(self, world: World) -> None:
        self._world = world

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        world = self._world

        def take_effect() -> None:
            for message in messages:
                world.responses.add(message.body)
                for response in decode_responses(message.body):
                    world.count("published", world.jobs.index(response.job_id), True)

        world.call("publish", take_effect)
