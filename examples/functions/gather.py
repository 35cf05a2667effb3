"""asyncio: futures of the fleet are awaited like any others."""

import asyncio
import sys
from fractions import Fraction

from taskfleet import FleetExecutor


def harmonic(start: int, stop: int) -> Fraction:
    """Returns the sum of 1/n from start to stop, exactly."""
    return sum((Fraction(1, n) for n in range(start, stop)), Fraction(0))


async def main(local: bool) -> None:
    loop = asyncio.get_running_loop()
    with FleetExecutor(name="harmonic", local=local) as pool:
        parts = [loop.run_in_executor(pool, harmonic, n, n + 50) for n in range(1, 501, 50)]
        total = sum(await asyncio.gather(*parts))
    print(f"H(500) is about {float(total):.6f}")


if __name__ == "__main__":
    asyncio.run(main("--local" in sys.argv))
