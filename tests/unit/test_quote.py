"""Quotes: the rule for time and price, and the fleet that a quote assumes."""

from __future__ import annotations

import math

import msgspec
import pytest

from taskfleet.memory import ManualClock, MemoryFleetRecords
from taskfleet.pace import Pace, Sample
from taskfleet.provisioner.records import Noted
from taskfleet.quote import (
    ENDLESS_S,
    Outcome,
    Quote,
    Score,
    Supply,
    TaskGroup,
    Work,
    assumed,
    calls_usd,
    foretold,
    kept,
    learned,
    score,
    times_s,
)
from taskfleet.scheduler.quoter import Expected, Quoter
from taskfleet.settings import Settings

SLOT_USD_S = 0.0725 / 3600 / 16
SECOND = TaskGroup("sleep", 160, 1.0)
CONF = Settings(bucket="b", nudge=True)


def quoted(
    group: TaskGroup, noted: Noted | None, *, launches: bool = True, conf: Settings = CONF
) -> Expected:
    quoter = Quoter(conf, MemoryFleetRecords(), ManualClock(1_000.0), launches=launches)
    return quoter.quote([group], 1, noted)


def warm(machines: int = 1, **more: float) -> Noted:
    slots = 16 * machines
    return Noted(machines, slots, slots, boot_s=40.0, at=1_000.0, **more)  # type: ignore[arg-type]


# --- the rule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("group", "supply", "least_s", "most_s"),
    [
        (SECOND, Supply(16), 10, 11),
        (SECOND, Supply(0, 16, 40), 50, 51),
        (SECOND, Supply(16, ahead_s=160), 20, 21),
        (TaskGroup("movie", 4, 10.0, slots_each=8.0), Supply(16), 20, 21),
        (TaskGroup("movie", 1, 10.0, slots_each=8.0), Supply(16), 10, 11),
    ],
)
def test_the_median(group: TaskGroup, supply: Supply, least_s: float, most_s: float) -> None:
    p50_s, p90_s = times_s(Work((group,)), supply)
    assert least_s <= p50_s <= most_s
    assert p50_s < p90_s < 2 * p50_s


def test_without_a_slot_a_batch_never_ends() -> None:
    assert times_s(Work((SECOND,)), Supply(0)) == (math.inf, math.inf)


def test_the_less_is_known_the_later_is_the_ninetieth_percentile() -> None:
    few = Pace().learn(Sample(3, 30.0, 420.0))
    many = Pace(10_000, 10.0, 40.0, 10.0, 40.0)
    groups = [assumed("new", 100), learned("few", 100, few), learned("many", 100, many)]
    spreads = []
    for group in groups:
        p50_s, p90_s = times_s(Work((group,)), Supply(16))
        spreads.append(p90_s / p50_s)
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 3
    assert spreads[2] < 1.3


def test_foretold_durations_are_known_with_their_spread() -> None:
    group = foretold("sleep", Sample(2, 4.0, 10.0))
    assert (group.mean_s, group.sd_s, group.learned) == (2.0, 1.0, None)
    assert group.mean_error_s == 0


def test_a_hint_is_taken_for_the_mean() -> None:
    assert assumed("new", 1, 2.5).mean_s == 2.5


def test_a_kept_quote_is_an_array_of_few_bytes() -> None:
    quote = kept(Quote(123.456789, 223.456789, 0.000123456789, 12, 1.2586805e-06))
    data = msgspec.json.encode(quote)
    assert data == b"[123.5,223.5,0.0001235,12,1.259e-6]"
    assert msgspec.json.decode(data, type=Quote) == quote


def test_dollars_of_calls_are_those_of_the_pinned_bill() -> None:
    """`tests/functional/test_bill_of_a_batch.py` counts the calls of the same batches."""
    assert calls_usd(Work((TaskGroup("sleep", 1, 0.0),), 1), 0.5) == pytest.approx(5e-6, rel=0.35)
    thousand = calls_usd(Work((TaskGroup("sleep", 1_000, 0.0),), 1), 0.5)
    assert thousand == pytest.approx(1.1e-5, rel=0.35)
    many = calls_usd(Work((TaskGroup("sleep", 20_000, 0.0),), 20), 0.5)
    assert many == pytest.approx(1.8e-4, rel=0.35)


