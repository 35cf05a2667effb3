"""Leases: which worker may execute a bundle, until when, and how carefully. Owns the rules of the
claim and of carefulness, as pure functions; not their storage.

`decide_claim` states the rule. `taskfleet.memory.monitor` calls it;
`taskfleet.aws.dynamodb.bundles` states the same rule as a DynamoDB condition expression. The
contract tests (`tests/contract`) check that both give the same answers.

    state of the bundle       never claimed   RUNNING, lease       RUNNING, lease    DONE
                              or released     not expired          expired
    outcome of the claim      ACQUIRED        HELD (ACQUIRED if    ACQUIRED          DONE
                                              the claimant owns
                                              the lease)
"""

from __future__ import annotations

import random
from enum import StrEnum

import msgspec

CAREFUL_AFTER = 2
"""Lost claims after which a bundle is run carefully. One may be the machine's own end; after a
second one a task of the bundle is suspected."""


class ClaimOutcome(StrEnum):
    """Outcome of a claim."""

    ACQUIRED = "ACQUIRED"
    """The claimant has the lease and executes the bundle."""
    HELD = "HELD"
    """Another worker has the lease."""
    DONE = "DONE"
    """The bundle is finished; its results are recorded."""


class BundleStatus(StrEnum):
    """State of a bundle's item in the table `Task_Monitor`. A bundle has no item before its first
    claim, so QUEUED means that a worker has released it."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    DONE = "DONE"


class Lease(msgspec.Struct, frozen=True):
    """The right to execute one bundle.

    owner: nonce that the worker makes anew for each claim.
    attempt: claims of the bundle that were lost, plus one for this claim. A lost claim is one whose
        worker neither committed nor released the bundle nor took the claim back.
    expires_at: end of the lease, in epoch seconds, UTC.
    """

    owner: str
    attempt: int
    expires_at: float

    @property
    def is_careful(self) -> bool:
        """Returns whether tasks of the bundle are run one at a time, each noted before it starts,
        so that one which costs its worker is found. A bundle stays careful until it is DONE."""
        return self.attempt > CAREFUL_AFTER


def decide_claim(
    status: BundleStatus | None, owner: str | None, expires_at: float, *, claimant: str, now: float
) -> ClaimOutcome:
    """Returns the outcome of a claim.

    status, owner, expires_at: the bundle's recorded state; `status` is None if it was never
        claimed.
    claimant: nonce of the new claim. If it is the recorded owner, an earlier request of the same
        claim succeeded and only its reply was lost.
    now: epoch seconds, UTC.
    """
    if status is BundleStatus.DONE:
        return ClaimOutcome.DONE
    if status is BundleStatus.RUNNING and owner != claimant and expires_at >= now:
        return ClaimOutcome.HELD
    return ClaimOutcome.ACQUIRED


def heartbeat_interval_s(lease_s: float) -> float:
    """Returns the seconds between two renewals of a lease of `lease_s` seconds. The second
    renewal comes well before the lease expires, so one lost renewal costs nothing."""
    return lease_s / 3


def held_delay_s(expires_at: float, now: float, rng: random.Random) -> float:
    """Returns the seconds for which a message stays invisible while another worker holds its
    bundle: the rest of that lease, plus a random delay of 0.5 s to a tenth of that rest or 1 s,
    whichever is more, so that waiting messages do not return at the same time."""
    left = max(0.0, expires_at - now)
    return left + rng.uniform(0.5, max(1.0, left / 10))
