"""pandas over 50 CSV files: each call reads one, the script adds up what they return."""

import io
import random
import sys

import pandas as pd

from taskfleet import FleetExecutor


def totals(text: str) -> dict[str, float]:
    """Returns the sales of each region in a file."""
    return pd.read_csv(io.StringIO(text)).groupby("region")["sales"].sum().to_dict()


def a_file(seed: int) -> str:
    """Returns a CSV file of 200 sales."""
    rng = random.Random(seed)
    lines = [f"{rng.choice(['north', 'south'])},{rng.randrange(100)}" for _ in range(200)]
    return "region,sales\n" + "\n".join(lines)


if __name__ == "__main__":
    files = [a_file(seed) for seed in range(50)]
    with FleetExecutor(name="sales", local="--local" in sys.argv) as pool:
        sums = pd.DataFrame(list(pool.map(totals, files))).sum()
    print(sums.to_string())
