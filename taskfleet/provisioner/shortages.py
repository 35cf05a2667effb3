"""What follows when EC2 launches fewer machines than asked for: the pause until the next try, and
the words for it. Pure."""

from __future__ import annotations

from taskfleet.provisioner.records import Shortage, Trouble

BACKOFF_S = {
    Shortage.NO_CAPACITY: (15.0, 60.0),
    Shortage.QUOTA: (30.0, 300.0),
    Shortage.REFUSED: (30.0, 300.0),
    Shortage.NO_ANSWER: (0.0, 0.0),
}
"""First and longest pause, in seconds, after a launch that fell short."""


def trouble_after(shortage: Shortage, detail: str, before: Trouble | None, now: float) -> Trouble:
    """The trouble to remember after a launch that fell short, with the time of the next try: the
    pause doubles with each failure in a row, within `BACKOFF_S`."""
    failures = 1 if before is None else before.failures + 1
    first_s, longest_s = BACKOFF_S[shortage]
    pause_s = min(longest_s, first_s * 2 ** min(failures - 1, 10))
    return Trouble(shortage, detail, now, failures, now + pause_s)


def launch_trouble(trouble: Trouble, now: float) -> str:
    """The trouble in words, with what to do and when the next try is due."""
    what = {
        Shortage.NO_CAPACITY: "EC2 has no capacity; add TASKFLEET_INSTANCE_TYPES or "
        "TASKFLEET_SUBNETS",
        Shortage.QUOTA: "a quota of the account is reached; ask AWS to raise it",
        Shortage.REFUSED: "EC2 refuses to launch",
        Shortage.NO_ANSWER: "EC2 does not answer",
    }[trouble.shortage]
    when = max(0.0, trouble.retry_at - now)
    return f"{what} ({trouble.detail}; {trouble.failures} times, next try in {when:.0f} s)"
