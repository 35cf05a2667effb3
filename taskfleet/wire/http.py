"""The HTTP API's bodies: the shapes of its answers, its caps, and the form of a time in it. Both
ends use them: `chalice_app` writes what `taskfleet.client` reads.

Every time in an answer is text in ISO 8601, UTC. Every duration is a number of seconds.
"""

from __future__ import annotations

import functools
from datetime import UTC, datetime
from typing import Any

import msgspec

from taskfleet.batch import BatchStatus
from taskfleet.task import TaskStatus

BODY_MAX_BYTES = 5 * 1024 * 1024
"""Largest body of one request. A larger batch is sent as an upload."""
MAX_TASKS = 250_000
"""Most tasks in one request."""
NAME_MAX_CHARS = 200
"""Longest name of a batch."""
KEY_MAX_CHARS = 200
"""Longest idempotency key."""
PAGE_DEFAULT = 1_000
"""Results in a page when the request does not say."""
PAGE_MAX = 5_000
"""Most results in a page."""
BATCHES_PAGE_MAX = 100
"""Most batches in a page."""
WAIT_MAX_S = 25.0
"""Longest time for which a request may be held until something changes."""


class Accepted(msgspec.Struct, frozen=True):
    """The answer to a submission: the batch as it was recorded.

    `url` is where its status can be read. `total` is 0 for a batch made of an upload, since the
    file is read later.
    """

    batch_id: str
    status: BatchStatus
    total: int
    url: str


class BatchView(msgspec.Struct, frozen=True):
    """A batch as its client sees it.

    `aws_calls` and `cost_usd` count the calls to SQS, DynamoDB and S3 that were made for the batch
    so far, and their public price; calls for reading its status and results are not included.
    `error` says why the service cancelled the batch, for example a fault in its file; it is None
    when a client cancelled it.
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


class BatchList(msgspec.Struct, frozen=True):
    """One page of a client's batches, newest first. `cursor` is None on the last page."""

    batches: list[BatchView]
    cursor: str | None


class ResultView(msgspec.Struct, frozen=True):
    """A task and its result as the client sees them.

    `task` is the task as it was submitted, with canonical params. `progress` is `[done, total]`
    while a running task reports it.
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


class ResultPage(msgspec.Struct, frozen=True):
    """One page of results, in order of index. `cursor` is None on the last page.

    A page before the last may be short, even empty. Tasks that no worker has reported on yet are
    not listed.
    """

    results: list[ResultView]
    cursor: str | None


class UploadForm(msgspec.Struct, frozen=True):
    """Where to send a file: as a POST of multipart/form-data to `url`, with `fields` first and the
    file last, as the field `file`."""

    upload_id: str
    url: str
    fields: dict[str, str]


class InstancesView(msgspec.Struct, frozen=True):
    """The instances in one state, with the ages of the oldest and the newest."""

    state: str
    count: int
    oldest_s: float
    newest_s: float


class WorkerView(msgspec.Struct, frozen=True):
    """A worker. `running` and `pending` count its tasks; `beat_s` is the time since its last
    report."""

    worker_id: str
    instance_id: str | None
    slots: int
    running: int
    pending: int
    age_s: float
    beat_s: float
    leaving: bool


class DecisionView(msgspec.Struct, frozen=True):
    """One decision of the provisioner. `launched`, `ended` and `retired` count machines."""

    at: str
    desired: int
    launched: int
    ended: int
    retired: int
    reason: str


class FleetView(msgspec.Struct, frozen=True):
    """The state of the fleet.

    `backlog` and `in_flight` count messages; the queue's own counts may be a minute old. `running`
    counts tasks. `decisions` has the newest first. `looked_s` is the time since the provisioner's
    last round, None when there was none. `why` says why nothing runs; it is None unless tasks wait
    and none runs.
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


class Health(msgspec.Struct, frozen=True):
    """The answer of `GET /health`."""

    status: str
    version: str


class Error(msgspec.Struct, frozen=True):
    """The body of every answer with a status of 400 or more, in Chalice's form."""

    Code: str
    Message: str


def iso_time(moment: float) -> str:
    """An epoch time as ISO 8601 with milliseconds, UTC: `2026-11-24T12:00:00.000Z`."""
    second, ms = divmod(round(moment * 1000), 1000)
    return f"{_iso_second(second)}.{ms:03d}Z"


@functools.lru_cache(4096)
def _iso_second(second: int) -> str:
    """Cached, since a page of results has thousands of times within a few seconds."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
