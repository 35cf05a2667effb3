"""The HTTP API's caps, the shapes of its answers, and the form of a time in them. `chalice_app`
writes these shapes and `taskfleet.client` reads them. The shapes of requests are in
`chalice_app.body` and `chalice_app.query`.

Every time in an answer is text in ISO 8601, UTC. Every duration is a number of seconds. Docstrings
of the structs become descriptions in the OpenAPI document, for readers who know HTTP and JSON but
not Python.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec

from taskfleet.batch import BatchStatus
from taskfleet.options import BatchOptions, Limits
from taskfleet.task import TaskStatus
from taskfleet.wire import faces
from taskfleet.wire.payload import EVENT_MAX_BYTES, event_bytes

BODY_MAX_BYTES = 5 * 1024 * 1024
"""Largest body of one request, in bytes. A larger batch is sent as an upload."""
ESCAPED_BODY_MAX_BYTES = EVENT_MAX_BYTES - 64 * 1024
"""Largest body of one request as Lambda gets it (`taskfleet.wire.payload.event_bytes`), in bytes.
A body of ordinary text reaches `BODY_MAX_BYTES` first; one with very many quotes or short lines
reaches this. The rest of the event has room in 64 KiB: API Gateway takes headers of up to 10,240
bytes, and they stand in the event twice."""
MAX_TASKS = 250_000
"""Most tasks in one request."""
NAME_MAX_CHARS = 200
"""Longest name of a batch, in characters."""
KEY_MAX_CHARS = 200
"""Longest idempotency key, in characters."""
PAGE_DEFAULT = 1_000
"""Results in a page when the request does not set a limit."""
PAGE_MAX = 5_000
"""Most results in a page."""
STREAM_PAGE_MAX = 20_000
"""Most tasks in an answer of the stream of a batch."""
STREAM_ERROR_CHARS = 200
"""Longest error in the stream of a batch, in characters."""
BATCHES_PAGE_MAX = 100
"""Most batches in a page."""
HISTORY_MAX_MINUTES = 1_440
"""Most minutes of the fleet's history in an answer."""
LETTERS_MAX = 100
"""Most dead letters in an answer."""
WAIT_MAX_S = 25.0
"""Most seconds for which an answer may be held until the batch changes."""

LOG_END_HEADER = "X-Log-End"
"""Header of an answer with a part of an output: where the part ends in the output, in bytes."""
LOG_BYTES_HEADER = "X-Log-Bytes"
"""Header of the same: the size of the output, as far as it was kept, in bytes."""
LOG_DROPPED_HEADER = "X-Log-Dropped"
"""Header of the same: the bytes after the end of the output that were not kept."""


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


class ResultView(msgspec.Struct, frozen=True, gc=False):
    """A task and its result.

    `index` is the task's place in the batch, from 0. `task` is the task as it was submitted, with
    its params in normal form. `result` is what the task returned, null if nothing; `error` is why
    it failed, null if it did not. `attempts` counts its executions, except those that a worker
    broke off and gave back. `started_at` (ISO 8601, UTC), `duration_s` and `worker_id` are those of
    the last execution. `progress` is `[done, total]` while a running task reports it, null
    otherwise. `traceback` has the task's own frames at its last error, null if there are none.
    `reused_from` is the id of the earlier task whose result this is, null if the task ran itself.
    """

    task_id: str
    index: int
    task: Any
    status: TaskStatus
    result: Any
    error: str | None
    attempts: int
    started_at: str | None
    duration_s: float | None
    worker_id: str | None
    progress: Any = None
    traceback: str | None = None
    reused_from: str | None = None

    def __repr__(self) -> str:
        return faces.row_text(self)

    def _repr_html_(self) -> str:
        return faces.rows_html([self])


class ResultPage(msgspec.Struct, frozen=True):
    """One page of a batch's results, in the order that was asked for.

    `cursor` is the value of the query parameter `cursor` for the next page, null on the last page.
    A page before the last may be short or even empty. Tasks that no worker has reported on yet are
    left out.
    """

    results: list[ResultView]
    cursor: str | None

    def __repr__(self) -> str:
        return faces.page_text(self)

    def _repr_html_(self) -> str:
        return faces.rows_html(self.results, more=self.cursor is not None)


class StreamRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A task that has ended, as an array.

    `index` is the task's place in the batch. `kind`, `worker` and `error` are places in the lists
    of the same answer, -1 for none. `status` is 0 for SUCCEEDED, 1 for FAILED, 2 for CANCELLED.
    `started_ms` is the start of the last execution in milliseconds since 1970, UTC, and
    `duration_ms` its duration; both are null for a task that never started.
    """

    index: int
    kind: int
    status: int
    started_ms: int | None
    duration_ms: float | None
    worker: int
    error: int


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


class StreamPage(msgspec.Struct, frozen=True):
    """Tasks of a batch that have ended, in the order of their ends, in a compact form.

    `kinds`, `workers` and `errors` are the texts to which the rows point; an error is cut to 200
    characters. `cursor` is the value of the query parameter `cursor` with which the next answer
    goes on where this one ends. It is null once the batch has ended and all of its tasks were
    given; until then an answer may have no rows.
    """

    kinds: list[str]
    workers: list[str]
    errors: list[str]
    rows: list[StreamRow]
    cursor: str | None


class AttemptView(msgspec.Struct, frozen=True):
    """One execution of a task.

    `attempt` is its number, from 1. `outcome` is `RUNNING`, `SUCCEEDED` or `FAILED`, or `LOST` when
    its worker ended or lost its lease, of which nothing else is known. `error` is why it failed;
    `log_bytes` is the size of what it printed. Times are in ISO 8601, UTC.
    """

    attempt: int
    outcome: str
    worker_id: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    error: str | None = None
    log_bytes: int = 0


class TaskView(ResultView, frozen=True, kw_only=True):
    """A task, its result and its attempts. The fields of a row of results mean the same here; a
    task without a result has the status `QUEUED` or `RUNNING`, and `task` is null until a worker
    has taken it in.

    `history` has its executions, oldest first; of very many, the first are left out. `limits` are
    those that count for it: of the task itself, else its batch, else its kind; null until a worker
    has taken it in. `log_tail` is the end of what the last execution printed, `log_bytes` the size
    of all that is kept of it, and `log_dropped` counts the bytes that were not kept. `why` says
    what the task waits for now.
    """

    history: list[AttemptView]
    limits: Limits | None
    log_tail: str | None
    log_bytes: int
    log_dropped: int
    why: str


class UploadForm(msgspec.Struct, frozen=True):
    """A form with which to send a file: POST it to `url` as multipart/form-data, all `fields` first
    and the file last, as the field `file`. `upload_id` then stands for the file in
    `POST /batches`."""

    upload_id: str
    url: str
    fields: dict[str, str]


class Stored(msgspec.Struct, frozen=True):
    """The content is stored: `upload_id` stands for it, and `stored` is true."""

    upload_id: str
    stored: bool = True


class UploadAnswer(msgspec.Struct, frozen=True):
    """An answer to `POST /uploads` as the client reads it: a form, or that nothing is to be
    sent."""

    upload_id: str
    stored: bool = False
    url: str = ""
    fields: dict[str, str] = {}


class KindView(msgspec.Struct, frozen=True):
    """A kind of tasks.

    `runs_in` is `process` or `thread`. `timeout_s` and `max_attempts` count for tasks whose batch
    and which themselves say nothing; `timeout_s` is null without a limit. `schema` is the JSON
    Schema of the params, null if it is not known.
    """

    name: str
    runs_in: str
    timeout_s: float | None
    max_attempts: int
    schema: dict[str, Any] | None


class KindList(msgspec.Struct, frozen=True):
    """The kinds of tasks that the stage runs, by name.

    `workers` has the versions of Python and of some packages that living workers have reported,
    such as `{"python": ["3.11"], "cloudpickle": ["3.1.1"]}`; it is empty while there are none.
    """

    kinds: list[KindView]
    workers: dict[str, list[str]]


class InstancesView(msgspec.Struct, frozen=True):
    """The EC2 instances in one state: their number, and the ages of the oldest and the newest in
    seconds."""

    state: str
    count: int
    oldest_s: float
    newest_s: float


class WorkerView(msgspec.Struct, frozen=True):
    """A worker, which executes up to `slots` tasks at a time.

    `running` counts the tasks that it executes, `pending` those that wait for one of its slots.
    `age_s` is the number of seconds since its start, `beat_s` that since its last report. `leaving`
    is true when it takes no more work. `instance_id` is null for a worker outside EC2. `ended`
    counts the tasks that it has ended since its start.
    """

    worker_id: str
    instance_id: str | None
    slots: int
    running: int
    pending: int
    age_s: float
    beat_s: float
    leaving: bool
    ended: int = 0


class DecisionView(msgspec.Struct, frozen=True):
    """One decision of the provisioner: at the time `at` it wanted `desired` machines for `reason`.

    `launched` and `ended` count the machines that it started and terminated; `retired` counts those
    that it asked to finish their work and leave.
    """

    at: str
    desired: int
    launched: int
    ended: int
    retired: int
    reason: str


class FleetView(msgspec.Struct, frozen=True):
    """The state of the fleet, which is the same for all clients: totals, machines, and names of
    kinds; nothing that belongs to one client.

    `backlog` and `in_flight` count the messages that wait on the queue and that workers hold; they
    may be a minute old. `running` counts tasks. `desired` is the number of machines that the
    provisioner wants, `max_capacity` the most that it may start. `decisions` begins with the
    newest. `cost_usd` is the price of all machines so far in US dollars, `usd_per_hour` that of the
    machines that run now. `looked_s` is the number of seconds since the provisioner last recorded a
    round, null when it never did; while it finds neither work nor machines, it records one in half
    an hour. `why` explains why nothing runs; it is null unless tasks wait and none runs.
    """

    backlog: int
    in_flight: int
    running: int
    workers: list[WorkerView]
    instances: list[InstancesView]
    desired: int
    max_capacity: int
    decisions: list[DecisionView]
    cost_usd: float
    usd_per_hour: float
    looked_s: float | None
    why: str | None

    def __repr__(self) -> str:
        return faces.fleet_text(self)


class FleetPoint(msgspec.Struct, frozen=True):
    """The fleet at one time.

    `backlog`, `in_flight`, `running`, `desired` and `usd_per_hour` are those of `GET /fleet` then.
    `ended` counts the tasks that ended since the point before, as far as workers reported them.
    `workers` and `slots` count the workers that lived and what they execute at a time, `instances`
    the machines that were there or on their way.
    """

    at: str
    backlog: int
    in_flight: int
    running: int
    ended: int
    slots: int
    workers: int
    instances: int
    desired: int
    usd_per_hour: float


class FleetHistory(msgspec.Struct, frozen=True):
    """The fleet over time, oldest first: about one point a minute, and none while there is nothing
    to do and no machine."""

    points: list[FleetPoint]


QueueName = Literal["tasks", "responses", "uploads"]
"""The queues that have dead letters, as clients call them."""


class LetterView(msgspec.Struct, frozen=True):
    """A dead letter: a message that could not be processed.

    `queue` is the queue to which it belongs, `reason` why it was set aside, `sent_at` when.
    `batch_id` and `job_id` are those of its batch and bundle, `body` is the beginning of its text.
    They are null for a letter that names no client.
    """

    message_id: str
    queue: QueueName
    reason: str
    batch_id: str | None
    job_id: str | None
    sent_at: str
    body: str | None


class LetterList(msgspec.Struct, frozen=True):
    """Dead letters of a queue: those of the caller, and those that name no client, in no order."""

    letters: list[LetterView]


class Redriven(msgspec.Struct, frozen=True):
    """How many dead letters were moved back to their queue."""

    moved: int


class Me(msgspec.Struct, frozen=True):
    """Whose token the request has.

    `role` is `reader` for a token that sees what the client has and changes nothing, and `writer`
    for any other. `expires_at` is the time in ISO 8601, UTC, from which the token is refused; it is
    null for a minute after an upgrade of the service.
    """

    client_id: str
    role: Literal["reader", "writer"]
    expires_at: str | None


class ScheduleView(msgspec.Struct, frozen=True):
    """A schedule, by which batches of the same tasks are submitted again and again.

    It has a rate of `every_s` seconds or a `cron` expression of five fields, in UTC; the other is
    null. `missed` says what becomes of times at which the service did not look: `skip` or
    `catch_up`. `total` is the number of tasks of each batch, and `options` are those of each batch.
    `next_at` is the time of the next batch. `last_at` and `last_batch_id` are those of the last
    one; both are null before the first. `last_error` says why the last time has no batch; it is
    null if it has one. Times are in ISO 8601, UTC.
    """

    name: str
    every_s: int | None
    cron: str | None
    missed: Literal["skip", "catch_up"]
    total: int
    options: BatchOptions | None
    created_at: str
    next_at: str
    last_at: str | None
    last_batch_id: str | None
    last_error: str | None


class ScheduleList(msgspec.Struct, frozen=True):
    """The caller's schedules, by name. The list follows a change within about a second."""

    schedules: list[ScheduleView]


