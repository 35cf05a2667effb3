"""The routes for batches and their tasks. Each reads its request, calls one method of the core and
returns its result; `chalice_app.errors.answer` makes the HTTP answer. Owns paths and methods; those
of the stage are in `chalice_app.stage_routes`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from chalice_app.api import Api, with_cursor
from chalice_app.body import (
    JSON_TYPE,
    TEXT_TYPE,
    FromUpload,
    OpenRequest,
    check_empty,
    read_part,
    read_quote,
    read_retry,
    read_submission,
    read_upload,
)
from chalice_app.errors import Answered, Text, Unprocessable, answer
from chalice_app.query import (
    BatchesQuery,
    LogQuery,
    NoQuery,
    ResultsQuery,
    StatusQuery,
    StreamQuery,
    read_query,
)
from chalice_app.telemetry import traceparent_of
from taskfleet.batch import is_id
from taskfleet.errors import NotFound
from taskfleet.scheduler.listing import Search
from taskfleet.scheduler.results import view
from taskfleet.task import TaskStatus
from taskfleet.wire.http.batches import Accepted, AuditView, BatchList, BatchView, Grown, QuoteView
from taskfleet.wire.http.results import ResultPage, StreamPage
from taskfleet.wire.http.tasks import LOG_BYTES_HEADER, LOG_DROPPED_HEADER, LOG_END_HEADER, TaskView
from taskfleet.wire.http.uploads import UploadForm

_INDEX = re.compile(r"[0-9]{1,12}")
# What a Host header may be before it is put into a URL.
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?")


def add_routes(api: Api) -> None:
    """Adds the routes to the app."""
    services = api.services

    @api.route("/batches", "POST", content_types=[JSON_TYPE, TEXT_TYPE])
    @answer(202)
    def submit() -> Accepted:
        current = api.request
        wanted = read_submission(api.raw, current.headers, api.query)
        options: dict[str, Any] = {
            "client_id": api.client_id,
            "name": wanted.name,
            "idempotency_key": wanted.idempotency_key,
            "traceparent": traceparent_of(current),
            "options": wanted.whole,
        }
        if isinstance(wanted, FromUpload):
            batch = services().uploads.submit(wanted.upload_id, **options)
        elif isinstance(wanted, OpenRequest):
            batch = services().open_batches.open(wanted.tasks, **options)
        else:
            batch = services().submission.submit(wanted.tasks, **options)
        url = f"{_own_url(current.headers, current.context)}/{batch.batch_id}"
        return Accepted(batch.batch_id, batch.status, batch.expected_total, url)

    @api.route("/quote", "POST", content_types=[JSON_TYPE, TEXT_TYPE])
    @answer()
    def quote() -> QuoteView:
        wanted = read_quote(api.raw, api.request.headers, api.query)
        return services().quotes.view(wanted.tasks)

    @api.route("/batches/{batch_id}/tasks", "POST", content_types=[JSON_TYPE])
    @answer(202)
    def add_tasks(batch_id: str) -> Grown:
        wanted = read_part(api.raw, api.request.headers, api.query)
        batch = services().open_batches.add(
            _checked_id(batch_id),
            wanted.first,
            wanted.tasks,
            client_id=api.client_id,
            close=wanted.close,
        )
        return Grown(batch.batch_id, batch.total)

    @api.route("/batches/{batch_id}/close", "POST")
    @answer(202)
    def close_batch(batch_id: str) -> BatchView:
        check_empty(api.raw)
        read_query(api.query, NoQuery)
        batch = services().open_batches.close(_checked_id(batch_id), client_id=api.client_id)
        return view(batch, services().clock.now())

    @api.route("/batches/{batch_id}/retry", "POST")
    @answer(202)
    def retry_batch(batch_id: str) -> Accepted:
        current = api.request
        wanted = read_retry(api.raw, api.query)
        batch = services().reruns.retry(
            _checked_id(batch_id),
            client_id=api.client_id,
            statuses=frozenset(map(TaskStatus, wanted.status)),
            idempotency_key=wanted.idempotency_key,
            traceparent=traceparent_of(current),
        )
        batches = _own_url(current.headers, current.context).removesuffix(f"/{batch_id}/retry")
        return Accepted(
            batch.batch_id, batch.status, batch.expected_total, f"{batches}/{batch.batch_id}"
        )

    @api.route("/uploads", "POST")
    @answer(201)
    def make_upload() -> UploadForm | Answered:
        content = read_upload(api.raw, api.query)
        if content is None:
            return services().uploads.form(api.client_id)
        answered = services().uploads.content(api.client_id, content.sha256, content.bytes)
        return answered if isinstance(answered, UploadForm) else Answered(200, answered)

    @api.route("/batches")
    @answer()
    def list_batches() -> BatchList:
        wanted = read_query(api.query, BatchesQuery)
        return with_cursor(
            wanted.cursor,
            lambda: services().listing.page(
                client_id=api.client_id,
                limit=wanted.limit,
                cursor=wanted.cursor,
                search=Search(wanted.name, wanted.status, wanted.kind),
            ),
        )

    @api.route("/batches/{batch_id}")
    @answer()
    def read_batch(batch_id: str) -> BatchView:
        wanted = read_query(api.query, StatusQuery)
        return services().results.status(
            _checked_id(batch_id), client_id=api.client_id, wait_s=wanted.wait
        )

    @api.route("/batches/{batch_id}/results")
    @answer()
    def read_results(batch_id: str) -> ResultPage:
        wanted = read_query(api.query, ResultsQuery)
        if wanted.order == "completion" and wanted.recorded:
            raise Unprocessable("the query: recorded is for order=index only")
        if wanted.order == "completion":
            return with_cursor(
                wanted.cursor,
                lambda: services().completed.results(
                    _checked_id(batch_id),
                    client_id=api.client_id,
                    limit=wanted.limit,
                    cursor=wanted.cursor,
                    wait_s=wanted.wait,
                    statuses=wanted.statuses,
                    brief=api.wants_brief,
                ),
            )
        if wanted.wait:
            raise Unprocessable("the query: wait is for order=completion only")
        return with_cursor(
            wanted.cursor,
            lambda: services().results.results(
                _checked_id(batch_id),
                client_id=api.client_id,
                limit=wanted.limit,
                cursor=wanted.cursor,
                statuses=wanted.statuses,
                recorded=wanted.recorded,
                brief=api.wants_brief,
            ),
        )

    @api.route("/batches/{batch_id}/audit")
    @answer()
    def audit_batch(batch_id: str) -> AuditView:
        read_query(api.query, NoQuery)
        return services().audits.audit(_checked_id(batch_id), client_id=api.client_id)

    @api.route("/batches/{batch_id}/stream")
    @answer()
    def read_stream(batch_id: str) -> StreamPage:
        wanted = read_query(api.query, StreamQuery)
        return with_cursor(
            wanted.cursor,
            lambda: services().stream.page(
                _checked_id(batch_id),
                client_id=api.client_id,
                limit=wanted.limit,
                cursor=wanted.cursor,
            ),
        )

    @api.route("/batches/{batch_id}/tasks/{index}")
    @answer()
    def read_task(batch_id: str, index: str) -> TaskView:
        read_query(api.query, NoQuery)
        return services().tasks.view(
            _checked_id(batch_id), _checked_index(index), client_id=api.client_id
        )

    @api.route("/batches/{batch_id}/tasks/{index}/log")
    @answer()
    def read_log(batch_id: str, index: str) -> Text:
        wanted = read_query(api.query, LogQuery)
        page = services().tasks.log(
            _checked_id(batch_id),
            _checked_index(index),
            client_id=api.client_id,
            attempt=wanted.attempt,
            offset=wanted.offset,
        )
        headers = {
            LOG_END_HEADER: str(page.end),
            LOG_BYTES_HEADER: str(page.length),
            LOG_DROPPED_HEADER: str(page.dropped),
        }
        return Text(page.text, headers)

    @api.route("/batches/{batch_id}", "DELETE")
    @answer(202)
    def cancel_batch(batch_id: str) -> BatchView:
        return services().results.cancel(_checked_id(batch_id), client_id=api.client_id)


def _checked_id(batch_id: str) -> str:
    """Returns the id. Raises NotFound if it is malformed, before it reaches the table, which would
    refuse some texts as a key with another error."""
    if not is_id(batch_id):
        raise NotFound(f"no batch {batch_id!r:.60}")
    return batch_id


def _checked_index(index: str) -> int:
    """Returns the index of a task. Raises NotFound if it is no number."""
    if not _INDEX.fullmatch(index):
        raise NotFound(f"no task {index!r:.60}: an index is a number, from 0")
    return int(index)


def _own_url(headers: Mapping[str, str], context: Mapping[str, Any]) -> str:
    """Returns the URL of this request as the client called it, or only its path when the Host
    header is missing or malformed. The path of API Gateway contains the stage."""
    path = str(context.get("path") or "/batches").rstrip("/")
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        return path
    scheme = "https" if headers.get("x-forwarded-proto", "http") == "https" else "http"
    return f"{scheme}://{host}{path}"
