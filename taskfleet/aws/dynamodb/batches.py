"""Batches in the table. Owns the updates of batch items; not the form of the items
(`taskfleet.aws.dynamodb.batch_item`) nor the counting of results
(`taskfleet.aws.dynamodb.progress`). A batch is the item `<batch_id>`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from taskfleet.aws.dynamodb.batch_item import (
    sums,
    to_item,
    to_record,
    wire_kept,
    wire_kinds,
    wire_parts,
    wire_quote,
)
from taskfleet.aws.dynamodb.pages import Pages, addition
from taskfleet.aws.dynamodb.table import (
    Item,
    Table,
    Update,
    number_of,
    wire_bool,
    wire_number,
    wire_text,
)
from taskfleet.aws.errors import ConditionFailed
from taskfleet.batch import (
    PAGE_BUNDLES,
    BatchRecord,
    Mark,
    Tally,
    Upload,
    page_cursor,
    read_page_cursor,
)
from taskfleet.bill import NOTHING, Spend
from taskfleet.ports import Added, BatchPage
from taskfleet.quote import Quote

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
_OF_CLIENT = " AND #client_id = :client AND attribute_not_exists(#upload_key)"
"""Further condition: the client may add to the batch and close it."""


class BatchItems:
    """The methods of `taskfleet.ports.TaskMonitor` for batches."""

    def __init__(self, table: Table, pages: Pages) -> None:
        self._table = table
        self._pages = pages

    def create_batch(self, batch: BatchRecord) -> BatchRecord | None:
        try:
            self._table.create(f"record batch {batch.batch_id} in", to_item(batch))
        except ConditionFailed as failure:
            return to_record(failure.item)
        return None

    def batch(self, batch_id: str) -> BatchRecord | None:
        return self._pages.record(self._read(batch_id))

    def batches(self, client_id: str, *, limit: int, cursor: str | None) -> BatchPage:
        before = None if cursor is None else read_page_cursor(cursor)
        operation = "list batches in"
        # One entry more than the page holds tells whether another page follows.
        entries = self._table.list_newest(operation, client_id, limit=limit + 1, before=before)
        shown, has_more = entries[:limit], len(entries) > limit
        items = self._table.read_many(operation, [batch_id for _, batch_id in shown])
        found = [items[batch_id] for _, batch_id in shown if batch_id in items]
        records = [record for record in self._pages.records(found) if record is not None]
        return BatchPage(records, page_cursor(*shown[-1]) if has_more else None)

    def add_part(
        self,
        batch_id: str,
        *,
        first: int,
        tasks: int,
        bundles: int,
        closed: bool,
        added: Added | None = None,
        kinds: Collection[str] = (),
    ) -> BatchRecord | None:
        update = (
            "SET #total = :total, #bundles = #bundles + :bundles, #closed = :closed, #ttl = :ttl"
        )
        condition = _TAKES_PART
        values: dict[str, Any] = {
            ":first": wire_number(first),
            ":total": wire_number(first + tasks),
            ":bundles": wire_number(bundles),
            ":closed": wire_bool(closed),
            ":false": wire_bool(False),
        }
        if added is not None:
            update += (
                ", #parts = list_append(if_not_exists(#parts, :none), :part), #kept = :kept,"
                " #added_at = :at, #ended_before = #ended"
            ) + (", #closed_at = :at" if closed else "")
            condition += _OF_CLIENT + " AND #bundles <= :room"
            values |= {
                ":none": wire_parts([]),
                ":part": wire_parts([added.part]),
                ":kept": wire_kept(added.kept),
                ":at": wire_number(added.at),
                ":client": wire_text(added.client_id),
                ":room": wire_number(added.max_bundles - bundles),
            }
        if kinds:
            update += " ADD #kinds :kinds"
            values[":kinds"] = wire_kinds(kinds)
        write = Update(batch_id, update, condition, values)
        operation = f"record a part of batch {batch_id} in"
        try:
            return to_record(self._table.update(operation, write, read_back=True))
        except ConditionFailed as failure:
            # The same part may be recorded already, by a request whose reply was lost.
            batch = to_record(failure.item)
            if (
                batch is not None
                and batch.cancelled_at is None
                and batch.enqueued == first
                and batch.total == first + tasks
                and batch.closed == closed
                and _is_of(batch, added)
            ):
                return batch
            return None

    def close_batch(self, batch_id: str, at: float, *, client_id: str) -> BatchRecord | None:
        write = Update(
            batch_id,
            "SET #closed = :true, #closed_at = :at, #ttl = :ttl",
            "attribute_not_exists(#cancelled_at) AND #closed = :false" + _OF_CLIENT,
            {
                ":at": wire_number(at),
                ":true": wire_bool(True),
                ":false": wire_bool(False),
                ":client": wire_text(client_id),
            },
        )
        try:
            item = self._table.update(f"close batch {batch_id} in", write, read_back=True)
        except ConditionFailed as failure:
            return self._pages.record(failure.item)
        return self._ended(item)

    def record_enqueued(
        self,
        batch_id: str,
        tasks: int,
        spend: Spend = NOTHING,
        *,
        forget: bool = False,
        quote: Quote | None = None,
    ) -> None:
        quoted = {} if quote is None else {":quote": wire_quote(quote)}
        self._update_if(
            f"record {tasks} tasks of batch {batch_id} as enqueued in",
            addition(
                batch_id,
                sums(Tally(), spend),
                None,
                condition="attribute_exists(#Job_ID) AND #enqueued < :tasks",
                values={":tasks": wire_number(tasks), **quoted},
                set_=", #enqueued = :tasks" + (", #quote = :quote" if quoted else ""),
                rest=" REMOVE #kept" + (", #parts[1]" if forget else ""),
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

    def start_batch(self, batch_id: str, at: float, *, seen: bool = False) -> BatchRecord | None:
        if seen:
            batch = self._read(batch_id)
            if batch is None or "started_at" in batch:
                return to_record(batch)
        return self._update_if(
            f"start batch {batch_id} in",
            Update(
                batch_id,
                "SET #started_at = :at, #ttl = :ttl",
                "attribute_exists(#Job_ID) AND attribute_not_exists(#started_at)",
                {":at": wire_number(at)},
            ),
        )

    def cancel_batch(
        self, batch_id: str, at: float, error: str | None = None
    ) -> BatchRecord | None:
        # Reading folds complete pages, so the item knows whether the batch is finished.
        batch = self.batch(batch_id)
        if batch is None:
            return None
        values = {":at": wire_number(at), ":false": wire_bool(False)}
        if error is not None:
            values[":error"] = wire_text(error)
        write = Update(
            batch_id,
            "SET #cancelled_at = :at, #ttl = :ttl" + (", #error = :error" if error else ""),
            _CANCELLABLE,
            values,
        )
        try:
            item = self._table.update(f"cancel batch {batch_id} in", write, read_back=True)
        except ConditionFailed as failure:
            return self._pages.record(failure.item)
        return self._ended(item)

    def _ended(self, item: Item) -> BatchRecord | None:
        """Returns the record of a batch that gets no more bundles, so that its last page may be
        complete now."""
        last = (int(number_of(item, "bundles")) - 1) // PAGE_BUNDLES
        return self._pages.record(item, also=[last] if last > 0 else [])

    def note_follower(self, batch_id: str, follower: str) -> BatchRecord | None:
        return self._update_if(
            f"note in batch {batch_id} who waits for it, in",
            Update(
                batch_id,
                "SET #ttl = :ttl ADD #followers :follower",
                "attribute_exists(#payload_hash)",
                {":follower": {"SS": [follower]}},
            ),
        )

    def _read(self, batch_id: str) -> Item | None:
        return self._table.read(f"read batch {batch_id} from", batch_id)

    def _update_if(self, operation: str, write: Update) -> BatchRecord | None:
        """Make the write if its condition holds. Returns the batch as it is then, or None if there
        is none."""
        try:
            return to_record(self._table.update(operation, write, read_back=True))
        except ConditionFailed as failure:
            return to_record(failure.item)


def _is_of(batch: BatchRecord, added: Added | None) -> bool:
    """Returns whether the last part of the batch is the one that is being added."""
    if added is None:
        return True
    return batch.client_id == added.client_id and batch.parts[-1:] == (added.part,)
