"""Shows the quote that a batch keeps beside what the batch took. Owns what counts as that."""

from __future__ import annotations

from taskfleet.batch import BatchRecord
from taskfleet.quote import finite
from taskfleet.wire.http.batches import BatchQuote


def batch_quote(batch: BatchRecord) -> BatchQuote | None:
    """Returns the quote of a batch, with what the batch took once it has ended, unless it was
    cancelled; None for a batch without a quote.

    The dollars are those of its AWS calls and of the time of the last executions of its tasks, at
    the price of a slot when it was quoted.
    """
    quote, finished_at = batch.quote, batch.finished_at
    if quote is None:
        return None
    if finished_at is None or batch.cancelled_at is not None:
        return BatchQuote(finite(quote.p50_s), finite(quote.p90_s), quote.usd, quote.machines)
    usd = batch.spend.usd + batch.busy_ms / 1000 * quote.usd_a_busy_s
    return BatchQuote(
        finite(quote.p50_s),
        finite(quote.p90_s),
        quote.usd,
        quote.machines,
        actual_s=round(finished_at - batch.created_at, 3),
        actual_usd=float(f"{usd:.4g}"),
    )
