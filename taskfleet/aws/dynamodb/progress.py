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
from taskfleet.aws.dynamodb.bundles import record_of, status_of
from taskfleet.aws.dynamodb.packing import Packing
from taskfleet.aws.dynamodb.pages import (
    Pages,
    addition,
    counted_on,
    is_filled,
    is_fixed,
    is_folded,
    later,
    page_key,
    with_sums,
)
from taskfleet.aws.dynamodb.table import Item, Table, Update, wire_number
from taskfleet.aws.errors import ConditionFailed
from taskfleet.batch import PAGE_BUNDLES, BatchRecord, Tally
from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import job_id
from taskfleet.lease import BundleStatus
from taskfleet.ports import Counted

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

    def __init__(self, table: Table, pages: Pages, packing: Packing) -> None:
        self._table = table
        self._pages = pages
        self._packing = packing

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
    ) -> BatchRecord | None:
        if not tallies:
            return to_record(self._read(batch_id))
        ended = {
            n: Ended(tally, checksums.get(n, 0), busy_ms.get(n, 0)) for n, tally in tallies.items()
        }
        groups = list(_groups(ended))
        share = spend / len(groups)
        if max(tallies) < PAGE_BUNDLES:
            return _latest(
                [
                    self._count_on_batch(batch_id, group, at, share, last_index)
                    for _, group in groups
                ]
            )
        batch = self._read(batch_id)
        record = to_record(batch)
        if batch is None or record is None or not record.has(0, last_index):
            return None

        def count(page: int, group: Mapping[int, Ended]) -> Item | None:
            end = record.bundles - page * PAGE_BUNDLES
            known = {number: each for number, each in group.items() if number < end}
            seen: Item | None = batch
            if page == 0:
                seen = self._count_on_batch(batch_id, known, at, share, last_index)
            elif known and not is_folded(batch, page):
                seen = self._count_on_page(batch, page, known, at, share)
            return seen if len(known) == len(group) else None

        return _latest(_each(count, groups))

    def counted(
        self, batch_id: str, pages: Sequence[int], look_at: Sequence[int] = ()
    ) -> Counted | None:
        keys = {page_key(batch_id, page): page for page in [0, *pages]}
        bundles = {job_id(batch_id, number): number for number in look_at}
        found = self._table.read_many(
            f"read what is counted of batch {batch_id} from", [*keys, *bundles]
        )
        items = {keys[key]: item for key, item in found.items() if key in keys}
        batch = to_record(with_sums(items.pop(0, None), items))
        if batch is None:
            return None
        wanted = set(pages)
        counted = frozenset(
            keys[key] * PAGE_BUNDLES + place
            for key, item in found.items()
            if key in keys and keys[key] in wanted
            for place in counted_on(item)
        )
        done = {
            number: record_of(found[key], self._packing)
            for key, number in bundles.items()
            if key in found and status_of(found[key]) is BundleStatus.DONE
        }
        return Counted(batch, counted, done)

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
    ) -> Item | None:
        """Count bundles of page 0 that are not counted yet. Returns the batch's item as it is then.
        Returns None if there is no such batch or task, with nothing counted, or if one of the
        bundles is missing, with the others counted."""
        uncounted = dict(ended)
        item: Item | None = None
        time: float | None = at
        complete = True
        while uncounted:
            bounds = {
                ":last_bundle": wire_number(max(uncounted)),
                ":last_index": wire_number(last_index),
            }
            write = _count_update(batch_id, uncounted, time, spend, _HAS, bounds)
            try:
                item = self._table.update(
                    f"count results of batch {batch_id} in", write, read_back=True
                )
                break
            except ConditionFailed as failure:
                item, batch = failure.item, to_record(failure.item)
                if item is None or batch is None or not batch.has(0, last_index):
                    return None
                complete = complete and max(uncounted) < batch.bundles
                uncounted = _still(uncounted, item, batch.bundles)
                time = later(at, item)
        return item if complete else None

    def _count_on_page(
        self, batch: Item, number: int, ended: Mapping[int, Ended], at: float, spend: Spend
    ) -> Item:
        """Count bundles of page `number` that are not counted yet, and fold the page if it is then
        complete. When nothing is left to count, an earlier call may have died before the fold.
        Returns the batch's item as it was seen last."""
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
            return batch
        if not is_fixed(batch, number):
            # The batch may have been closed or cancelled, or have grown, since it was read. Whoever
            # does so later will see this page as it is now.
            batch = self._read(batch_id) or batch
        if is_filled(batch, number, page) and is_fixed(batch, number):
            batch = self._pages.fold(batch, number, page)
        return batch

    def _read(self, batch_id: str) -> Item | None:
        return self._table.read(f"read batch {batch_id} from", batch_id)


def _each(
    count: Callable[[int, Mapping[int, Ended]], Item | None],
    groups: Sequence[tuple[int, dict[int, Ended]]],
) -> list[Item | None]:
    """Calls `count` with each group, several at a time if there are many: answers of a large fleet
    come from all over a batch, so nearly each is on a page of its own."""
    if len(groups) < PARALLEL_GROUPS:
        return [count(*group) for group in groups]
    with ThreadPoolExecutor(COUNT_THREADS, thread_name_prefix="count") as pool:
        return list(pool.map(count, *zip(*groups, strict=True)))


def _latest(seen: Sequence[Item | None]) -> BatchRecord | None:
    """Returns the record of a batch's item that was seen several times, None if one of them is
    missing. The write that ends a batch sees its end, so the record is finished if one of them
    is."""
    records = [to_record(item) for item in seen]
    finished = (record for record in records if record is not None and record.finished)
    return None if None in records else next(finished, records[-1])


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
