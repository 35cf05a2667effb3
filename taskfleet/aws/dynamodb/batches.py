"""Batches in the table. Owns the parts of a submission, and that each bundle counts once; what an
item looks like is `batch_item`'s.

A batch is the item `<batch_id>`. Which of its bundles have been counted stands in pages,
`<batch_id>/<page>`, each with a set of numbers: a page and the batch's counts change in one
transaction, so that a response that comes twice finds itself counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.batch_item import spent, to_item, to_record
from taskfleet.aws.dynamodb.table import Table, Update, number, text
from taskfleet.aws.errors import ConditionFailed, TransactionCancelled
from taskfleet.batch import (
    BatchRecord,
    Tally,
    Upload,
    page_cursor,
    read_page_cursor,
)
from taskfleet.bill import NOTHING, Spend
from taskfleet.errors import PermanentError, TransientError
from taskfleet.ports import Page

PAGE_BUNDLES = 500
"""Numbers in a page, counted from its start: full, it is 1.5 KB, and a write costs by the KB."""
CALL_BUNDLES = 50
"""Numbers in one transaction: an expression may hold 300 operators."""
_TRIES = 12
"""Of a transaction. Two collectors of one batch get in each other's way."""
_PASSING = frozenset(
    {
        "TransactionConflict",
        "ProvisionedThroughputExceeded",
        "ThrottlingError",
        "RequestLimitExceeded",
    }
)

_CANCELLABLE = (
    "attribute_exists(#Job_ID) AND attribute_not_exists(#cancelled_at)"
    " AND (#closed = :false OR #ended < #total)"
)
_GROWS = (
    "attribute_not_exists(#cancelled_at) AND #closed = :false"
    " AND #enqueued = :first AND #total = :first"
)


class BatchItems:
    """The half of `TaskMonitor` that is about batches."""

    def __init__(self, table: Table, backoff: Backoff) -> None:
        self._table = table
        self._backoff = backoff

    def create_batch(self, batch: BatchRecord) -> BatchRecord | None:
        try:
            self._table.create(f"record batch {batch.batch_id} in", to_item(batch))
        except ConditionFailed as failure:
            return to_record(failure.item)
        return None

    def batch(self, batch_id: str) -> BatchRecord | None:
        return to_record(self._table.read(f"read batch {batch_id} from", batch_id))

    def batches(self, client_id: str, *, limit: int, cursor: str | None) -> Page:
        before = None if cursor is None else read_page_cursor(cursor)
        operation = "list batches in"
        places = self._table.newest(operation, client_id, limit=limit + 1, before=before)
        found, more = places[:limit], places[limit:]
        items = self._table.read_many(operation, [batch_id for _, batch_id in found])
        records = [record for _, batch_id in found if (record := to_record(items.get(batch_id)))]
        return Page(records, page_cursor(*found[-1]) if more else None)

    def add_part(
        self, batch_id: str, *, first: int, tasks: int, bundles: int, closed: bool
    ) -> BatchRecord | None:
        try:
            return to_record(
                self._table.update(
                    f"record a part of batch {batch_id} in",
                    Update(
                        batch_id,
                        "SET #total = :total, #bundles = #bundles + :bundles,"
                        " #closed = :closed, #ttl = :ttl",
                        _GROWS,
                        {
                            ":first": number(first),
                            ":total": number(first + tasks),
                            ":bundles": number(bundles),
                            ":closed": {"BOOL": closed},
                            ":false": {"BOOL": False},
                        },
                    ),
                    read_back=True,
                )
            )
        except ConditionFailed as failure:
            batch = to_record(failure.item)
            if (
                batch is not None
                and batch.cancelled_at is None
                and batch.enqueued == first
                and batch.total == first + tasks
                and batch.closed == closed
            ):
                return batch
            return None

    def record_enqueued(self, batch_id: str, tasks: int, spend: Spend = NOTHING) -> None:
        self._update_if(
            f"record {tasks} tasks of batch {batch_id} as enqueued in",
            Update(
                batch_id,
                "SET #enqueued = :tasks, #ttl = :ttl ADD #milli_calls :calls, #pico_usd :usd",
                "attribute_exists(#Job_ID) AND #enqueued < :tasks",
                {":tasks": number(tasks), **spent(spend)},
            ),
        )

    def record_upload(self, batch_id: str, upload: Upload) -> None:
        self._update_if(
            f"record the upload of batch {batch_id} in",
            Update(
                batch_id,
                "SET #upload_lines = :lines, #upload_tasks = :tasks, #upload_checked = :checked,"
                " #ttl = :ttl",
                "#upload_checked = :false AND #upload_lines <= :lines",
                {
                    ":lines": number(upload.lines),
                    ":tasks": number(upload.tasks),
                    ":checked": {"BOOL": upload.checked},
                    ":false": {"BOOL": False},
                },
            ),
        )

    def start_batch(self, batch_id: str, at: float) -> BatchRecord | None:
        return self._update_if(
            f"start batch {batch_id} in",
            Update(
                batch_id,
                "SET #started_at = if_not_exists(#started_at, :at), #ttl = :ttl",
                "attribute_exists(#Job_ID)",
                {":at": number(at)},
            ),
        )

    def cancel_batch(
        self, batch_id: str, at: float, error: str | None = None
    ) -> BatchRecord | None:
        values = {":at": number(at), ":false": {"BOOL": False}}
        if error is not None:
            values[":error"] = text(error)
        return self._update_if(
            f"cancel batch {batch_id} in",
            Update(
                batch_id,
                "SET #cancelled_at = :at, #ttl = :ttl" + (", #error = :error" if error else ""),
                _CANCELLABLE,
                values,
            ),
        )

    def _update_if(self, operation: str, write: Update) -> BatchRecord | None:
        """The batch, changed if the condition let it; None when there is none."""
        try:
            return to_record(self._table.update(operation, write, read_back=True))
        except ConditionFailed as failure:
            return to_record(failure.item)

    # --- progress ---

    def record_progress(
        self, batch_id: str, tallies: Mapping[int, Tally], at: float, spend: Spend = NOTHING
    ) -> bool:
        if not tallies:
            return self.batch(batch_id) is not None
        chunks = list(_chunks(tallies))
        share = spend / len(chunks)
        return all(self._count(batch_id, page, chunk, at, share) for page, chunk in chunks)

    def _count(
        self, batch_id: str, page: int, tallies: Mapping[int, Tally], at: float, spend: Spend
    ) -> bool:
        """Count bundles of one page, given by their place in it. False when there is no such
        batch."""
        operation = f"count results of batch {batch_id} in"
        page_key = f"{batch_id}/{page}"
        fresh = dict(tallies)
        newest = True
        for _ in self._backoff.tries(_TRIES):
            try:
                self._table.update_together(
                    operation,
                    [
                        _page_update(page_key, fresh),
                        _counts_update(batch_id, fresh, at, newest, spend),
                    ],
                )
                return True
            except TransactionCancelled as failure:
                page_code, batch_code = failure.codes
                for code in (page_code, batch_code):
                    if code not in _PASSING and code not in ("None", "ConditionalCheckFailed"):
                        raise PermanentError(f"{failure}: {code}") from failure
            if batch_code == "ConditionalCheckFailed":
                batch = self.batch(batch_id)
                if batch is None:
                    return False
                # A later moment stands there: times only move forward, so it needs no condition.
                newest = batch.progressed_at is None or batch.progressed_at <= at
            if page_code == "ConditionalCheckFailed":
                counted = (self._table.read(operation, page_key) or {})["counted"]["NS"]
                for place in counted:
                    fresh.pop(int(place), None)
                if not fresh:
                    return True
        raise TransientError(f"could not {operation} the table: too many at once; try again")


