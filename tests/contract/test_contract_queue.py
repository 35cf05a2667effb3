"""The promises of `TaskQueue`. On AWS these tests wait in real time, so the waits are short."""

from __future__ import annotations

import time

import pytest

from taskfleet.errors import PermanentError, TooLarge
from taskfleet.ports import (
    CALL_MAX_MESSAGES,
    MESSAGE_MAX_BYTES,
    OutgoingMessage,
    QueueDepth,
    TaskQueue,
)


@pytest.fixture
def queue(world) -> TaskQueue:
    return world.make_queue(1_000)


def send(queue: TaskQueue, *bodies: str) -> None:
    queue.send([OutgoingMessage(body) for body in bodies])


def receive_all(queue: TaskQueue, *, visibility_s: float = 60) -> list:
    """Receives all visible messages."""
    found = []
    while messages := queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=visibility_s):
        found += messages
    return found


class TestSend:
    def test_delivers_every_body_as_it_was(self, queue):
        bodies = [f'{{"ü": "€𝄞 \\n & <{n}>"}}' for n in range(23)]
        queue.send(
            [OutgoingMessage(body, group=f"client {n % 2}") for n, body in enumerate(bodies)]
        )
        messages = receive_all(queue)
        assert sorted(m.body for m in messages) == sorted(bodies)
        assert len({m.message_id for m in messages}) == len(messages)
        assert {m.receive_count for m in messages} == {1}
        assert all(m.attributes == {} for m in messages)

    def test_of_nothing_sends_nothing(self, queue):
        queue.send([])
        assert queue.depth() == QueueDepth(0, 0)

    def test_takes_messages_that_fill_a_call_each(self, queue):
        send(queue, "a" * MESSAGE_MAX_BYTES, "b" * (MESSAGE_MAX_BYTES - 1), "c")
        assert sorted(m.body[0] for m in receive_all(queue)) == ["a", "b", "c"]

    @pytest.mark.parametrize("body", ["x" * (MESSAGE_MAX_BYTES + 1), "ü" * 600_000])
    def test_of_a_body_too_large_sends_nothing_at_all(self, queue, body):
        with pytest.raises(TooLarge, match=str(MESSAGE_MAX_BYTES)):
            send(queue, *["small"] * 12, body)
        assert queue.depth() == QueueDepth(0, 0)


class TestReceive:
    def test_of_an_empty_queue_returns_none(self, queue):
        assert queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=30) == []

    def test_returns_at_most_max_messages(self, queue):
        send(queue, *"abcde")
        assert len(queue.receive(3, wait_s=0, visibility_s=30)) == 3
        assert len(queue.receive(1, wait_s=0, visibility_s=30)) == 1

    def test_hides_messages_and_counts_every_delivery(self, queue):
        send(queue, "a")
        [first] = queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60)
        assert queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60) == []
        queue.change_visibility([(first, 0)])
        [second] = queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60)
        assert (second.message_id, second.body) == (first.message_id, "a")
        assert (first.receive_count, second.receive_count) == (1, 2)
        assert first.receipt_handle != second.receipt_handle

    def test_tells_when_a_message_was_sent(self, world, queue):
        now = time.time if world.kind == "aws" else world.clock.now
        before = now()
        send(queue, "a")
        after = now()
        [first] = queue.receive(1, wait_s=0, visibility_s=60)
        queue.change_visibility([(first, 0)])
        [second] = queue.receive(1, wait_s=0, visibility_s=60)
        assert before - 0.001 <= first.sent_at <= after + 0.001  # SQS tells milliseconds
        assert second.sent_at == first.sent_at

    def test_waits_for_a_message_to_become_visible(self, queue):
        send(queue, "a")
        queue.receive(1, wait_s=0, visibility_s=1)
        assert [m.body for m in queue.receive(1, wait_s=5, visibility_s=30)] == ["a"]

    def test_moves_a_message_received_too_often_to_the_dead_letter_queue(self, world):
        queue = world.make_queue(2)
        send(queue, "poison")
        for _ in range(2):
            [message] = queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60)
            queue.change_visibility([(message, 0)])
        assert queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60) == []
        assert queue.depth() == QueueDepth(0, 0)
        [dead] = queue.dead_letters().receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60)
        assert dead.body == "poison"


