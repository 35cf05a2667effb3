"""Who may execute a bundle, and until when. Pure: the caller brings the clock.

The rule stands here once in words and code; `taskfleet.memory` calls it, and
`taskfleet.aws.dynamodb.monitor` states the same as a condition expression, held equal by the
contract suite. A claim, in time:

    never seen / released      RUNNING, lease live        lease expired         DONE
    ----------------------|-------------------------|--------------------|------------
          ACQUIRED              HELD (ACQUIRED when        ACQUIRED           DONE
                                the owner is me)
"""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec


class ClaimOutcome(StrEnum):
    ACQUIRED = "ACQUIRED"
    HELD = "HELD"
    DONE = "DONE"


class BundleStatus(StrEnum):
    """Of a bundle's item in `Task_Monitor`; QUEUED means released, since before its first claim
    a bundle has no item."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"


class Lease(msgspec.Struct, frozen=True):
    """The right to execute one bundle. `owner` is a nonce made anew for every claim;
    `attempt` counts the claims since the bundle was last given back, this one included."""

    owner: str
    attempt: int
    expires_at: float


def decide_claim(
    status: BundleStatus | None, owner: str | None, expires_at: float, *, claimant: str, now: float
) -> ClaimOutcome:
    """What a claim by `claimant` comes to; `status` is None when the bundle was never seen.

    My own nonce as the owner means that an earlier write of this very claim went through and
    its reply was lost.
    """
    if status is BundleStatus.DONE:
        return ClaimOutcome.DONE
    if status is BundleStatus.RUNNING and owner != claimant and expires_at >= now:
        return ClaimOutcome.HELD
    return ClaimOutcome.ACQUIRED


def heartbeat_interval_s(lease_s: float) -> float:
    """A third: two beats may be lost before the lease is."""
    return lease_s / 3


def held_delay_s(expires_at: float, now: float, rng: random.Random) -> float:
    """How long a delivery of a bundle that another worker holds stays invisible: what is left of
    that lease, plus up to a tenth more so that waiting deliveries do not return in step."""
    left = max(0.0, expires_at - now)
    return left + rng.uniform(0.5, max(1.0, left / 10))
