import random

import pytest

from taskfleet.lease import (
    BundleStatus,
    ClaimOutcome,
    Lease,
    decide_claim,
    held_delay_s,
)
from taskfleet.settings import Settings

NOW = 1000.0


@pytest.mark.parametrize(
    ("status", "owner", "expires_at", "outcome"),
    [
        (None, None, 0.0, ClaimOutcome.ACQUIRED),
        (BundleStatus.QUEUED, None, 0.0, ClaimOutcome.ACQUIRED),
        (BundleStatus.QUEUED, "other", NOW + 99, ClaimOutcome.ACQUIRED),
        (BundleStatus.RUNNING, "other", NOW + 0.1, ClaimOutcome.HELD),
        (BundleStatus.RUNNING, "other", NOW, ClaimOutcome.HELD),
        (BundleStatus.RUNNING, "other", NOW - 0.1, ClaimOutcome.ACQUIRED),
        (BundleStatus.RUNNING, "me", NOW + 99, ClaimOutcome.ACQUIRED),
        (BundleStatus.DONE, "me", NOW + 99, ClaimOutcome.DONE),
        (BundleStatus.DONE, "other", NOW - 99, ClaimOutcome.DONE),
    ],
)
def test_the_claim_rule(status, owner, expires_at, outcome):
    assert decide_claim(status, owner, expires_at, claimant="me", now=NOW) is outcome


@pytest.mark.parametrize("lease_s", [0.9, 30.0, 120.0])
def test_two_heartbeats_may_fail_before_the_lease_expires(lease_s):
    """The third one, on time, still finds the lease. More frequent ones would cost writes."""
    interval_s = Settings(lease_s=lease_s).heartbeat_s
    third = NOW + 3 * interval_s
    claim = decide_claim(BundleStatus.RUNNING, "me", NOW + lease_s, claimant="other", now=third)
    assert claim is ClaimOutcome.HELD
    assert 4 * interval_s > lease_s


def test_a_held_message_returns_after_the_lease_at_a_random_time():
    delays = {held_delay_s(NOW + 20, NOW, random.Random(seed)) for seed in range(50)}
    assert len(delays) == 50
    assert all(20 < delay <= 22 for delay in delays)


def test_a_lease_that_just_ended_gives_no_negative_delay():
    assert 0.5 <= held_delay_s(NOW - 5, NOW, random.Random(1)) <= 1.0


@pytest.mark.parametrize(
    ("attempt", "careful"), [(1, False), (2, False), (3, True), (4, True), (99, True)]
)
def test_a_bundle_whose_worker_was_lost_twice_is_run_carefully(attempt, careful):
    assert Lease("me", attempt, NOW).is_careful is careful
