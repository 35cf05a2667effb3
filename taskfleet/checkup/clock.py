"""The rule for clocks that differ."""

from __future__ import annotations

from taskfleet.checkup.finding import Finding, fault, ok, warning

MAX_SKEW_S = 300.0
"""Seconds by which a signature's time may be wrong before AWS refuses it ("Troubleshoot Signature
Version 4 signing of AWS API requests", IAM User Guide)."""
NOTED_SKEW_S = 30.0
"""Seconds from which a difference is told. Leases last as long by default."""


def clock(skew_s: float | None, whose: str) -> Finding:
    """Judges this computer's clock.

    skew_s: seconds by which it is ahead of the other clock, to a second; None when unknown.
    whose: whose clock the other is.
    """
    if skew_s is None:
        return warning("clock", f"{whose} told no time")
    if abs(skew_s) <= NOTED_SKEW_S:
        return ok("clock", f"within {NOTED_SKEW_S:.0f} s of the clock of {whose}")
    found = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} the clock of {whose}"
    advice = "set it, for example with an NTP client"
    return (fault if abs(skew_s) > MAX_SKEW_S else warning)("clock", found, advice)
