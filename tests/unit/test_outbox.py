"""When the outbox sends answers: alone, together, or with the last of the work."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable

import pytest

from ec2_worker.outbox import LINGERS, Letter, Outbox
from taskfleet.bill import Odometer, Spend
from taskfleet.bundle import Response
from taskfleet.memory import ManualClock, MemoryQueue
from taskfleet.ports import CALL_MAX_MESSAGES, Message, OutgoingMessage


class Responses(MemoryQueue):
    """A response queue that records how many responses each call sent."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(clock)
        self.calls: list[int] = []

    def send(self, messages: list[OutgoingMessage]) -> None:  # type: ignore[override]
        bodies = [json.loads(message.body) for message in messages]
        self.calls.append(sum(len(body.get("responses", [body])) for body in bodies))
        super().send(messages)


class Post:
    """An outbox whose tasks were received. While a letter waits, it calls `busy`."""

    def __init__(self, busy: Callable[[Post], bool] = lambda _: False) -> None:
        clock = ManualClock(1_700_000_000.0)
        self.tasks, self.responses = MemoryQueue(clock), Responses(clock)
        self.asked = 0
        self.sent = 0

        def ask() -> bool:
            self.asked += 1
            return busy(self)

        self.outbox = Outbox(self.tasks, self.responses, clock, Odometer(Spend), ask)

    def put(self, *, high: bool = False) -> None:
        self.tasks.send([OutgoingMessage("x", high=high)])
        (message,) = self.tasks.receive(1, wait_s=0, visibility_s=30)
        assert isinstance(message, Message)
        response = Response(f"b:{self.sent}", "alice", "b", [])
        self.outbox.put(Letter(response, message, None))
        self.sent += 1

    def run(self) -> list[int]:
        """Run until the outbox is empty. Returns the number of letters in each call."""
        flush = self.outbox.flush

        def flush_and_close() -> bool:
            done = flush()
            if not self.outbox.pending():
                self.outbox.close()
            return done

        self.outbox.flush = flush_and_close  # type: ignore[method-assign]
        self.outbox.run()
        return self.responses.calls


def test_an_answer_with_nothing_else_in_hand_goes_at_once() -> None:
    post = Post()
    post.put()
    assert post.run() == [1]
    assert post.asked == 1


def test_answers_of_a_busy_worker_are_sent_together_with_the_last() -> None:
    def busy(post: Post) -> bool:
        if post.sent < 4:
            post.put()
        return post.sent < 4

    post = Post(busy)
    post.put()
    assert post.run() == [4]


def test_it_does_not_wait_for_ever() -> None:
    post = Post(lambda _: True)
    post.put()
    assert post.run() == [1]
    assert post.asked == 2 * LINGERS  # before and after each wait


def test_an_answer_of_high_priority_waits_for_no_other() -> None:
    post = Post(lambda _: True)
    post.put(high=True)
    assert post.run() == [1]
    assert post.asked <= 1


def test_a_wait_ends_when_the_worker_has_nothing_in_hand_any_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ec2_worker.outbox.LINGER_S", 3600.0)
    waits = threading.Event()
    in_hand = [True]

    def busy(_post: Post) -> bool:
        waits.set()
        return in_hand[0]

    def settle(post: Post) -> None:
        assert waits.wait(10)
        in_hand[0] = False
        post.outbox.hurry()

    post = Post(busy)
    post.put()
    threading.Thread(target=settle, args=(post,), daemon=True).start()
    assert post.run() == [1]


@pytest.mark.parametrize(
    ("letters", "calls"), [(CALL_MAX_MESSAGES, [10]), (2 * CALL_MAX_MESSAGES + 3, [10, 10, 3])]
)
def test_a_full_call_goes_without_waiting(letters: int, calls: list[int]) -> None:
    post = Post()
    for _ in range(letters):
        post.put()
    assert post.run() == calls
    assert post.asked == bool(letters % CALL_MAX_MESSAGES)
    assert post.tasks.receive(10, wait_s=0, visibility_s=30) == []
