"""An artificial delay before each AWS call, for benchmarks: an emulator on loopback answers faster
than AWS does. Owns that hook only. Production leaves `TASKFLEET_AWS_LATENCY_MS` unset."""

from __future__ import annotations

import time
from typing import Any


def delay_calls(client: Any, latency_ms: float) -> None:
    """Delay each request of a botocore client, including retries, by `latency_ms` milliseconds."""
    if not latency_ms:
        return

    def wait(**_event: Any) -> None:
        time.sleep(latency_ms / 1000)

    client.meta.events.register("before-send", wait)
