"""The note of the fleet that the provisioner keeps, and when it is renewed."""

from __future__ import annotations

import pytest

from taskfleet.provisioner.noting import ahead_at, is_news, note_of, work_ahead_s
from taskfleet.provisioner.observe import limits_of
from taskfleet.provisioner.policy import KindLoad, Observation
from taskfleet.provisioner.records import FleetState, Group, Noted
from taskfleet.settings import Settings


def test_the_work_ahead_is_what_waits_and_half_of_what_runs() -> None:
    loads = [KindLoad("a", 10, 4, 2.0), KindLoad("movie", 1, 0, 5.0, 8.0), KindLoad("new", 1, 0)]
    seen = Observation(loads, [], limits_of(Settings(bucket="b")), 40.0, 45.0)
    assert work_ahead_s(seen) == 12 * 2.0 + 5.0 * 8 + 10.0


def test_work_ahead_shrinks_as_ready_slots_do_it() -> None:
    assert ahead_at(320.0, 100.0, 16, 110.0) == 160.0
    assert ahead_at(320.0, 100.0, 16, 200.0) == 0.0
    assert ahead_at(320.0, 100.0, 0, 200.0) == 320.0


@pytest.mark.parametrize(
    ("ahead_s", "ready", "news"),
    [
        (160.0, 16, False),
        (200.0, 16, False),
        (250.0, 16, True),
        (0.0, 16, True),
        (320.0, 0, False),
        (10.0, 0, True),
    ],
)
def test_only_what_does_not_follow_from_the_last_note_is_news(
    ahead_s: float, ready: int, news: bool
) -> None:
    before = FleetState(ahead_s=320.0, ahead_at=100.0)
    assert is_news(before, ahead_s, ready, 110.0) is news


def test_a_note_has_live_slots_apart_from_booting_ones() -> None:
    groups = {
        "live": Group(2, 0.0, 0.0),
        "booting": Group(1, 50.0, 70.0),
        "leaving": Group(1, 0.0, 0.0),
    }
    state = FleetState(groups=groups, static_slots=8, boot_s=31.0, limits={"movie": 2})
    assert note_of(state, 16) == Noted(4, 56, 40, 8, 31.0, 0.0, 0.0, {"movie": 2}, 70.0)
