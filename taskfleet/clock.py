"""The time that a clock on the wall shows. Owns nothing else; a clock to set is
`taskfleet.memory.ManualClock`."""

from __future__ import annotations

import time


class SystemClock:
    """The `Clock` of every real process."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
