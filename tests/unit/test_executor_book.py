"""The book of an executor under any order of what its threads and users do."""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from taskfleet.executor.book import FIRST_PART_TASKS, PART_MAX_TASKS, Book, Call
from taskfleet.executor.outcome import settle
from taskfleet.executor.tasks import Order
from taskfleet.task import TaskStatus
from taskfleet.wire.http.results import ResultView


def row(index: int, status: TaskStatus = TaskStatus.SUCCEEDED) -> ResultView:
    return ResultView(f"b/{index}", index, None, status, index, None, 1, None, 0.0, "w")


class AnyOrder(RuleBasedStateMachine):
    """The rules are the steps of the sender, the collector and users. `tasks` is what the service
    has recorded; `given` are the rows that the collector has read."""

    def __init__(self) -> None:
        super().__init__()
        self.book = Book(lambda index: f"log {index}")
        self.book.batch_id = "b"
        self.futures: list[Any] = []
        self.ends: dict[int, int] = {}
        self.in_hand: list[Call] = []
        self.tasks = 0
        self.given: set[int] = set()
        self.closed = False

    @initialize(recorded=st.integers(0, 3))
    def an_earlier_run_recorded_some(self, recorded: int) -> None:
        self.tasks = self.book.recorded_total = recorded

    @precondition(lambda self: not self.closed)
    @rule()
    def submit(self) -> None:
        future = self.book.submit(Order("python", b"{}", (), "f", 2))
        number = len(self.futures)
        self.futures.append(future)
        self.ends[number] = 0

        def ended(_future: Any) -> None:
            self.ends[number] += 1

        future.add_done_callback(ended)

    @precondition(lambda self: self.futures)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        future = data.draw(st.sampled_from(self.futures))
        waiting = not future.running() and not future.done()
        assert future.cancel() == (waiting or future.cancelled())

    @precondition(lambda self: not self.in_hand and self.book.counts.waiting)
    @rule()
    def take(self) -> None:
        self.in_hand = self.book.take() or []

    @precondition(lambda self: self.in_hand)
    @rule(outcome=st.sampled_from(["recorded", "refused", "one refused"]))
    def hand_over(self, outcome: str) -> None:
        calls, first = self.in_hand, self.book.next_index
        for ended in self.book.number(calls):
            settle(ended.future, ended.row)
        new = calls[max(0, self.book.recorded_total - first) :]
        if outcome == "recorded" or not new:
            self.tasks = max(self.tasks, first + len(calls))
            self.book.recorded()
            self.in_hand = []
            return
        self.book.unnumber(new)
        faulty = new if outcome == "refused" else new[:1]
        self.book.refuse(faulty, ValueError("refused"))
        self.in_hand = new[len(faulty) :]

    @precondition(lambda self: self.tasks > len(self.given))
    @rule(data=st.data())
    def collect(self, data: st.DataObject) -> None:
        left = sorted(set(range(self.tasks)) - self.given)
        chosen = data.draw(st.lists(st.sampled_from(left), unique=True, min_size=1))
        self.given |= set(chosen)
        for ended in self.book.take_rows([row(index) for index in chosen]):
            settle(ended.future, ended.row)

    @rule(cancel=st.booleans())
    def close(self, cancel: bool) -> None:
        self.closed = True
        self.book.close("closed", cancel=cancel)

    @invariant()
    def no_future_ends_twice(self) -> None:
        assert all(ends <= 1 for ends in self.ends.values())

    @invariant()
    def a_result_is_that_of_its_index(self) -> None:
        for future in self.futures:
            if future.done() and not future.cancelled() and future.exception() is None:
                assert future.result() == future.index

    @invariant()
    def counts_add_up(self) -> None:
        counts = self.book.counts
        cancelled = sum(f.cancelled() and f.index is None for f in self.futures)
        refused = sum(f.index is None and f.done() for f in self.futures) - cancelled
        assert counts.waiting >= 0
        assert counts.running >= 0
        assert counts.waiting + counts.running + counts.ended + cancelled >= len(self.futures)
        assert refused >= 0

    def teardown(self) -> None:
        """Every call ends when the threads have done their work, and both may end."""
        self.book.close("closed")
        while True:
            while self.in_hand:
                self.hand_over("recorded")
            if (calls := self.book.take()) is None:
                break
            self.in_hand = calls
        left = sorted(set(range(self.tasks)) - self.given)
        for ended in self.book.take_rows([row(index) for index in left]):
            settle(ended.future, ended.row)
        assert all(future.done() for future in self.futures)
        assert set(self.ends.values()) <= {1}
        assert not self.book.await_handed()
        with pytest.raises(RuntimeError, match="closed"):
            self.book.submit(Order("python", b"{}", (), "f", 2))


AnyOrder.TestCase.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)
TestAnyOrder = AnyOrder.TestCase


def test_a_row_that_is_cancelled_ends_its_future_so():
    book = Book(lambda _index: "")
    future = book.expect(1)[0]
    (ended,) = book.take_rows([row(0, TaskStatus.CANCELLED)])
    settle(ended.future, ended.row)
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(0)


def test_a_request_has_as_many_calls_as_its_functions_may_send():
    book = Book(lambda index: f"log {index}")
    for function in "kkggggkgk":
        book.submit(Order("python", b"{}", (), function, 2))
    book.close("closed")
    most = {"k": PART_MAX_TASKS, "g": 2}
    parts = []
    while (calls := book.take(most.__getitem__)) is not None:
        parts.append("".join(call.order.pace for call in calls))
    assert parts == ["kk", "gg", "gg", "k", "gk"]


def test_a_small_request_goes_first_so_that_workers_begin():
    book = Book(lambda index: "")
    for _ in range(FIRST_PART_TASKS + 300):
        book.submit(Order("python", b"{}", (), "f", 2))
    first = book.take()
    assert first is not None
    assert len(first) == FIRST_PART_TASKS
    book.number(first)
    book.recorded()
    assert len(book.take() or ()) == 300
