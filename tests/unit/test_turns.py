"""Whose turn it is: seven turns of high priority, then one of normal work."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from ec2_worker.turns import EVERY, Turns

HIGH: Any = SimpleNamespace(is_high=True)
NORMAL: Any = SimpleNamespace(is_high=False)


def take(turns: Turns, *waiting: Any) -> Any:
    first = next(turns.order(waiting))
    turns.took(high=first.is_high)
    return first


def test_every_eighth_turn_belongs_to_normal_work() -> None:
    turns = Turns()
    taken = [take(turns, NORMAL, HIGH) for _ in range(3 * EVERY)]
    assert taken == 3 * ([HIGH] * (EVERY - 1) + [NORMAL])


@pytest.mark.parametrize("only", [HIGH, NORMAL])
def test_one_kind_of_work_alone_has_every_turn(only: Any) -> None:
    turns = Turns()
    assert [take(turns, only) for _ in range(2 * EVERY)] == [only] * (2 * EVERY)


def test_a_normal_turn_that_found_nothing_stays_due() -> None:
    turns = Turns()
    for _ in range(5 * EVERY):
        take(turns, HIGH)
    assert [take(turns, HIGH, NORMAL) for _ in range(2)] == [NORMAL, HIGH]


def test_bundles_of_one_priority_keep_their_order() -> None:
    first, second = SimpleNamespace(is_high=False), SimpleNamespace(is_high=False)
    order: list[Any] = list(Turns().order([first, HIGH, second]))  # type: ignore[list-item]
    assert order == [HIGH, first, second]
    assert order[1] is first
