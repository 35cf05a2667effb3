"""difflib over every pair of texts: which two are most alike? A generator feeds the pairs."""

import sys
from difflib import SequenceMatcher
from itertools import combinations

from taskfleet import FleetExecutor

TEXTS = {
    "monday": "Rain in the north, dry and sunny in the south. 14 degrees.",
    "tuesday": "A storm is coming from the west; stay at home if you can.",
    "wednesday": "Rain in the north, dry and cloudy in the south. 12 degrees.",
    "thursday": "Snow above 900 metres, roads may be closed.",
    "friday": "Sun everywhere. 21 degrees in the shade.",
}


def likeness(first: str, second: str) -> float:
    """Returns how alike two texts are, from 0 to 1."""
    return SequenceMatcher(None, first, second, autojunk=False).ratio()


if __name__ == "__main__":
    pairs = list(combinations(TEXTS, 2))
    with FleetExecutor(name="similar", local="--local" in sys.argv) as pool:
        ratios = pool.map(
            likeness, (TEXTS[first] for first, _ in pairs), (TEXTS[second] for _, second in pairs)
        )
        ratio, (first, second) = max(zip(ratios, pairs, strict=True))
    print(f"{first} and {second} are {ratio:.0%} alike")
