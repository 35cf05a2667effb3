"""The first example: a function over a hundred numbers. `--local` needs no cloud."""

import sys

from taskfleet import FleetExecutor


def collatz(number: int) -> int:
    """Returns the steps from the number to 1."""
    steps = 0
    while number != 1:
        number = 3 * number + 1 if number % 2 else number // 2
        steps += 1
    return steps


if __name__ == "__main__":
    with FleetExecutor(name="collatz", local="--local" in sys.argv) as pool:
        steps = list(pool.map(collatz, range(1, 101)))
    print(f"the longest way below 101 has {max(steps)} steps")
