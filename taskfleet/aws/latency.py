"""Time put before every AWS call, as a distant AWS would take: an emulator on loopback flatters.
Owns that hook alone. For benchmarks; in earnest nobody sets `TASKFLEET_AWS_LATENCY_MS`."""

from __future__ import annotations

import time
from typing import Any


def delay_calls(client: Any, latency_ms: float) -> None:
    """Let each request of a botocore client, every retry too, leave so much later."""
    if not latency_ms:
        return

    def wait(**_event: Any) -> None:
        time.sleep(latency_ms / 1000)

    client.meta.events.register("before-send", wait)
