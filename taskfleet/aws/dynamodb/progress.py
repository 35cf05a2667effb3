"""Counting the results of batches. Owns the rule that each bundle counts once; not the form of the
pages on which they are counted (`taskfleet.aws.dynamodb.pages`).

One conditional write notes the bundles on their page and adds their results to its sums, if none of
them is noted there. No step needs a transaction: every process writes the items of batches, and a
plain write that meets a transaction on its item fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from taskfleet.aws.dynamodb.batch_item import sums, to_record
from taskfleet.aws.dynamodb.pages import (
    Pages,
    addition,
    counted_on,
    is_filled,
    is_fixed,
    is_folded,
    later,
    page_key,
)
from taskfleet.aws.dynamodb.table import Item, Table, Update, wire_number
from taskfleet.aws.errors import ConditionFailed
from taskfleet.batch import PAGE_BUNDLES, Tally
from taskfleet.bill import NOTHING, Spend

GROUP_BUNDLES = 50
"""Most bundles counted in one write. Each takes three operators of the condition, which may have
300 ("Quotas in Amazon DynamoDB", Amazon DynamoDB Developer Guide)."""
PARALLEL_GROUPS = 3
"""Least number of groups that are counted by several threads."""
COUNT_THREADS = 8
"""Threads that count the groups of one batch, most of whose time is spent waiting for answers."""
_HAS = "#bundles > :last_bundle AND #total > :last_index AND "
"""Condition: the batch has a bundle and a task of these numbers."""


class Ended(NamedTuple):
    """A finished bundle: its tally, the checksum of its record, and the milliseconds of its
    tasks."""

    tally: Tally
    checksum: int
    busy_ms: int


class ProgressItems:
    """The methods of `taskfleet.ports.TaskMonitor` that count results and tell what is counted."""

    def __init__(self, table: Table, pages: Pages) -> None:
        self._table = table
        self._pages = pages

    def record_progress(
        self,
        batch_id: str,
        tallies: Mapping[int, Tally],
        at: float,
        spend: Spend = NOTHING,
        *,
        last_index: int = 0,
        checksums: Mapping[int, int] = {},
        busy_ms: Mapping[int, int] = {},
    ) -> bool:
        if not tallies:
            return to_record(self._read(batch_id)) is not None
        ended = {
            n: Ended(tally, checksums.get(n, 0), busy_ms.get(n, 0)) for n, tally in tallies.items()
        }
        groups = list(_groups(ended))
        share = spend / len(groups)
        if max(tallies) < PAGE_BUNDLES:
            counted = [
                self._count_on_batch(batch_id, group, at, share, last_index) for _, group in groups
            ]
            return all(counted)
        batch = self._read(batch_id)
        record = to_record(batch)
        if batch is None or record is None or not record.has(0, last_index):
            return False

        def count(page: int, group: Mapping[int, Ended]) -> bool:
            end = record.bundles - page * PAGE_BUNDLES
            known = {number: each for number, each in group.items() if number < end}
            if page == 0:
                self._count_on_batch(batch_id, known, at, share, last_index)
            elif known and not is_folded(batch, page):
                self._count_on_page(batch, page, known, at, share)
            return len(known) == len(group)

        # Here it is known, once, that the batch is finished: by the write to its item that brings
        # `ended` to `total`, in `_count_on_batch` and in `Pages.fold`. Whoever wants to be told of
        # a batch's end asks for that item there.
        return all(_each(count, groups))

    def is_counted(self, batch_id: str, bundle: int) -> bool:
        batch = self._read(batch_id)
        if batch is None:
            return False
        number, place = divmod(bundle, PAGE_BUNDLES)
        if number == 0:
            return place in counted_on(batch)
        if is_folded(batch, number):
            return True
        page = self._table.read(f"read a page of batch {batch_id} from", page_key(batch_id, number))
        return page is not None and place in counted_on(page)

    def _count_on_batch(
        self, batch_id: str, ended: Mapping[int, Ended], at: float, spend: Spend, last_index: int
    ) -> bool:
        """Count bundles of page 0 that are not counted yet. Returns False if there is no such batch
        or task, with nothing counted, or if one of the bundles is missing, with the others
        counted."""
        uncounted = dict(ended)
        time: float | None = at
        complete = True
        while uncounted:
            bounds = {
                ":last_bundle": wire_number(max(uncounted)),
                ":last_index": wire_number(last_index),
            }
            write = _count_update(batch_id, uncounted, time, spend, _HAS, bounds)
            try:
                self._table.update(f"count results of batch {batch_id} in", write)
                break
            except ConditionFailed as failure:
                batch = to_record(failure.item)
                if failure.item is None or batch is None or not batch.has(0, last_index):
                    return False
                complete = complete and max(uncounted) < batch.bundles
                uncounted = _still(uncounted, failure.item, batch.bundles)
                time = later(at, failure.item)
        return complete

    def _count_on_page(
        self, batch: Item, number: int, ended: Mapping[int, Ended], at: float, spend: Spend
    ) -> None:
        """Count bundles of page `number` that are not counted yet, and fold the page if it is then
        complete. When nothing is left to count, an earlier call may have died before the fold."""
        batch_id = batch["Job_ID"]["S"]
        key = page_key(batch_id, number)
        uncounted = dict(ended)
        time: float | None = at
        page: Item = {}
        while uncounted:
            write = _count_update(key, uncounted, time, spend)
            try:
                page = self._table.update(
                    f"count results of batch {batch_id} in", write, read_back=True
                )
                break
            except ConditionFailed as failure:
                page = failure.item or {}
                uncounted = _still(uncounted, page, PAGE_BUNDLES)
                time = later(at, page)
        if not is_filled(batch, number, page):
            return
        if not is_fixed(batch, number):
            # The batch may have been closed or cancelled, or have grown, since it was read. Whoever
            # does so later will see this page as it is now.
            batch = self._read(batch_id) or batch
        if is_filled(batch, number, page) and is_fixed(batch, number):
            self._pages.fold(batch, number, page)

    def _read(self, batch_id: str) -> Item | None:
        return self._table.read(f"read batch {batch_id} from", batch_id)


def _each(
    count: Callable[[int, Mapping[int, Ended]], bool],
    groups: Sequence[tuple[int, dict[int, Ended]]],
) -> list[bool]:
    """Calls `count` with each group, several at a time if there are many: answers of a large fleet
    come from all over a batch, so nearly each is on a page of its own."""
    if len(groups) < PARALLEL_GROUPS:
        return [count(*group) for group in groups]
    with ThreadPoolExecutor(COUNT_THREADS, thread_name_prefix="count") as pool:
        return list(pool.map(count, *zip(*groups, strict=True)))


def _groups(ended: Mapping[int, Ended]) -> Iterator[tuple[int, dict[int, Ended]]]:
    """Yields bundles that ended in portions that fit one write: a page, and its bundles by their
    number within the page."""
    pages: dict[int, dict[int, Ended]] = {}
    for bundle, each in sorted(ended.items()):
        page, number = divmod(bundle, PAGE_BUNDLES)
        pages.setdefault(page, {})[number] = each
    for page, by_number in pages.items():
        pairs = list(by_number.items())
        for start in range(0, len(pairs), GROUP_BUNDLES):
            yield page, dict(pairs[start : start + GROUP_BUNDLES])


def _still(uncounted: Mapping[int, Ended], page: Item, end: int) -> dict[int, Ended]:
    """Returns those of the bundles that are below `end` and not counted on the page."""
    counted = counted_on(page)
    return {n: each for n, each in uncounted.items() if n < end and n not in counted}


def _count_update(
    key: str,
    uncounted: Mapping[int, Ended],
    at: float | None,
    spend: Spend,
    condition: str = "",
    values: Mapping[str, Any] | None = None,
) -> Update:
    """Returns the write that counts bundles on the page with this key, if none of them is counted
    there and the further condition holds."""
    tally = sum((each.tally for each in uncounted.values()), start=Tally())
    checksum = sum(each.checksum for each in uncounted.values())
    busy_ms = sum(each.busy_ms for each in uncounted.values())
    numbers = {f":n{i}": wire_number(number) for i, number in enumerate(uncounted)}
    return addition(
        key,
        sums(tally, spend, checksum, busy_ms),
        at,
        condition=condition + " AND ".join(f"(NOT contains(#counted, {n}))" for n in numbers),
        values={
            **(values or {}),
            **numbers,
            ":numbers": {"NS": [number["N"] for number in numbers.values()]},
        },
        add="#counted :numbers",
    )
