"""The published rules by which the bench of the middle counts units and dollars."""

from __future__ import annotations

from typing import Any

import pytest

from bench import cloud_rules as rules


@pytest.mark.parametrize(("size", "units"), [(0, 1), (1, 1), (1_024, 1), (1_025, 2), (4_096, 4)])
def test_a_write_takes_a_unit_for_each_kilobyte_that_it_starts(size: int, units: int) -> None:
    assert rules.write_units(size) == units


@pytest.mark.parametrize(
    ("size", "consistent", "units"),
    [(0, True, 1.0), (4_096, True, 1.0), (4_097, True, 2.0), (4_097, False, 1.0), (10, False, 0.5)],
)
def test_a_read_takes_a_unit_for_each_four_kilobytes(
    size: int, consistent: bool, units: float
) -> None:
    assert rules.read_units(size, consistent=consistent) == units


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "ab\u00e9"}, 4),
        ({"N": "0"}, 1),
        ({"N": "1764018404.25"}, 7),
        ({"N": "-12"}, 3),
        ({"N": "1000"}, 2),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"B": b"xyz"}, 3),
        ({"NS": ["1", "249"]}, 2 + 3),
        ({"SS": ["a", "bc"]}, 3),
        ({"L": [{"S": "a"}]}, 3 + 1 + 1),
        ({"M": {"k": {"S": "ab"}}}, 3 + 1 + 1 + 2),
    ],
)
def test_the_size_of_an_item(value: dict[str, Any], size: int) -> None:
    assert rules.item_bytes({"name": value}) == 4 + size


def test_a_function_with_less_memory_computes_slower_but_waits_no_longer() -> None:
    assert rules.lambda_s(0.1, 0.01, 1_769) == pytest.approx(0.11)
    assert rules.lambda_s(0.1, 0.01, 3_008) == pytest.approx(0.11)
    assert rules.lambda_s(0.1, 0.01, 512) == pytest.approx(0.1 + 0.01 * 1_769 / 512)


def test_the_price_of_a_function_is_by_started_milliseconds() -> None:
    assert rules.lambda_usd(0.0101, 1_024) == rules.lambda_usd(0.011, 1_024)
    assert rules.lambda_usd(3_600, 1_769) == pytest.approx(0.1036, abs=1e-4), "an hour's hold"


def test_what_an_idle_queue_costs() -> None:
    calls = 5 * 3 * 60 * 24 * 30
    assert rules.pollers_usd(1) == pytest.approx(calls * 0.40e-6) == pytest.approx(0.2592)


@pytest.mark.parametrize(("alarms", "usd"), [(0, 0.0), (10, 0.0), (13, 0.3)])
def test_ten_alarms_are_free(alarms: int, usd: float) -> None:
    assert rules.alarms_usd(alarms) == pytest.approx(usd)
