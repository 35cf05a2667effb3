"""Lists the batches of a client, all or those that are looked for. Owns what a search matches, and
how much one call reads; not the form of a batch (`taskfleet.scheduler.results`).

No index is kept for searches, which every batch would pay for: the client's list is read, newest
first.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskfleet.batch import BatchRecord, BatchStatus, page_cursor
from taskfleet.ports import Clock, TaskMonitor
from taskfleet.scheduler.results import NO_RISKS, view
from taskfleet.scheduler.risk import Risks
from taskfleet.wire.http.batches import BATCHES_PAGE_MAX, BatchList, BatchView

READ_MAX_PAGES = 5
"""Most pages of `BATCHES_PAGE_MAX` batches that one search reads. Each takes two calls or three, of
some 50 ms together."""


class Search(msgspec.Struct, frozen=True):
    """Which batches are looked for. Everything that is given must match.

    name: a part of the name, in any case of its letters, or the start of the id.
    kind: the name of a kind of its tasks.
    """

    name: str | None = None
    status: BatchStatus | None = None
    kind: str | None = None

    def finds(self, batch: BatchRecord) -> bool:
        """Returns whether the batch is one that is looked for."""
        if self.name is not None:
            wanted = self.name.casefold()
            named = wanted in (batch.name or "").casefold()
            if not named and not batch.batch_id.startswith(wanted):
                return False
        if self.status is not None and batch.status is not self.status:
            return False
        return self.kind is None or self.kind in batch.kinds


EVERY = Search()
"""Finds all batches."""


class Listing:
    """Lists batches on behalf of clients."""

    def __init__(
        self,
        monitor: TaskMonitor,
        clock: Clock,
        *,
        page_batches: int = BATCHES_PAGE_MAX,
        risks: Risks = NO_RISKS,
    ) -> None:
        self._monitor = monitor
        self._clock = clock
        self._page_batches = page_batches
        self._risks = risks

    def page(
        self, *, client_id: str, limit: int, cursor: str | None, search: Search = EVERY
    ) -> BatchList:
        """Returns one page of the client's batches, newest first, of those that the search finds.
        The page of a search may be short or empty and yet not the last: one call reads at most
        `READ_MAX_PAGES` pages. Raises ValueError for a cursor that no page had."""
        limit = min(limit, self._page_batches)
        now = self._clock.now()
        if search == EVERY:
            page = self._monitor.batches(client_id, limit=limit, cursor=cursor or None)
            return BatchList(self._views(page.items, now), page.cursor)
        found: list[BatchRecord] = []
        before = cursor or None
        for _ in range(READ_MAX_PAGES):
            page = self._monitor.batches(client_id, limit=self._page_batches, cursor=before)
            for batch in page.items:
                if search.finds(batch):
                    found.append(batch)
                    if len(found) == limit:
                        is_last = page.cursor is None and batch is page.items[-1]
                        after = None if is_last else page_cursor(batch.created_at, batch.batch_id)
                        return BatchList(self._views(found, now), after)
            before = page.cursor
            if before is None:
                break
        return BatchList(self._views(found, now), before)

    def _views(self, batches: Sequence[BatchRecord], now: float) -> list[BatchView]:
        told = self._risks.told(batches)
        return [view(batch, now, told) for batch in batches]
