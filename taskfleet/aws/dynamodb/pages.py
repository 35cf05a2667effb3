"""Pages of a batch's results: which bundles are counted, and their sums. Owns the form of the pages
and their way into the batch's item; not which answers are counted
(`taskfleet.aws.dynamodb.progress`).

Page n counts the bundles from `PAGE_BUNDLES` * n on. Page 0 is part of the batch's item. Every
other page is the item `<batch_id>/<n>`, so that collectors of a large batch do not all write one
item. A page has the set `counted`, with the numbers of its bundles from 0, and the sums `SUMS` over
them.

A page is complete once all its bundles are counted and it can get no more. Then its sums are
folded: added to the batch's item. That item notes the folded pages, so each is folded once: those
below `folded_to`, and those in the set `folded`, which came before their turn.

Sources: "Condition and filter expressions", "DynamoDB item sizes and formats" and "Quotas in Amazon
DynamoDB", Amazon DynamoDB Developer Guide.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from taskfleet.aws.dynamodb.batch_item import SUMS, sum_of, to_record
from taskfleet.aws.dynamodb.table import Item, Table, Update, number_of, wire_number
from taskfleet.aws.errors import ConditionFailed
from taskfleet.batch import PAGE_BUNDLES, BatchRecord
from taskfleet.errors import PermanentError

PAGES_READ = 20
"""Most pages that one read of a batch adds up, beside those that are folded."""


def page_key(batch_id: str, page: int) -> str:
    """Returns the key of the item with this page."""
    return f"{batch_id}/{page}" if page else batch_id


def is_folded(batch: Item, page: int) -> bool:
    """Returns whether the batch's item has the sums of this page already."""
    return page < _folded_to(batch) or page in _numbers(batch, "folded")


def counted_on(page: Item) -> set[int]:
    """Returns the numbers of the bundles that are counted on a page, from 0 within the page."""
    return _numbers(page, "counted")


def is_filled(batch: Item, number: int, page: Item) -> bool:
    """Returns whether every bundle that page `number` has so far is counted."""
    bundles = min(PAGE_BUNDLES, int(number_of(batch, "bundles")) - number * PAGE_BUNDLES)
    return len(counted_on(page)) >= bundles


def is_fixed(batch: Item, number: int) -> bool:
    """Returns whether page `number` can get no more bundles."""
    is_full = number_of(batch, "bundles") >= (number + 1) * PAGE_BUNDLES
    return is_full or batch["closed"]["BOOL"] or "cancelled_at" in batch


def addition(
    key: str,
    sums: Mapping[str, int],
    at: float | None,
    *,
    condition: str,
    values: Mapping[str, Any],
    set_: str = "",
    add: str = "",
    rest: str = "",
) -> Update:
    """Returns the write that adds sums to an item. It sets the time `progressed_at` too, unless
    that is None, if the item has no later one. The other arguments complete its expressions."""
    # A sum of 0 would only make the request longer; who reads a missing one takes it for 0.
    some = {name: each for name, each in sums.items() if each}
    terms = [*(f"#{name} :{name}" for name in some), *([add] if add else [])]
    values = {**values, **{f":{name}": wire_number(each) for name, each in some.items()}}
    if at is not None:
        set_ += ", #progressed_at = :at"
        condition += " AND (attribute_not_exists(#progressed_at) OR #progressed_at <= :at)"
        values[":at"] = wire_number(at)
    added = f" ADD {', '.join(terms)}" if terms else ""
    return Update(key, f"SET #ttl = :ttl{set_}{added}{rest}", condition, values)


def later(at: float | None, item: Item) -> float | None:
    """Returns the time of progress that an item should get, None if it has a later one."""
    recorded = progressed_at(item)
    return None if at is None or (recorded is not None and recorded > at) else at


def progressed_at(item: Item) -> float | None:
    """Returns the time of the last counted result of a page or batch, None if there is none."""
    return number_of(item, "progressed_at") if "progressed_at" in item else None