def _chunks(tallies: Mapping[int, Tally]) -> Iterator[tuple[int, dict[int, Tally]]]:
    """Page and tallies by place in it, in portions that fit one transaction."""
    pages: dict[int, dict[int, Tally]] = {}
    for bundle, tally in sorted(tallies.items()):
        page, place = divmod(bundle, PAGE_BUNDLES)
        pages.setdefault(page, {})[place] = tally
    for page, places in pages.items():
        pairs = list(places.items())
        for start in range(0, len(pairs), CALL_BUNDLES):
            yield page, dict(pairs[start : start + CALL_BUNDLES])


def _page_update(key: str, fresh: Mapping[int, Tally]) -> Update:
    numbers = [number(place) for place in fresh]
    return Update(
        key,
        "SET #ttl = :ttl ADD #counted :all",
        " AND ".join(f"(NOT contains(#counted, :n{i}))" for i in range(len(numbers))),
        {
            ":all": {"NS": [value["N"] for value in numbers]},
            **{f":n{i}": value for i, value in enumerate(numbers)},
        },
    )


def _counts_update(
    batch_id: str, fresh: Mapping[int, Tally], at: float, newest: bool, spend: Spend
) -> Update:
    tally = sum(fresh.values(), start=Tally())
    update = (
        "ADD #succeeded :succeeded, #failed :failed, #cancelled :cancelled, #ended :ended,"
        " #milli_calls :calls, #pico_usd :usd"
        " SET #ttl = :ttl"
    )
    condition = "attribute_exists(#Job_ID)"
    values: dict[str, Any] = {
        ":succeeded": number(tally.succeeded),
        ":failed": number(tally.failed),
        ":cancelled": number(tally.cancelled),
        ":ended": number(tally.total),
        **spent(spend),
    }
    if newest:
        update += ", #progressed_at = :at"
        condition += " AND (attribute_not_exists(#progressed_at) OR #progressed_at <= :at)"
        values[":at"] = number(at)
    return Update(batch_id, update, condition, values)
