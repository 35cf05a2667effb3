"""Pauses between retries of calls that AWS completed only in part. Owns the number of tries and the
delays; botocore itself retries calls that fail as a whole (`taskfleet.aws.session`)."""

from __future__ import annotations

import random
from collections.abc import Iterator

from taskfleet.ports import Clock

TRIES = 6
"""Default number of tries, including the first."""
_BASE_S = 0.05
_CAP_S = 1.0


class Backoff:
    """Makes the pauses; `rng` draws their lengths. Safe for any number of threads."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng

    def tries(self, count: int = TRIES) -> Iterator[int]:
        """Yields the numbers of the tries, from 0 to `count` - 1. Pauses before each try but the
        first, for a random time between 0 and min(1, 0.05 * 2^try) seconds: "full jitter" of M.
        Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015."""
        for number in range(count):
            if number > 0:
                self._clock.sleep(self._rng.uniform(0, min(_CAP_S, _BASE_S * 2**number)))
            yield number
