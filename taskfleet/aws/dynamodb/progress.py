"""Counting the results of batches. Owns the rule that each bundle counts once.

The items `<batch_id>/<page>` record which bundles of a batch are counted: each page holds the
numbers of up to `PAGE_BUNDLES` bundles as a set. One transaction changes a page and the counts of
the batch, so that a repeated response is recognised.

Sources: "Amazon DynamoDB Transactions: How it works" and "Quotas in Amazon DynamoDB", Amazon
DynamoDB Developer Guide; "TransactWriteItems", Amazon DynamoDB API Reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.batch_item import spend_values, to_record
from taskfleet.aws.dynamodb.table import Table, Update, wire_number
from taskfleet.aws.errors import TransactionCancelled
from taskfleet.batch import BatchRecord, Tally
from taskfleet.bill import NOTHING, Spend
from taskfleet.errors import PermanentError, TransientError

PAGE_BUNDLES = 500
"""Bundles of one page. Numbers within a page count from 0, so a full page has 1.5 KB; DynamoDB
bills writes by the KB."""
TRANSACTION_BUNDLES = 50
"""Most bundles counted in one transaction; an expression may hold 300 operators."""
_TRANSACTION_TRIES = 12
"""Most tries of one transaction. Concurrent collectors of one batch cancel each other's."""
_TRANSIENT_REASONS = frozenset(
    {
        "TransactionConflict",
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
        "RequestLimitExceeded",
    }
)
"""Reasons of a cancelled transaction after which a retry may succeed."""


class ProgressItems:
    """The method of `taskfleet.ports.TaskMonitor` that counts results."""

    def __init__(self, table: Table, backoff: Backoff) -> None:
        self._table = table
        self._backoff = backoff

    def record_progress(
        self,
        batch_id: str,
        tallies: Mapping[int, Tally],
        at: float,
        spend: Spend = NOTHING,
        *,
        last_index: int = 0,
    ) -> bool:
        if not tallies:
            return self._read(batch_id) is not None
        chunks = list(_chunks(tallies))
        share = spend / len(chunks)
        counted = [
            self._count(batch_id, page, chunk, at, share, last_index) for page, chunk in chunks
        ]
        return all(counted)

    def _count(
        self,
        batch_id: str,
        page: int,
        tallies: Mapping[int, Tally],
        at: float,
        spend: Spend,
        last_index: int,
    ) -> bool:
        """Count bundles of one page that are not counted yet. `tallies` has them by their number
        within the page. Returns False if there is no such batch, bundle or task."""
        operation = f"count results of batch {batch_id} in"
        page_key = f"{batch_id}/{page}"
        uncounted = dict(tallies)
        sets_time = True
        complete = True
        for _ in self._backoff.tries(_TRANSACTION_TRIES):
            last_bundle = page * PAGE_BUNDLES + max(uncounted)
            batch_update = _batch_update(
                batch_id, uncounted, spend, at if sets_time else None, last_bundle, last_index
            )
            try:
                self._table.update_together(
                    operation, [_page_update(page_key, uncounted), batch_update]
                )
                return complete
            except TransactionCancelled as failure:
                page_code, batch_code = failure.codes
                for code in (page_code, batch_code):
                    if code not in ("None", "ConditionalCheckFailed", *_TRANSIENT_REASONS):
                        raise PermanentError(f"{failure}: {code}") from failure
            if batch_code == "ConditionalCheckFailed":
                batch = self._read(batch_id)
                if batch is None or not batch.has(0, last_index):
                    return False
                # The recorded time never moves backwards: a later one stays as it is.
                sets_time = batch.progressed_at is None or batch.progressed_at <= at
                end = batch.bundles - page * PAGE_BUNDLES
                complete = complete and max(uncounted) < end
                uncounted = {number: each for number, each in uncounted.items() if number < end}
            if page_code == "ConditionalCheckFailed":
                page_item = self._table.read(operation, page_key) or {}
                for number in page_item["counted"]["NS"]:
                    uncounted.pop(int(number), None)
            if not uncounted:
                return complete
        raise TransientError(
            f"could not {operation} the table: too many concurrent updates; try again"
        )

    def _read(self, batch_id: str) -> BatchRecord | None:
        return to_record(self._table.read(f"read batch {batch_id} from", batch_id))


def _chunks(tallies: Mapping[int, Tally]) -> Iterator[tuple[int, dict[int, Tally]]]:
    """Yields the tallies in portions that fit one transaction: a page, and the tallies of its
    bundles by their number within the page."""
    pages: dict[int, dict[int, Tally]] = {}
    for bundle, tally in sorted(tallies.items()):
        page, number = divmod(bundle, PAGE_BUNDLES)
        pages.setdefault(page, {})[number] = tally
    for page, by_number in pages.items():
        pairs = list(by_number.items())
        for start in range(0, len(pairs), TRANSACTION_BUNDLES):
            yield page, dict(pairs[start : start + TRANSACTION_BUNDLES])


def _page_update(key: str, uncounted: Mapping[int, Tally]) -> Update:
    """Returns the write that adds bundles to a page, if none of them is in it."""
    numbers = [wire_number(number) for number in uncounted]
    return Update(
        key,
        "SET #ttl = :ttl ADD #counted :all",
        " AND ".join(f"(NOT contains(#counted, :n{i}))" for i in range(len(numbers))),
        {
            ":all": {"NS": [number["N"] for number in numbers]},
            **{f":n{i}": number for i, number in enumerate(numbers)},
        },
    )


def _batch_update(
    batch_id: str,
    uncounted: Mapping[int, Tally],
    spend: Spend,
    progressed_at: float | None,
    last_bundle: int,
    last_index: int,
) -> Update:
    """Returns the write that adds tallies and spend to a batch that has these bundles and tasks. It
    sets the time `progressed_at` too, unless that is None, if the batch has no later one."""
    tally = sum(uncounted.values(), start=Tally())
    update = (
        "ADD #succeeded :succeeded, #failed :failed, #cancelled :cancelled, #ended :ended,"
        " #milli_calls :calls, #pico_usd :usd"
        " SET #ttl = :ttl"
    )
    condition = "#bundles > :last_bundle AND #total > :last_index"
    values: dict[str, Any] = {
        ":last_bundle": wire_number(last_bundle),
        ":last_index": wire_number(last_index),
        ":succeeded": wire_number(tally.succeeded),
        ":failed": wire_number(tally.failed),
        ":cancelled": wire_number(tally.cancelled),
        ":ended": wire_number(tally.total),
        **spend_values(spend),
    }
    if progressed_at is not None:
        update += ", #progressed_at = :at"
        condition += " AND (attribute_not_exists(#progressed_at) OR #progressed_at <= :at)"
        values[":at"] = wire_number(progressed_at)
    return Update(batch_id, update, condition, values)
