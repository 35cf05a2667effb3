"""How often a collector writes the paces that it learns."""

from __future__ import annotations

from typing import Any

import pytest

from taskfleet.memory.clock import ManualClock
from taskfleet.pace import Sample
from taskfleet.scheduler import learn
from taskfleet.scheduler.learn import HOLD_S, SETTLED_TASKS, Learner


class Table:
    """A table that notes what it learns."""

    def __init__(self) -> None:
        self.written: list[dict[str, int]] = []
        self.error: Exception | None = None

    def learn(self, samples: dict[str, Sample]) -> None:
        if self.error is not None:
            raise self.error
        self.written.append({name: sample.tasks for name, sample in samples.items()})


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def learner(table: Any, clock: ManualClock) -> Learner:
    return Learner(table, clock)


def of(tasks: int) -> Sample:
    return Sample(tasks, 0.1 * tasks, 0.01 * tasks)


def test_what_is_new_is_written_at_once(learner: Learner, table: Table) -> None:
    for _ in range(SETTLED_TASKS):
        learner.learn({"a": of(1)})
    assert table.written == [{"a": 1}] * SETTLED_TASKS


def test_a_settled_pace_is_written_once_a_second_with_all_that_came(
    learner: Learner, table: Table, clock: ManualClock
) -> None:
    learner.learn({"a": of(SETTLED_TASKS)})
    for _ in range(5):
        learner.learn({"a": of(2)})
    assert table.written == [{"a": SETTLED_TASKS}]
    learner.learn({"b": of(1)})  # another kind has its own count
    assert table.written[1:] == [{"b": 1}]
    clock.sleep(HOLD_S)
    learner.learn({"b": of(1)})  # whoever comes takes along what was held
    assert table.written[2:] == [{"b": 1, "a": 10}]
    learner.learn({})
    assert len(table.written) == 3


def test_a_clock_that_is_set_back_holds_nothing(
    learner: Learner, table: Table, clock: ManualClock
) -> None:
    learner.learn({"a": of(SETTLED_TASKS)})
    clock.set(clock.now() - 3600)
    learner.learn({"a": of(1)})
    assert table.written == [{"a": SETTLED_TASKS}, {"a": 1}]


def test_a_busy_table_is_told(learner: Learner, table: Table) -> None:
    table.error = TimeoutError("busy")
    with pytest.raises(TimeoutError):
        learner.learn({"a": of(1)})
    table.error = None
    learner.learn({"a": of(1)})  # as the response that is delivered again brings it
    assert table.written == [{"a": 1}]


def test_names_are_forgotten_before_they_fill_the_memory(
    learner: Learner, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learn, "NAMES_MAX", 3)
    for number in range(10):
        learner.learn({str(number): of(SETTLED_TASKS)})
        assert len(learner._written) <= 4
    assert len(table.written) == 10
