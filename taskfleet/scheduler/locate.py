"""Finds the bundle of a task. Owns the search; the records are read by the caller.

A batch is cut in order: a bundle with a higher number has tasks with higher indexes, and each has
between 1 and `BUNDLE_MAX_TASKS` of them. Bundles that no worker has claimed have no record, so the
search narrows the range by those that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping

import msgspec

from taskfleet.batch import BatchRecord
from taskfleet.bundle import BUNDLE_MAX_TASKS
from taskfleet.ports import BundleRecord

PROBES = 25
"""Most records of one read."""
READS_MAX = 40
"""Most reads. Each that finds a record divides the range by about `PROBES`, so that few are needed
unless the workers claim bundles in a very strange order."""

ReadBundles = Callable[[list[int]], Mapping[int, BundleRecord]]
"""Reads the records of the bundles with these numbers; those that were never claimed are missing,
or have no tasks."""


class Place(msgspec.Struct, frozen=True):
    """Where a task is.

    number: the number of its bundle; None if it is not known.
    record: the record of that bundle; None if it has none, or it is not known.
    fresh: whether the bundle is not known, and may be one that was claimed so recently that its
        tasks are not recorded yet.
    """

    number: int | None = None
    record: BundleRecord | None = None
    fresh: bool = False


def locate(batch: BatchRecord, index: int, read: ReadBundles) -> Place:
    """Returns the bundle that has the task of this index. It is not known as long as no worker has
    recorded anything of it, unless only one bundle is left."""
    low, high = _bounds(batch, index)
    guess = index * batch.bundles // max(1, batch.total)
    seen: dict[int, BundleRecord | None] = {}
    for _ in range(READS_MAX):
        wanted = _probes(low, high, guess, seen)
        if not wanted:
            break
        seen.update(dict.fromkeys(wanted))
        for number, record in read(wanted).items():
            seen[number] = record
            if not record.tasks:
                continue
            first, last = record.tasks[0].index, record.tasks[-1].index
            if first <= index <= last:
                return Place(number, record)
            if last < index:
                low = max(low, number + 1)
            else:
                high = min(high, number)
    if high - low == 1:
        return Place(low, seen.get(low))
    return Place(fresh=any(seen.get(number) is not None for number in range(low, high)))


def _bounds(batch: BatchRecord, index: int) -> tuple[int, int]:
    """Returns the range of numbers, without its end, that the sizes of bundles leave."""
    after = batch.total - 1 - index
    low = max(index // BUNDLE_MAX_TASKS, batch.bundles - 1 - after)
    high = min(index, batch.bundles - 1 - after // BUNDLE_MAX_TASKS)
    return max(0, low), min(batch.bundles, high + 1)


def _probes(low: int, high: int, guess: int, seen: Container[int]) -> list[int]:
    """Returns numbers within the range that were not read: the guess with its neighbours, and
    others spread over the range."""
    near = [n for n in range(guess - 3, guess + 4) if low <= n < high and n not in seen]
    room = PROBES - len(near)
    step = max(1, (high - low) // room)
    spread = [n for n in range(low, high, step) if n not in seen]
    if not spread:  # the spread was read without a find: take the numbers between
        spread = [n for n in range(low, high) if n not in seen][:room]
    return sorted({*near, *spread[:room]})
