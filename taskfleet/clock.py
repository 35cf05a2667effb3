"""The system's clock. Owns nothing else; a clock for tests is `taskfleet.memory.ManualClock`."""

from __future__ import annotations

import time


class SystemClock:
    """Implements `taskfleet.ports.Clock` with the system's time."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
