"""How many calls of a new function go at first."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from taskfleet.executor.book import PART_MAX_TASKS, Call
from taskfleet.executor.slowstart import ENOUGH, FIRST, GROWTH, SlowStart
from taskfleet.executor.tasks import Order


def calls(count: int, function: str = "f", *, ended: bool) -> list[Call]:
    made = []
    for _ in range(count):
        future: Future[Any] = Future()
        if ended:
            future.set_result(None)
        made.append(Call(future, Order("python", b"", (), function, 0)))  # type: ignore[arg-type]
    return made


def test_quick_calls_grow_until_enough_is_known():
    start = SlowStart()
    assert start.most("f") == FIRST
    start.sent(calls(FIRST, ended=True), lambda: 10_000)
    assert start.most("f") == GROWTH * FIRST
    assert not start.known
    start.sent(calls(ENOUGH, ended=True), lambda: 10_000)
    assert start.known == {"f"}
    assert start.most("f") == PART_MAX_TASKS


def test_a_few_calls_never_wait():
    start = SlowStart(hold_s=3600)
    start.sent(calls(3, ended=False), lambda: FIRST)
    assert not start.known


def test_what_has_ended_since_the_last_request_counts():
    start = SlowStart(hold_s=0.01)
    made = calls(8, ended=False)
    start.sent(made, lambda: FIRST)
    assert start.most("f") == FIRST
    for call in made:
        call.future.set_result(None)
    assert start.most("f") == GROWTH * 8


def test_slow_calls_hold_up_the_rest_once_or_twice():
    start = SlowStart(hold_s=0.01)
    start.sent(calls(FIRST, ended=False), lambda: 10_000)
    assert start.most("f") == PART_MAX_TASKS
    assert not start.known
    start.sent(calls(FIRST, ended=False), lambda: 10_000)
    assert start.known == {"f"}


def test_another_function_begins_anew():
    start = SlowStart()
    start.sent(calls(FIRST, ended=True), lambda: 10_000)
    assert start.most("g") == FIRST
    start.sent(calls(1, "g", ended=True), lambda: 0)
    assert start.most("g") == FIRST


def test_half_of_the_calls_is_enough():
    start = SlowStart(hold_s=3600)
    start.sent(calls(8, ended=True) + calls(8, ended=False), lambda: 10_000)
    assert start.most("f") == GROWTH * 8
