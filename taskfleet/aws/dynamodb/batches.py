"""Batches in the table. Owns the updates of batch items and the rule that each bundle counts once;
not the form of the items (`taskfleet.aws.dynamodb.batch_item`).

A batch is the item `<batch_id>`. The items `<batch_id>/<page>` record which of its bundles are
counted: each page holds the numbers of up to `PAGE_BUNDLES` bundles as a set. One transaction
changes a page and the counts of the batch, so that a repeated response is recognised.

Sources: "Amazon DynamoDB Transactions: How it works" and "Quotas in Amazon DynamoDB", Amazon
DynamoDB Developer Guide; "TransactWriteItems", Amazon DynamoDB API Reference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.batch_item import spend_values, to_item, to_record
from taskfleet.aws.dynamodb.table import Table, Update, wire_bool, wire_number, wire_text
from taskfleet.aws.errors import ConditionFailed, TransactionCancelled
from taskfleet.batch import BatchRecord, Mark, Tally, Upload, page_cursor, read_page_cursor
from taskfleet.bill import NOTHING, Spend
from taskfleet.errors import PermanentError, TransientError
from taskfleet.ports import BatchPage

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

_CANCELLABLE = (
    "attribute_exists(#Job_ID) AND attribute_not_exists(#cancelled_at)"
    " AND (#closed = :false OR #ended < #total)"
)
"""Condition: the batch is neither cancelled nor finished."""
_TAKES_PART = (
    "attribute_not_exists(#cancelled_at) AND #closed = :false"
    " AND #enqueued = :first AND #total = :first"
)
"""Condition: the batch is open and has exactly `:first` tasks, all of them enqueued."""


class BatchItems:
    """The methods of `taskfleet.ports.TaskMonitor` for batches."""

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

    def batches(self, client_id: str, *, limit: int, cursor: str | None) -> BatchPage:
        before = None if cursor is None else read_page_cursor(cursor)
        operation = "list batches in"
        # One entry more than the page holds tells whether another page follows.
        entries = self._table.list_newest(operation, client_id, limit=limit + 1, before=before)
        shown, has_more = entries[:limit], len(entries) > limit
        items = self._table.read_many(operation, [batch_id for _, batch_id in shown])
        records = [record for _, batch_id in shown if (record := to_record(items.get(batch_id)))]
        return BatchPage(records, page_cursor(*shown[-1]) if has_more else None)

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
                        _TAKES_PART,
                        {
                            ":first": wire_number(first),
                            ":total": wire_number(first + tasks),
                            ":bundles": wire_number(bundles),
                            ":closed": wire_bool(closed),
                            ":false": wire_bool(False),
                        },
                    ),
                    read_back=True,
                )
            )
        except ConditionFailed as failure:
            # The same part may be recorded already, by a request whose reply was lost.
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
                {":tasks": wire_number(tasks), **spend_values(spend)},
            ),
        )

    def record_upload(self, batch_id: str, upload: Upload) -> None:
        self._update_if(
            f"record the upload of batch {batch_id} in",
            Update(
                batch_id,
                "SET #upload_lines = :lines, #upload_tasks = :tasks, #upload_checked = :checked,"
                " #upload_offset = :offset, #ttl = :ttl",
                "#upload_checked = :false AND #upload_lines <= :lines",
                {
                    ":lines": wire_number(upload.lines),
                    ":tasks": wire_number(upload.tasks),
                    ":checked": wire_bool(upload.checked),
                    ":offset": wire_number(upload.offset),
                    ":false": wire_bool(False),
                },
            ),
        )

    def record_handed(self, batch_id: str, mark: Mark) -> None:
        self._update_if(
            f"record how much of the upload of batch {batch_id} is handed in, in",
            Update(
                batch_id,
                "SET #handed_lines = :lines, #handed_tasks = :tasks, #handed_offset = :offset,"
                " #ttl = :ttl",
                "attribute_exists(#upload_key)"
                " AND (attribute_not_exists(#handed_lines) OR #handed_lines < :lines)",
                {
                    ":lines": wire_number(mark.lines),
                    ":tasks": wire_number(mark.tasks),
                    ":offset": wire_number(mark.offset),
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
                {":at": wire_number(at)},
            ),
        )

    def cancel_batch(
        self, batch_id: str, at: float, error: str | None = None
    ) -> BatchRecord | None:
        values = {":at": wire_number(at), ":false": wire_bool(False)}
        if error is not None:
            values[":error"] = wire_text(error)
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
        """Make the write if its condition holds. Returns the batch as it is then, or None if there
        is none."""
        try:
            return to_record(self._table.update(operation, write, read_back=True))
        except ConditionFailed as failure:
            return to_record(failure.item)

    # --- progress ---

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
            return self.batch(batch_id) is not None
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
                batch = self.batch(batch_id)
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
