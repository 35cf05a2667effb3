"""How long an executor goes on while the service is away. Owns that rule; a single call's own
retries are the client's (`taskfleet.client.answers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from taskfleet.client import ApiError, ClientError
from taskfleet.ports import Clock

T = TypeVar("T")

PAUSE_S = 1.0
"""Seconds between two tries while the service is away."""


def patiently(call: Callable[[], T], clock: Clock, outage_s: float) -> T:
    """Returns what `call` returns. A failure that may pass is tried again for `outage_s` seconds,
    and a throttle for as long as it takes. Raises the last error."""
    began: float | None = None
    while True:
        try:
            return call()
        except ClientError as error:
            if not error.passing:
                raise
            now = clock.now()
            began = now if began is None else began
            throttled = isinstance(error, ApiError) and error.status == 429
            if not throttled and now - began >= outage_s:
                raise
            clock.sleep(min(PAUSE_S, outage_s))
