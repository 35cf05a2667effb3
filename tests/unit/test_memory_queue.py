"""The promises of the memory queue beyond the contract: it wakes waiting receivers, is fair to
groups, and never blocks on a ManualClock."""

from __future__ import annotations

import threading
import time

import pytest

from taskfleet.clock import SystemClock
from taskfleet.memory import ManualClock, MemoryQueue
from taskfleet.ports import CALL_MAX_MESSAGES, OutgoingMessage, QueueDepth


def send(queue: MemoryQueue, *bodies: str, group: str | None = None) -> None:
    queue.send([OutgoingMessage(body, group) for body in bodies])


class TestOnAManualClock:
    def test_waiting_moves_the_clock_and_takes_no_real_time(self):
        clock = ManualClock(1_000.0)
        started = time.monotonic()
        assert MemoryQueue(clock).receive(CALL_MAX_MESSAGES, wait_s=20, visibility_s=30) == []
        assert clock.now() == 1_020.0
        assert time.monotonic() - started < 1

    def test_waiting_ends_when_a_message_becomes_visible(self):
        clock = ManualClock(1_000.0)
        queue = MemoryQueue(clock)
        send(queue, "a")
        queue.receive(1, wait_s=0, visibility_s=7)
        assert [m.receive_count for m in queue.receive(1, wait_s=20, visibility_s=30)] == [2]
        assert clock.now() == 1_007.0

    def test_an_expired_receipt_handle_is_invalid(self):
        clock = ManualClock()
        queue = MemoryQueue(clock)
        send(queue, "a")
        [message] = queue.receive(1, wait_s=0, visibility_s=30)
        clock.sleep(30)
        assert queue.change_visibility([(message, 30)]) == [message]
        queue.delete([message])
        assert queue.depth() == QueueDepth(backlog=1, in_flight=0)

    def test_the_receipt_handle_of_an_earlier_delivery_is_invalid(self):
        clock = ManualClock()
        queue = MemoryQueue(clock)
        send(queue, "a")
        [first] = queue.receive(1, wait_s=0, visibility_s=30)
        clock.sleep(31)
        [second] = queue.receive(1, wait_s=0, visibility_s=30)
        assert queue.change_visibility([(first, 0), (second, 60)]) == [first]
        queue.delete([first])
        clock.sleep(59)
        assert queue.depth() == QueueDepth(backlog=0, in_flight=1)

    def test_an_extended_visibility_ends_at_the_new_time(self):
        clock = ManualClock()
        queue = MemoryQueue(clock)
        send(queue, "a")
        [message] = queue.receive(1, wait_s=0, visibility_s=30)
        clock.sleep(20)
        queue.change_visibility([(message, 30)])
        clock.sleep(29)
        assert queue.depth().in_flight == 1
        clock.sleep(1)
        assert queue.depth().backlog == 1


def test_no_group_starves_another():
    queue = MemoryQueue(ManualClock())
    send(queue, *(f"big {n}" for n in range(1_000)), group="big")
    send(queue, "small 0", "small 1", group="small")
    first = [m.body for m in queue.receive(5, wait_s=0, visibility_s=30)]
    assert first == ["big 0", "small 0", "big 1", "small 1", "big 2"]


@pytest.mark.parametrize("how", ["sent", "given back"])
def test_a_message_wakes_a_waiting_receiver_on_a_real_clock(how):
    queue = MemoryQueue(SystemClock())
    send(queue, "a")
    [message] = queue.receive(1, wait_s=0, visibility_s=60)
    found: list[float] = []

    def wait() -> None:
        started = time.monotonic()
        assert queue.receive(1, wait_s=10, visibility_s=60)
        found.append(time.monotonic() - started)

    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    if how == "sent":
        send(queue, "b")
    else:
        queue.change_visibility([(message, 0)])
    thread.join(timeout=5)
    assert found
    assert found[0] < 2


def test_sixteen_threads_share_the_messages_without_loss_or_repetition():
    queue = MemoryQueue(SystemClock())
    bodies = {str(n) for n in range(5_000)}
    taken: list[str] = []

    def work() -> None:
        while messages := queue.receive(CALL_MAX_MESSAGES, wait_s=0, visibility_s=60):
            taken.extend(m.body for m in messages)
            queue.delete(messages)

    send(queue, *bodies)
    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(taken) == len(bodies)
    assert set(taken) == bodies
    assert queue.depth() == QueueDepth(0, 0)
