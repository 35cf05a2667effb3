"""Deadlines and budgets in simulation, for a few batches; `python -m bench.deadlines` has many."""

from __future__ import annotations

import pytest

from bench.deadlines import budget_row, deadline_row, missed_row

SEEDS = (2, 6, 10, 16, 22)


def test_deadlines_are_met_at_little_more_than_the_cost_of_the_cheapest_plan() -> None:
    rows = [deadline_row(seed) for seed in SEEDS]
    assert all(row["met"] and not row["told"] for row in rows)
    cost = sum(row["cost_usd"] for row in rows)
    assert cost <= 1.3 * sum(row["cheapest_usd"] for row in rows)


@pytest.mark.parametrize("seed", SEEDS)
def test_an_impossible_deadline_is_told_within_a_round(seed: int) -> None:
    row = missed_row(seed)
    assert (row["met"], row["told"]) == (False, True)


@pytest.mark.parametrize("seed", [*SEEDS, 21, 40])
def test_a_budget_is_exceeded_by_no_more_than_a_machine_minute(seed: int) -> None:
    row = budget_row(seed)
    assert row["over"] <= 1
    assert row["met"] or row["told"]