# --- the fleet ----------------------------------------------------------------------------------


def test_a_warm_fleet_starts_at_once_and_launches_nothing() -> None:
    made = quoted(SECOND, warm())
    assert (made.launched, made.idle_usd, made.quote.machines) == (0, 0.0, 1)
    assert 10 <= made.quote.p50_s <= 11


def test_a_cold_fleet_boots_first_and_its_idle_time_is_told() -> None:
    made = quoted(SECOND, Noted(0, 0, boot_s=30.0))
    assert made.launched == 1
    assert 41 <= made.quote.p50_s <= 43
    whole = (31.5 + 10 + 45) * 0.0725 / 3600
    assert made.idle_usd == pytest.approx(whole - 160 * SLOT_USD_S, rel=0.05)


def test_a_stage_whose_provisioner_has_never_run_is_cold() -> None:
    assert quoted(SECOND, None).launched == 1
    assert quoted(SECOND, None, launches=False).launched == 0
    assert 10 <= quoted(SECOND, None, launches=False).quote.p50_s <= 11


def test_machines_are_those_of_the_policy_within_the_limit() -> None:
    large = TaskGroup("sleep", 2_000, 60.0)
    assert quoted(large, warm()).launched == 9
    conf = msgspec.structs.replace(CONF, max_capacity=100)
    assert quoted(large, warm(), conf=conf).launched > 50
    none = msgspec.structs.replace(CONF, max_capacity=0)
    made = quoted(large, Noted(0, 0), conf=none)
    assert (made.launched, made.quote.p50_s) == (0, kept(Quote(ENDLESS_S, 0, 0, 0, 0)).p50_s)


def test_work_ahead_delays_and_shrinks_with_time() -> None:
    now = quoted(SECOND, warm(ahead_s=320.0))
    before = quoted(SECOND, msgspec.structs.replace(warm(ahead_s=320.0), at=990.0))
    assert 30 <= now.quote.p50_s <= 31
    assert 20 <= before.quote.p50_s <= 21


def test_a_machine_that_boots_is_awaited_and_not_launched_again() -> None:
    noted = Noted(1, 16, 0, boot_s=40.0, at=990.0, booting_at=980.0)
    made = quoted(SECOND, noted)
    assert made.launched == 0
    assert 30 <= made.quote.p50_s <= 31


def test_a_kind_of_which_a_machine_runs_few_occupies_more_slots() -> None:
    noted = msgspec.structs.replace(warm(), limits={"movie": 2})
    made = quoted(TaskGroup("movie:hd", 2, 10.0, learned=100), noted)
    assert 10 <= made.quote.p50_s <= 12
    calls = calls_usd(Work((TaskGroup("movie", 2, 10.0),)), 10.6)
    assert made.quote.usd == pytest.approx(160 * SLOT_USD_S + calls, rel=0.01)
    assert made.quote.usd_a_busy_s == pytest.approx(8 * SLOT_USD_S, rel=0.001)


# --- the score ----------------------------------------------------------------------------------


def test_the_score_has_medians_and_the_share_that_was_held() -> None:
    outcomes = [
        Outcome(10.0, 15.0, 1.0, 10.0, 1.0),
        Outcome(10.0, 15.0, 1.1, 12.5, 1.0),
        Outcome(10.0, 15.0, 0.5, 20.0, 1.0),
    ]
    found = score(outcomes)
    assert found.batches == 3
    assert found.time_error == pytest.approx(0.2)
    assert found.usd_error == pytest.approx(0.1)
    assert found.p90_held == pytest.approx(2 / 3)
    assert score([]) == Score(0, None, None, None)
