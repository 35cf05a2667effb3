"""What the model explores: bundles of two tasks, two workers and the collector, under faults; and
the broken protocols in which it must find a fault."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from taskfleet.memory import MemoryMonitor
from tests.model import broken
from tests.model.frozen import CUTS, Budget, Scenario
from tests.model.process import Process

CALLS = frozenset(
    {
        *("claim", "unclaim", "renew", "commit", "release"),
        *("publish", "delete", "record_progress", "delete answer"),
    }
)
"""Calls that can fail."""
MORE_CALLS = CALLS | {"start_batch", "visibility", "dead letter"}

SLICE = [
    Scenario("plain"),
    Scenario("crash", budget=Budget(crashes=1)),
    Scenario("two crashes", budget=Budget(crashes=2)),
    Scenario("stall", budget=Budget(expiries=1)),
    Scenario("errors", budget=Budget(errors=1), faulty=CALLS),
    Scenario(
        "release with errors",
        budget=Budget(overstays=1, errors=1),
        faulty=frozenset({"release"}),
        together=False,
    ),
    Scenario("redelivery", budget=Budget(doubles=1, crashes=1)),
    Scenario("cancel", budget=Budget(cancels=1, crashes=1), together=False),
    Scenario("drain", budget=Budget(drains=1), together=False),
    Scenario("overstay", budget=Budget(overstays=1, crashes=1), together=False),
    Scenario("flaky", ("good", "flaky"), Budget(crashes=1)),
    Scenario("bad", ("flaky", "bad"), Budget(crashes=1)),
    Scenario("hopeless", ("good", "flaky"), Budget(crashes=1), max_attempts=1),
    Scenario("killer", ("good", "killer"), together=False, cuts=CUTS | {"renew"}),
    Scenario("time-out", ("good", "timed"), Budget(crashes=1), together=False),
    Scenario("hedged", ("good", "hedged"), Budget(crashes=1), together=False, slots=2),
    Scenario("two bundles", bundles=2, workers=1, faulty=frozenset({"record_progress"})),
]
"""Explored in `make test`."""

DEEP = [
    Scenario("flaky stall", ("good", "flaky"), Budget(expiries=1)),
    Scenario("crash and stall", budget=Budget(crashes=1, expiries=1)),
    Scenario("three crashes", budget=Budget(crashes=3)),
    Scenario("crash and two stalls", budget=Budget(crashes=1, expiries=2)),
    Scenario("error and stall", budget=Budget(errors=1, expiries=1), faulty=CALLS),
    Scenario("error and crash", budget=Budget(errors=1, crashes=1), faulty=CALLS),
    Scenario("errors of all calls", budget=Budget(errors=1), faulty=MORE_CALLS),
    Scenario("two errors", budget=Budget(errors=2), faulty=CALLS),
    Scenario("slots", budget=Budget(crashes=1, expiries=1), together=False, slots=2),
    Scenario("drain and crash", budget=Budget(drains=1, crashes=1), together=False),
    Scenario("cancel and error", budget=Budget(cancels=1, errors=1), faulty=CALLS),
    Scenario("cancel and stall", ("good", "flaky"), Budget(cancels=1, expiries=1)),
    Scenario("drain and stall", budget=Budget(drains=1, expiries=1), together=False),
    Scenario("flaky with errors", ("good", "flaky"), Budget(errors=1), faulty=CALLS),
    Scenario(
        "hopeless with errors",
        ("flaky", "bad"),
        Budget(errors=1),
        max_attempts=1,
        faulty=MORE_CALLS,
    ),
    Scenario("killer and crash", ("good", "killer"), Budget(crashes=1), together=False),
    Scenario("killer and stall", ("good", "killer"), Budget(expiries=1), together=False),
    Scenario("two killers", ("killer", "killer"), together=False),
    Scenario("time-out and stall", ("good", "timed"), Budget(expiries=1), together=False),
    Scenario("hedged and stall", ("good", "hedged"), Budget(expiries=1), together=False, slots=2),
    Scenario("hedged and drain", ("good", "hedged"), Budget(drains=1), together=False, slots=2),
    Scenario(
        "two bundles and crash",
        bundles=2,
        budget=Budget(crashes=1),
        faulty=frozenset({"record_progress"}),
    ),
    Scenario("three workers", budget=Budget(crashes=1), workers=3),
    Scenario("redelivery and stall", budget=Budget(doubles=2, expiries=1)),
]
"""Explored in `make faults` only."""


@dataclass(frozen=True)
class Broken:
    """A broken protocol.

    scenario: name of the scenario in which its fault shows.
    fault: words of the fault.
    worker, monitor: what is broken (`tests.model.broken`).
    """

    name: str
    scenario: str
    fault: str
    worker: Callable[[Process], None] | None = None
    monitor: type[MemoryMonitor] = MemoryMonitor

    @property
    def as_scenario(self) -> Scenario:
        """The scenario in which its fault shows, with the broken protocol."""
        (scenario,) = [each for each in SLICE + DEEP if each.name == self.scenario]
        return replace(scenario, broken=self.worker, monitor=self.monitor)


STUCK = "nothing leads to rest"
BROKEN = [
    Broken("delete, then put if absent", "crash", STUCK, broken.delete_then_put_if_absent),
    Broken("read the flag, then run", "plain", "changed after", broken.read_flag_then_run),
    Broken("commit without fence", "flaky stall", "changed after", monitor=broken.UnfencedCommit),
    Broken("release without fence", "flaky stall", "changed", monitor=broken.UnfencedRelease),
    Broken("renewal without fence", "stall", "lost its recorded", monitor=broken.UnfencedRenewal),
    Broken(
        "fence without owner",
        "release with errors",
        "lost its recorded",
        monitor=broken.FenceWithoutOwner,
    ),
    Broken("claim taken back unfenced", "errors", "for no reason", monitor=broken.UnfencedUnclaim),
    Broken("claim sent again counts", "errors", "lost claims", monitor=broken.UnrecognisedClaim),
    Broken("busy taken for a duplicate", "crash", STUCK, broken.busy_is_a_duplicate),
    Broken("throttle taken for a duplicate", "errors", STUCK, broken.a_throttle_is_a_duplicate),
    Broken("lease without end", "crash", STUCK, monitor=broken.EternalLease),
    Broken("all charged for a vanished worker", "crash", "is charged", broken.all_are_charged),
    Broken("nobody charged for a vanished worker", "killer", "workers", broken.nobody_is_charged),
    Broken(
        "progress lost at release",
        "flaky",
        "lost its recorded",
        monitor=broken.ForgetfulRelease,
    ),
    Broken("progress counted twice", "plain", "the batch c", monitor=broken.CountingTwice),
    Broken("done not published again", "crash", STUCK, broken.done_is_not_published_again),
    Broken("deleted before published", "crash", STUCK, broken.deleted_before_published),
    Broken("dead letter before the record", "hopeless", STUCK, broken.dead_before_recorded),
    Broken("copy that fails counts", "hedged", "is FAILED", broken.a_copy_that_fails_counts),
    Broken(
        "answer after lease lost", "flaky stall", "the batch counts", broken.lost_leases_are_kept
    ),
]
