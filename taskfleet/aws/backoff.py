"""Waiting between tries of what AWS answered only in part. Owns how long and how often; whole
calls that fail are tried again by botocore (`taskfleet.aws.session`)."""

from __future__ import annotations

import random
from collections.abc import Iterator

from taskfleet.ports import Clock

TRIES = 6
_BASE_S = 0.05
_CAP_S = 1.0


class Backoff:
    """For any number of threads. `rng` makes the jitter."""

    def __init__(self, clock: Clock, rng: random.Random) -> None:
        self._clock = clock
        self._rng = rng

    def tries(self, count: int = TRIES) -> Iterator[int]:
        """0, 1, ... `count` - 1, with a pause before each but the first: full jitter of
        min(1, 0.05 * 2^try) seconds."""
        for attempt in range(count):
            if attempt:
                self._clock.sleep(self._rng.uniform(0, min(_CAP_S, _BASE_S * 2**attempt)))
            yield attempt
