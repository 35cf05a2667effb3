"""The cursor of results in the order of completion, against a model that keeps a set."""

from __future__ import annotations

import random

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from taskfleet.batch import PAGE_BUNDLES
from taskfleet.scheduler.given import CURSOR_MAX_CHARS, WINDOW_PAGES, Given


def test_nothing_was_given_at_first() -> None:
    assert Given.read(None).count == Given.read("").count == Given.read("c1").count == 0


@settings(max_examples=30, deadline=None)
@for_all(bundles=st.integers(1, 1_500), seed=st.integers(0, 2**32), step=st.integers(20, 700))
def test_every_bundle_is_given_once_in_any_order(bundles: int, seed: int, step: int) -> None:
    rng = random.Random(seed)
    order = list(range(bundles))
    rng.shuffle(order)
    counted: set[int] = set()
    seen: list[int] = []
    cursor: str | None = None
    while len(seen) < bundles:
        counted |= set(order[len(counted) : len(counted) + step])
        state = Given.read(cursor)
        assert state.count == len(seen)
        pages = set(state.pages(bundles))
        fresh = state.fresh(n for n in counted if n // PAGE_BUNDLES in pages)
        missing = [n for n in range(bundles) if n not in seen and n // PAGE_BUNDLES in pages]
        assert state.missing(bundles) == missing
        assert not set(fresh) & set(seen)
        for number in fresh[: rng.randint(0, len(fresh))]:
            state.add(number)
            seen.append(number)
        if rng.random() < 0.3 and (left := state.fresh(counted)):
            state.rest = left[0], rng.randint(0, 999)
        cursor = state.text()
        assert Given.read(cursor).text() == cursor
    assert sorted(seen) == list(range(bundles))


def test_the_cursor_of_a_million_bundles_in_the_worst_order_stays_short() -> None:
    bundles = 4_000 * PAGE_BUNDLES
    state = Given()
    rng = random.Random(1)
    longest = 0
    for _ in range(60):  # of each page that is looked at, a random part of the bundles ends
        for page in state.pages(bundles):
            stuck = page % 3 == 0
            for place in range(PAGE_BUNDLES):
                ends = rng.random() < (0.5 if stuck else 0.95)
                if ends and not (stuck and place == 249):
                    state.add(page * PAGE_BUNDLES + place)
        longest = max(longest, len(state.text()))
        state = Given.read(state.text())
    assert longest <= CURSOR_MAX_CHARS
    assert len(state.pages(bundles)) == WINDOW_PAGES
    assert longest > 1_000


@pytest.mark.parametrize(
    "cursor",
    [
        *("c2", "c1.", "c1.x3", "c1.f0", "c1.f999999", "c1.p", "c1.pAA", "0-0"),
        *("c1~", "c1~1", "c1.f1.f1", "c1.p" + "_" * 43, "c1" + ".pAQ.f1" * 700),
        "c1" + ".pAQ" * (WINDOW_PAGES + 1),
    ],
)
def test_a_text_that_no_page_had_is_refused(cursor: str) -> None:
    with pytest.raises(ValueError, match="not one that this API gave"):
        Given.read(cursor)
