"""Dead letters: looked at, and moved back."""

from __future__ import annotations

from taskfleet.memory import ManualClock, MemoryQueue
from taskfleet.ports import OutgoingMessage
from taskfleet.scheduler.redrive import look, redrive


def queue_with_dead(count: int) -> MemoryQueue:
    clock = ManualClock()
    queue = MemoryQueue(clock, dead=MemoryQueue(clock, name="dead"))
    queue.send([OutgoingMessage(f"body {number}") for number in range(count)])
    while messages := queue.receive(10, wait_s=0, visibility_s=30):
        for message in messages:
            queue.dead_letter(message, f"why {message.body}")
    return queue


def bodies(queue: object) -> set[str]:
    found = set()
    while messages := queue.receive(10, wait_s=0, visibility_s=30):  # type: ignore[attr-defined]
        found |= {message.body for message in messages}
    return found


def test_looking_tells_the_reason_and_leaves_all_in_place() -> None:
    queue = queue_with_dead(25)
    for _ in range(2):
        seen = list(look(queue, 100))
        assert {m.attributes["reason"] for m in seen} == {f"why body {n}" for n in range(25)}
    assert queue.depth().backlog == 0
    assert queue.dead_letters().depth().backlog == 25


def test_all_go_back_once() -> None:
    queue = queue_with_dead(25)
    assert len(list(redrive(queue, 100))) == 25
    assert bodies(queue) == {f"body {n}" for n in range(25)}
    assert bodies(queue.dead_letters()) == set()


def test_no_more_than_the_limit_go_back() -> None:
    queue = queue_with_dead(25)
    assert len(list(redrive(queue, 12))) == 12
    assert queue.depth().backlog == 12
    assert queue.dead_letters().depth().backlog == 13


def test_what_cannot_be_sent_stays_dead() -> None:
    queue = queue_with_dead(3)
    working = queue.send

    def broken(_messages: object) -> None:
        raise ConnectionError("no network")

    queue.send = broken  # type: ignore[assignment]
    try:
        list(redrive(queue, 10))
    except ConnectionError:
        pass
    else:
        raise AssertionError("the fault was swallowed")
    queue.send = working  # type: ignore[method-assign]
    queue._clock.sleep(61)
    assert len(list(redrive(queue, 10))) == 3
    assert bodies(queue) == {"body 0", "body 1", "body 2"}


def test_what_dies_again_meanwhile_does_not_go_round_for_ever() -> None:
    queue = queue_with_dead(3)
    dead = queue.dead_letters()
    moved = []
    for message in redrive(queue, 100):
        moved.append(message.body)
        for returned in queue.receive(10, wait_s=0, visibility_s=30):
            queue.dead_letter(returned, "again")
    assert sorted(moved) == ["body 0", "body 1", "body 2"]
    assert dead.depth().backlog == 3
