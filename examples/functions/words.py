"""Count the words of many texts, then join the counts: a map and a reduce."""

import re
import sys
from collections import Counter

from taskfleet import FleetExecutor

TEXTS = ["the quick brown fox", "jumps over the lazy dog", "the end"] * 20


def words(text: str) -> Counter[str]:
    """Returns how often each word occurs. A Counter is no JSON, so it travels pickled."""
    return Counter(re.findall(r"\w+", text.lower()))


if __name__ == "__main__":
    with FleetExecutor(name="words", local="--local" in sys.argv) as pool:
        counts = sum(pool.map(words, TEXTS), Counter())
    print(counts.most_common(3))
