"""What the model explores: bundles of two tasks, two workers and the collector, under faults."""

from __future__ import annotations

from tests.model.frozen import Budget, Scenario

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
    Scenario("crash and stall", budget=Budget(crashes=1, expiries=1)),
    Scenario("errors", budget=Budget(errors=1), faulty=CALLS),
    Scenario("redelivery", budget=Budget(doubles=1, crashes=1)),
    Scenario("cancel", budget=Budget(cancels=1, crashes=1), together=False),
    Scenario("drain", budget=Budget(drains=1), together=False),
    Scenario("overstay", budget=Budget(overstays=1, crashes=1), together=False),
    Scenario("flaky", ("good", "flaky"), Budget(crashes=1)),
    Scenario("flaky stall", ("good", "flaky"), Budget(expiries=1)),
    Scenario("bad", ("flaky", "bad"), Budget(crashes=1)),
    Scenario("hopeless", ("good", "flaky"), Budget(crashes=1), max_attempts=1),
    Scenario("killer", ("good", "killer"), together=False),
    Scenario("time-out", ("good", "timed"), Budget(crashes=1), together=False),
    Scenario("hedged", ("good", "hedged"), Budget(crashes=1), together=False, slots=2),
    Scenario("two bundles", bundles=2, workers=1, faulty=frozenset({"record_progress"})),
]
"""Explored in `make test`."""

DEEP = [
    Scenario("three crashes", budget=Budget(crashes=3)),
    Scenario("crash and two stalls", budget=Budget(crashes=1, expiries=2)),
    Scenario("error and stall", budget=Budget(errors=1, expiries=1), faulty=MORE_CALLS),
    Scenario("error and crash", budget=Budget(errors=1, crashes=1), faulty=MORE_CALLS),
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
