"""scipy: a local search from 200 starts, which finds the lowest valley of Rastrigin's function."""

import sys

import numpy as np
from scipy.optimize import minimize

from taskfleet import FleetExecutor


def rastrigin(x: np.ndarray) -> float:
    """Returns the function's value. Its valleys are at whole numbers, the lowest is 0 at 0."""
    return float(np.sum(x * x - 10 * np.cos(2 * np.pi * x) + 10))


def descend(seed: int) -> tuple[float, np.ndarray]:
    """Returns the depth and the place of the valley below a random start."""
    found = minimize(rastrigin, np.random.default_rng(seed).uniform(-3, 3, 2), method="Nelder-Mead")
    return found.fun, found.x


if __name__ == "__main__":
    with FleetExecutor(name="valleys", local="--local" in sys.argv) as pool:
        depth, place = min(pool.map(descend, range(200)), key=lambda found: found[0])
    x, y = np.round(place, 3) + 0.0  # no -0.0
    print(f"lowest: {depth:.3f} at {x:.3f}, {y:.3f}")
