"""The event that EventBridge hands to the function of a schedule, and the nudge, which takes its
place. Owns the form; not who sends it (`taskfleet.aws.lambda_nudge`, the local cloud).

Source: "Schedule expression reference" and "AWS service event structure", Amazon EventBridge User
Guide.
"""

from __future__ import annotations

import time
from typing import Any

ACCOUNT = "000000000000"
"""AWS account that an event names when its sender does not know its own. No handler reads it."""


def schedule_event(
    rule: str, event_id: str, region: str, at: float, account: str = ACCOUNT
) -> dict[str, Any]:
    """Returns the event of the scheduled rule `rule` at `at`, in epoch seconds."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": "Scheduled Event",
        "source": "aws.events",
        "account": account,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
        "region": region,
        "resources": [f"arn:aws:events:{region}:{account}:rule/{rule}"],
        "detail": {},
    }
