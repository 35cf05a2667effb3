"""The two queues of bundles as one: every message finds the queue that it came from."""

from __future__ import annotations

import pytest

from taskfleet.lanes import Lanes
from taskfleet.memory import ManualClock, MemoryQueue
from taskfleet.ports import Message, OutgoingMessage, QueueDepth

NOTHING = QueueDepth(0, 0)


class World:
    def __init__(self) -> None:
        clock = ManualClock()
        self.dead = MemoryQueue(clock, name="dead")
        self.normal = MemoryQueue(clock, name="normal", dead=self.dead)
        self.high = MemoryQueue(clock, name="high", dead=self.dead)
        self.lanes = Lanes(self.normal, self.high)

    def receive(self) -> list[Message]:
        """Receive all messages of both queues, those of the normal one first."""
        normal = self.lanes.receive(10, wait_s=0, visibility_s=60)
        return normal + self.lanes.receive_high(10, wait_s=0, visibility_s=60)


@pytest.fixture
def world() -> World:
    made = World()
    made.lanes.send([OutgoingMessage("a"), OutgoingMessage("b", high=True), OutgoingMessage("c")])
    return made


def test_messages_go_to_the_queue_of_their_priority(world: World) -> None:
    assert (world.normal.depth(), world.high.depth()) == (QueueDepth(2, 0), QueueDepth(1, 0))
    assert world.lanes.depth() == QueueDepth(3, 0)
    assert [(m.body, m.high) for m in world.receive()] == [("a", False), ("c", False), ("b", True)]


def test_messages_of_both_queues_are_deleted_hidden_and_shown_together(world: World) -> None:
    first, *others = world.receive()
    world.lanes.delete([first])
    assert world.lanes.change_visibility([(m, 0.0) for m in (first, *others)]) == [first]
    assert [m.body for m in world.receive()] == ["c", "b"]
    world.lanes.delete(world.receive() or others)
    assert world.lanes.depth() == QueueDepth(0, 2), "the receipts of a delivery before do not count"


def test_the_queue_counts_and_not_what_the_sender_wrote() -> None:
    world = World()
    world.normal.send([OutgoingMessage("says high", high=True)])
    world.high.send([OutgoingMessage("says nothing")])
    messages = world.receive()
    assert [(m.body, m.high) for m in messages] == [("says high", False), ("says nothing", True)]
    world.lanes.delete(messages)
    assert world.lanes.depth() == NOTHING


def test_both_share_the_dead_letters(world: World) -> None:
    for message in world.receive():
        world.lanes.dead_letter(message, "why")
    assert world.lanes.depth() == NOTHING
    dead = world.lanes.dead_letters().receive(10, wait_s=0, visibility_s=0)
    assert [(m.body, m.high) for m in dead] == [("a", False), ("c", False), ("b", True)]


def test_with_one_queue_all_messages_go_there() -> None:
    world = World()
    lanes = Lanes(world.normal)
    lanes.send([OutgoingMessage("a", high=True)])
    assert lanes.receive_high(10, wait_s=20, visibility_s=60) == []
    messages = lanes.receive(10, wait_s=0, visibility_s=60)
    assert lanes.change_visibility([(m, 30.0) for m in messages]) == []
    lanes.delete(messages)
    assert lanes.depth() == NOTHING
