"""Whose turn it is: work of high priority goes first, and every eighth turn belongs to the other
work, so that it moves however much of high priority comes. Pure: no locks and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain

from ec2_worker.claimed import ClaimedBundle

EVERY = 8
"""One turn of so many in a row belongs to normal work."""


class Turns:
    """Counts the turns of high priority since the last one of normal work. A normal turn that finds
    nothing to take stays due."""

    def __init__(self) -> None:
        self._high = 0

    @property
    def normal_is_due(self) -> bool:
        """Returns whether normal work goes first now."""
        return self._high >= EVERY - 1

    def took(self, *, high: bool) -> None:
        """Count a turn that took something."""
        self._high = self._high + 1 if high else 0

    def order(self, bundles: Iterable[ClaimedBundle]) -> Iterator[ClaimedBundle]:
        """Returns the bundles in the order in which they are served now: otherwise as given, those
        whose turn it is before the others."""
        lines: tuple[list[ClaimedBundle], list[ClaimedBundle]] = ([], [])
        for bundle in bundles:
            lines[bundle.is_high != self.normal_is_due].append(bundle)
        return chain(lines[True], lines[False])
