"""Rules for the client's side: the API, the token and the versions. Times are epoch seconds."""

from __future__ import annotations

import time

from taskfleet.checkup.finding import Finding, fault, ok, warning

SOON_S = 3_600.0
"""Seconds of validity below which a token is told to end soon."""


def version(server: str, client: str) -> Finding:
    """Judges the versions of API and client. Fields that one side does not know are ignored, so
    that different versions work together until the first number differs."""
    subject, found = "version", f"the API has {server}, this client {client}"
    if server == client:
        return ok(subject, server)
    if server.split(".")[0] != client.split(".")[0]:
        return fault(subject, found, "install the client of the API's version")
    return warning(subject, found, "install the same version if something is missing")


def token(valid_until: float | None, now: float) -> Finding:
    """Judges a token by its own word.

    valid_until: None when it is no token of Taskfleet.
    """
    subject, advice = "token", "make another: taskfleet token --stage STAGE --client-id ID"
    if valid_until is None:
        return fault(subject, "TASKFLEET_TOKEN is no token of Taskfleet", advice)
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(valid_until))
    if valid_until <= now:
        return fault(subject, f"it expired at {until}", advice)
    if valid_until <= now + SOON_S:
        return warning(subject, f"it is valid until {until}", advice)
    return ok(subject, f"valid until {until}")


def accepted(status: int) -> Finding:
    """Judges what the API answered to a call with the token, by its HTTP status."""
    subject = "access"
    if 200 <= status < 300:
        return ok(subject, "the API takes the token")
    if status in (401, 403):
        advice = "it is of another stage, or its key or client was revoked; make another"
        return fault(subject, f"the API refuses the token with status {status}", advice)
    if status == 429:
        return warning(subject, "the API is busy (status 429)", "look again later")
    return fault(subject, f"the API answers with status {status}", "see the log of its function")
