"""Pi by numpy, a million points a call, in the order in which the calls end."""

import sys
from concurrent.futures import as_completed

import numpy as np

from taskfleet import FleetExecutor

POINTS = 1_000_000
CALLS = 16


def inside(seed: int, points: int) -> int:
    """Returns how many of random points of the unit square lie in the circle."""
    x, y = np.random.default_rng(seed).random((2, points))
    return int(np.count_nonzero(x * x + y * y <= 1))


if __name__ == "__main__":
    with FleetExecutor(name="pi", local="--local" in sys.argv) as pool:
        calls = [pool.submit(inside, seed, POINTS) for seed in range(CALLS)]
        hits = sum(call.result() for call in as_completed(calls))
    print(f"pi is about {4 * hits / (CALLS * POINTS):.3f}")
