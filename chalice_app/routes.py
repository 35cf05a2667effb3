"""The routes of the HTTP API. Each reads its request, calls one method of the core and returns its
result; `chalice_app.errors.answer` makes the HTTP answer. Owns paths and methods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from chalice.app import Chalice, ChaliceAuthorizer, Request

from chalice_app.body import (
    JSON_TYPE,
    TEXT_TYPE,
    FromUpload,
    OpenRequest,
    check_empty,
    read_part,
    read_submission,
)
from chalice_app.errors import Text, Unprocessable, answer
from chalice_app.query import BatchesQuery, LogQuery, NoQuery, ResultsQuery, StatusQuery, read_query
from chalice_app.services import Services
from chalice_app.telemetry import traceparent_of
from taskfleet import __version__
from taskfleet.batch import is_id
from taskfleet.errors import NotFound
from taskfleet.scheduler.results import view
from taskfleet.wire.http import (
    LOG_BYTES_HEADER,
    LOG_DROPPED_HEADER,
    LOG_END_HEADER,
    Accepted,
    BatchList,
    BatchView,
    FleetView,
    Grown,
    Health,
    ResultPage,
    TaskView,
    UploadForm,
)

T = TypeVar("T")

_INDEX = re.compile(r"[0-9]{1,12}")
# What a Host header may be before it is put into a URL.
_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?")


def add_routes(
    app: Chalice, services: Callable[[], Services], authorizer: ChaliceAuthorizer
) -> None:
    """Adds all routes to the app."""

    # An empty list of content types accepts any; requests other than POST have no body.
    def route(path: str, method: str = "GET") -> Callable[..., Any]:
        decorator: Callable[..., Any] = app.route(
            path, methods=[method], authorizer=authorizer, content_types=[]
        )
        return decorator

    def request() -> Request:
        current = app.current_request
        if current is None:
            raise RuntimeError("a view was called outside a request")
        return current

    def query() -> Mapping[str, list[str]] | None:
        event: Mapping[str, Any] = request().to_original_event()
        parameters: Mapping[str, list[str]] | None = event["multiValueQueryStringParameters"]
        return parameters

    def client_id() -> str:
        return str(request().context["authorizer"]["principalId"])

    @app.route(
        "/batches", methods=["POST"], authorizer=authorizer, content_types=[JSON_TYPE, TEXT_TYPE]
    )
    @answer(202)
    def submit() -> Accepted:
        current = request()
        wanted = read_submission(_raw(current), current.headers, query())
        options: dict[str, Any] = {
            "client_id": client_id(),
            "name": wanted.name,
            "idempotency_key": wanted.idempotency_key,
            "traceparent": traceparent_of(current),
            "options": wanted.own,
        }
        if isinstance(wanted, FromUpload):
            batch = services().uploads.submit(wanted.upload_id, **options)
        elif isinstance(wanted, OpenRequest):
            batch = services().open_batches.open(wanted.tasks, **options)
        else:
            batch = services().submission.submit(wanted.tasks, **options)
        url = f"{_own_url(current.headers, current.context)}/{batch.batch_id}"
        return Accepted(batch.batch_id, batch.status, batch.expected_total, url)

    @app.route(
        "/batches/{batch_id}/tasks",
        methods=["POST"],
        authorizer=authorizer,
        content_types=[JSON_TYPE],
    )
    @answer(202)
    def add_tasks(batch_id: str) -> Grown:
        current = request()
        wanted = read_part(_raw(current), current.headers, query())
        batch = services().open_batches.add(
            _checked_id(batch_id),
            wanted.first,
            wanted.tasks,
            client_id=client_id(),
            close=wanted.close,
        )
        return Grown(batch.batch_id, batch.total)

    @route("/batches/{batch_id}/close", "POST")
    @answer(202)
    def close_batch(batch_id: str) -> BatchView:
        check_empty(_raw(request()))
        read_query(query(), NoQuery)
        batch = services().open_batches.close(_checked_id(batch_id), client_id=client_id())
        return view(batch, services().clock.now())

    @route("/uploads", "POST")
    @answer(201)
    def make_upload() -> UploadForm:
        check_empty(_raw(request()))
        read_query(query(), NoQuery)
        return services().uploads.form(client_id())

    @route("/batches")
    @answer()
    def list_batches() -> BatchList:
        wanted = read_query(query(), BatchesQuery)
        return _with_cursor(
            wanted.cursor,
            lambda: services().results.batches(
                client_id=client_id(), limit=wanted.limit, cursor=wanted.cursor
            ),
        )

    @route("/batches/{batch_id}")
    @answer()
    def read_batch(batch_id: str) -> BatchView:
        wanted = read_query(query(), StatusQuery)
        return services().results.status(
            _checked_id(batch_id), client_id=client_id(), wait_s=wanted.wait
        )

    @route("/batches/{batch_id}/results")
    @answer()
    def read_results(batch_id: str) -> ResultPage:
        wanted = read_query(query(), ResultsQuery)
        return _with_cursor(
            wanted.cursor,
            lambda: services().results.results(
                _checked_id(batch_id),
                client_id=client_id(),
                limit=wanted.limit,
                cursor=wanted.cursor,
            ),
        )

    @route("/batches/{batch_id}/tasks/{index}")
    @answer()
    def read_task(batch_id: str, index: str) -> TaskView:
        read_query(query(), NoQuery)
        return services().tasks.view(
            _checked_id(batch_id), _checked_index(index), client_id=client_id()
        )

    @route("/batches/{batch_id}/tasks/{index}/log")
    @answer()
    def read_log(batch_id: str, index: str) -> Text:
        wanted = read_query(query(), LogQuery)
        page = services().tasks.log(
            _checked_id(batch_id),
            _checked_index(index),
            client_id=client_id(),
            attempt=wanted.attempt,
            offset=wanted.offset,
        )
        headers = {
            LOG_END_HEADER: str(page.end),
            LOG_BYTES_HEADER: str(page.length),
            LOG_DROPPED_HEADER: str(page.dropped),
        }
        return Text(page.text, headers)

    @route("/batches/{batch_id}", "DELETE")
    @answer(202)
    def cancel_batch(batch_id: str) -> BatchView:
        return services().results.cancel(_checked_id(batch_id), client_id=client_id())

    @route("/fleet")
    @answer()
    def read_fleet() -> FleetView:
        return services().fleet_views.view()

    @app.route("/health", content_types=[])
    @answer()
    def health() -> Health:
        return Health("ok", __version__)

    @route("/openapi.json")
    @answer()
    def openapi() -> dict[str, Any]:
        from chalice_app.openapi import spec  # imported here to keep cold starts short

        return spec()


def _raw(request: Request) -> bytes:
    body = request.raw_body
    return body if isinstance(body, bytes) else body.encode()


def _with_cursor(cursor: str | None, read: Callable[[], T]) -> T:
    """Calls `read`. Its ValueError becomes Unprocessable if there is a cursor: the methods of
    `Results` raise ValueError for a malformed cursor only."""
    try:
        return read()
    except ValueError:
        if cursor is None:
            raise
        raise Unprocessable(
            f"the query: cursor {cursor!r:.60} is not one that this API gave"
        ) from None


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