class TestChangeVisibility:
    def test_to_zero_shows_at_once_and_to_more_keeps_hidden(self, world, queue):
        send(queue, *"abcdefghijkl")
        messages = receive_all(queue, visibility_s=2)
        back = {m.body for m in messages[:5]}
        changes = [(m, 0 if m.body in back else 30) for m in messages]
        assert queue.change_visibility(changes) == []
        world.wait(2.1)
        assert {m.body for m in receive_all(queue)} == back

    def test_of_nothing_does_nothing(self, queue):
        assert queue.change_visibility([]) == []


class TestDelete:
    def test_removes_for_good(self, queue):
        send(queue, *"abcdefghijkl")
        messages = receive_all(queue)
        queue.delete([m for m in messages if m.body != "e"])
        queue.change_visibility([(m, 0) for m in messages])
        assert [m.body for m in receive_all(queue)] == ["e"]

    def test_again_or_of_nothing_does_nothing(self, queue):
        send(queue, *"ab")
        messages = receive_all(queue)
        queue.delete([])
        queue.delete(messages[:1])
        queue.delete(messages)
        assert queue.depth() == QueueDepth(0, 0)


class TestDeadLetter:
    def test_moves_the_body_with_the_reason(self, queue):
        send(queue, '{"v": 99}')
        [message] = queue.receive(1, wait_s=0, visibility_s=60)
        queue.dead_letter(message, "bundle of version 99; this worker reads 1")
        assert queue.depth() == QueueDepth(0, 0)
        [dead] = queue.dead_letters().receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60)
        assert dead.body == '{"v": 99}'
        assert dead.attributes == {"reason": "bundle of version 99; this worker reads 1"}

    @pytest.mark.parametrize("reason", ["", "x" * 2_000_000, "bell \x07 and \ud800 and \uffff"])
    def test_takes_any_reason(self, queue, reason):
        send(queue, "a")
        [message] = queue.receive(1, wait_s=0, visibility_s=60)
        queue.dead_letter(message, reason)
        [dead] = queue.dead_letters().receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60)
        assert dead.body == "a"

    def test_takes_the_largest_body(self, queue):
        send(queue, "a" * MESSAGE_MAX_BYTES)
        [message] = queue.receive(1, wait_s=0, visibility_s=60)
        queue.dead_letter(message, "it is poison")
        [dead] = queue.dead_letters().receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60)
        assert len(dead.body) == MESSAGE_MAX_BYTES

    def test_keeps_the_priority_on_both_ways_there(self, world):
        queue = world.make_queue(1)
        queue.send([OutgoingMessage("a", "alice", high=True), OutgoingMessage("b", high=True)])
        messages = {m.body: m for m in receive_all(queue)}
        assert all(message.high for message in messages.values())
        queue.dead_letter(messages["a"], "it is poison")
        queue.change_visibility([(messages["b"], 0)])
        assert receive_all(queue) == []
        dead = receive_all(queue.dead_letters())
        assert sorted((m.body, m.high) for m in dead) == [("a", True), ("b", True)]

    def test_needs_a_dead_letter_queue(self, queue):
        dead = queue.dead_letters()
        send(dead, "a")
        [message] = dead.receive(1, wait_s=0, visibility_s=60)
        with pytest.raises(PermanentError, match="no dead-letter queue"):
            dead.dead_letters()
        with pytest.raises(PermanentError, match="no dead-letter queue"):
            dead.dead_letter(message, "why")
        assert dead.depth().in_flight == 1


def test_depth_counts_waiting_messages_and_those_in_flight(queue):
    send(queue, *"abcdefg")
    first, second = queue.receive(2, wait_s=0, visibility_s=60)
    assert queue.depth() == QueueDepth(backlog=5, in_flight=2)
    queue.change_visibility([(first, 0)])
    queue.delete([second])
    assert queue.depth() == QueueDepth(backlog=6, in_flight=0)