class Pages:
    """Reads batches with their pages, and folds pages."""

    def __init__(self, table: Table) -> None:
        self._table = table

    def record(self, batch: Item | None, also: Iterable[int] = ()) -> BatchRecord | None:
        """Returns the record of a batch's item, with the sums of its pages. `also` has pages that
        are looked at beyond the first ones."""
        return None if batch is None else self.records([batch], also)[0]

    def records(
        self, batches: Sequence[Item], also: Iterable[int] = ()
    ) -> list[BatchRecord | None]:
        """Returns the records of batches' items, with the sums of their first `PAGES_READ` pages
        that are not folded. They never go backwards, since pages leave these only by being folded.
        Results on later pages are missing until then.

        Complete pages are folded on the way, those in `also` too. So a batch is finished for a
        reader exactly when its item says so, even if the collector of the last answer died between
        counting and folding.
        """
        keys = {
            (place, number): page_key(batch["Job_ID"]["S"], number)
            for place, batch in enumerate(batches)
            if "payload_hash" in batch
            for number in {*islice(_open_pages(batch), PAGES_READ), *also}
        }
        found = self._table.read_many("read pages of batches from", keys.values()) if keys else {}
        records = []
        for place, batch in enumerate(batches):
            pages = {n: found[key] for (of, n), key in keys.items() if of == place and key in found}
            for number, page in pages.items():
                if is_filled(batch, number, page) and is_fixed(batch, number):
                    batch = self.fold(batch, number, page)
            records.append(to_record(with_sums(batch, pages)))
        return records

    def fold(self, batch: Item, number: int, page: Item) -> Item:
        """Add the sums of complete page `number` to its batch, unless that is done. Returns the
        batch's item. Each refused write has met another one that was made, so no pause is
        needed."""
        batch_id = batch["Job_ID"]["S"]
        while not is_folded(batch, number):
            try:
                return self._table.update(
                    f"add up the results of batch {batch_id} in",
                    _fold_update(batch, number, page),
                    read_back=True,
                )
            except ConditionFailed as failure:
                if failure.item is None:
                    raise PermanentError(f"batch {batch_id} has expired") from failure
                batch = failure.item
        return batch


def _fold_update(batch: Item, number: int, page: Item) -> Update:
    """Returns the write that folds a page into the batch, if the batch's item is still as given in
    what matters."""
    key = batch["Job_ID"]["S"]
    sums = {name: sum_of(page, name) for name in SUMS}
    at = later(progressed_at(page), batch)
    values: dict[str, Any] = {":number": wire_number(number)}
    if number > _folded_to(batch):
        values[":numbers"] = {"NS": [str(number)]}
        condition = "#folded_to < :number AND (NOT contains(#folded, :number))"
        return addition(key, sums, at, condition=condition, values=values, add="#folded :numbers")
    # The first page that is missing: the pages after it that came before their turn follow.
    early = _numbers(batch, "folded")
    end = number + 1
    while end in early:
        end += 1
    values[":end"] = wire_number(end)
    passed = [str(each) for each in range(number + 1, end)]
    if passed:
        values[":passed"] = {"NS": passed}
    return addition(
        key,
        sums,
        at,
        condition="#folded_to = :number AND (NOT contains(#folded, :end))",
        values=values,
        set_=", #folded_to = :end",
        rest=" DELETE #folded :passed" if passed else "",
    )


def _open_pages(batch: Item) -> Iterator[int]:
    """Yields the numbers of the pages that are not folded, in order, without page 0."""
    early = _numbers(batch, "folded")
    end = -(-int(number_of(batch, "bundles")) // PAGE_BUNDLES)
    return (number for number in range(_folded_to(batch), end) if number not in early)


def with_sums(batch: Item | None, pages: Mapping[int, Item]) -> Item | None:
    """Returns the batch's item with the sums of those of its pages, by number, that are not
    folded."""
    if batch is None:
        return None
    items = [batch, *(page for number, page in pages.items() if not is_folded(batch, number))]
    times = [at for item in items if (at := progressed_at(item)) is not None]
    return {
        **batch,
        **{
            name: wire_number(sum(sum_of(item, name) for item in items))
            for name in SUMS
            if "payload_hash" in batch
        },
        **({"progressed_at": wire_number(max(times))} if times else {}),
    }


def _folded_to(batch: Item) -> int:
    """Returns the number below which all pages are folded. Batches of an earlier version do not
    say: their results are all on the batch's item."""
    return int(number_of(batch, "folded_to")) if "folded_to" in batch else sys.maxsize


def _numbers(item: Item, name: str) -> set[int]:
    """Returns the set of integers in an attribute, empty if it is missing."""
    return {int(number) for number in item[name]["NS"]} if name in item else set()