class Health(msgspec.Struct, frozen=True):
    """The service answers: `status` is `ok`, `version` that of Taskfleet."""

    status: str
    version: str


class Error(msgspec.Struct, frozen=True):
    """The body of an error. `Code` names the kind of error; `Message` says what is wrong, where,
    and what to do."""

    # The names of the fields are those of Chalice's own errors.
    Code: str
    Message: str


def body_fault(body: bytes) -> str | None:
    """Returns why one request cannot take this body, which must then be sent as an upload; None
    when it can."""
    if len(body) > BODY_MAX_BYTES:
        return f"has {len(body)} bytes, over the cap of {BODY_MAX_BYTES} bytes (5 MiB)"
    if (escaped := event_bytes(body)) > ESCAPED_BODY_MAX_BYTES:
        return (
            f"has {escaped} bytes with its quotes and line ends escaped, over the cap of "
            f"{ESCAPED_BODY_MAX_BYTES} bytes"
        )
    return None


def iso_time(moment: float) -> str:
    """Returns `moment` (epoch seconds) as ISO 8601 in UTC, such as `2026-11-24T12:00:00.000Z`."""
    second, ms = divmod(round(moment * 1000), 1000)
    return f"{_iso_second(second)}.{ms:03d}Z"


@functools.lru_cache(4096)
def _iso_second(second: int) -> str:
    """Returns the part before the milliseconds. Cached, since the thousands of times in a page of
    results lie within a few seconds."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
