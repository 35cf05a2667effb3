"""Answers about batches, their quotes and their audit."""

from __future__ import annotations

import msgspec

from taskfleet.batch import BatchStatus
from taskfleet.options import BatchOptions
from taskfleet.wire import faces

BATCHES_PAGE_MAX = 100
"""Most batches in a page."""
WAIT_MAX_S = 25.0
"""Most seconds for which an answer may be held until the batch changes."""


class Accepted(msgspec.Struct, frozen=True):
    """The batch that a submission made, or found under the same idempotency key.

    `batch_id` names the batch from now on, and `GET` on `url` returns its status. `total` is the
    number of its tasks; it is 0 for a batch made of an upload, since the file is read later.
    An open batch that is found has the tasks that were added to it by now.
    """

    batch_id: str
    status: BatchStatus
    total: int
    url: str

    def __repr__(self) -> str:
        return faces.accepted_text(self)

    def _repr_html_(self) -> str:
        return faces.accepted_html(self)


class Grown(msgspec.Struct, frozen=True):
    """The batch that a part was added to. `total` is the number of its tasks now, and the `first`
    of its next part."""

    batch_id: str
    total: int


class QuotedTasks(msgspec.Struct, frozen=True):
    """The assumption of a quote about some tasks: `mean_s` seconds each. `learned` counts the tasks
    from which that was learned; it is 0 for a mere assumption, and null where the kind says
    beforehand how long its tasks take. `name` is the kind, or `<kind>:<pace>`."""

    name: str
    tasks: int
    mean_s: float
    learned: int | None


class QuoteView(msgspec.Struct, frozen=True):
    """How long a batch of `tasks` tasks is expected to take and to cost if it is submitted now.

    `p50_s` and `p90_s` are the seconds from the submission to the end that are kept in half and in
    nine tenths of all cases; both are null if no slot is there and no machine may be launched.
    `usd` is the price of the machine time of its tasks and of its AWS calls, in US dollars.
    `idle_usd` is what the machines launched for it cost beyond that: boots, free slots, and the
    idle time before they end themselves. `machines` work on it, of which `launches` are launched.
    `rests_on` says what is assumed of the tasks, `fleet` what of the fleet.
    """

    tasks: int
    p50_s: float | None
    p90_s: float | None
    usd: float
    idle_usd: float
    machines: int
    launches: int
    rests_on: list[QuotedTasks]
    fleet: str


class BatchQuote(msgspec.Struct, frozen=True):
    """The quote of a batch at its submission, and what it took: `p50_s`, `p90_s`,
    `usd` and `machines` are as in the answer of `POST /quote`. `actual_s` are the seconds from the
    submission to the end, `actual_usd` the dollars; both are null until the batch has ended, and
    for a cancelled batch."""

    p50_s: float | None
    p90_s: float | None
    usd: float
    machines: int
    actual_s: float | None = None
    actual_usd: float | None = None


class BatchView(msgspec.Struct, frozen=True):
    """The status of a batch.

    `total` is the number of its tasks, 0 until the file of an upload has been checked. `succeeded`,
    `failed` and `cancelled` count the tasks that have ended. `created_at` and `finished_at` are
    times in ISO 8601, UTC; `finished_at` is null until every task has ended. `eta_s` estimates the
    seconds until then; it is null while there is no estimate. `aws_calls` and `cost_usd` are the
    calls to SQS, DynamoDB and S3 made for the batch so far and their list price in us-east-1, in
    US dollars; calls for reading its status and results are not included. `error` says why the
    service cancelled the batch, such as a fault in its file; it is null otherwise. `trace_id` is
    the trace id of the header `traceparent` (W3C Trace Context) of the submission, or one that the
    service made; the lines of the logs that are about the batch have it. `options` are those of
    the submission; it is null without any. `open` is true
    while tasks can be added to the batch, which does not end before it is closed. `retry_of` is the
    batch whose tasks this one runs again; it is null for any other. `kinds` are the kinds of its
    tasks, as far as they are known. `followers` are the batches that wait for the end of this one,
    or waited, up to 100 of them; those for which this one waits are in `options.after`.
    `at_risk` says why the batch will miss its deadline or its
    budget, or that it missed its deadline; it is null otherwise. Such a batch goes on. `quote` is
    what was expected of it; it is null for an open batch, one of an upload and one that waits for
    others.
    """

    batch_id: str
    name: str | None
    status: BatchStatus
    total: int
    succeeded: int
    failed: int
    cancelled: int
    created_at: str
    finished_at: str | None
    eta_s: float | None
    aws_calls: int = 0
    cost_usd: float = 0.0
    error: str | None = None
    trace_id: str | None = None
    options: BatchOptions | None = None
    open: bool = False
    retry_of: str | None = None
    kinds: list[str] = []
    followers: list[str] = []
    at_risk: str | None = None
    quote: BatchQuote | None = None

    def __repr__(self) -> str:
        return faces.batch_text(self)

    def _repr_html_(self) -> str:
        return faces.batch_html(self)


class BatchList(msgspec.Struct, frozen=True):
    """One page of the caller's batches, newest first. If only some are asked for, a page before the
    last may be short or even empty.

    The list follows a submission within about a second; `GET /batches/{batch_id}` knows the batch
    at once.

    `cursor` is the value of the query parameter `cursor` for the next page, null on the last page.
    """

    batches: list[BatchView]
    cursor: str | None


class AuditView(msgspec.Struct, frozen=True):
    """The receipt of a batch, as of `at`: whether every task has exactly one result, and whether
    what was counted, what is recorded and what was answered agree.

    `balanced` is true if the batch has ended (`finished`) and nothing is wrong; `faults` say what
    is wrong, 100 of them at most, and `fault_count` counts all. `succeeded`, `failed` and
    `cancelled` count the recorded results, whose sum is `total`. `attempts` counts all executions
    of the tasks. `bundles_done` of the `bundles` have all results of their tasks.

    `sha256` is over one line for each result, in the order of the indexes: the JSON array
    `[index, status, result, error]` of the row without blanks, with the keys of objects sorted and
    all characters but ASCII escaped, and a line feed. The results are those of
    `GET /batches/{batch_id}/results?recorded=true`.
    """

    batch_id: str
    at: str
    finished: bool
    balanced: bool
    total: int
    succeeded: int
    failed: int
    cancelled: int
    attempts: int
    bundles: int
    bundles_done: int
    sha256: str
    faults: list[str]
    fault_count: int
