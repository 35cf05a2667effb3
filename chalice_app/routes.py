"""The routes. Each opens its envelope, calls one method of the core, and returns what that
returned; `chalice_app.errors.answer` does the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from chalice.app import Chalice, ChaliceAuthorizer, Request

from chalice_app.body import JSON_TYPE, TEXT_TYPE, FromUpload, check_empty, read_submission
from chalice_app.errors import Unprocessable, answer
from chalice_app.query import BatchesQuery, NoQuery, ResultsQuery, StatusQuery, read_query
from chalice_app.services import Services
from taskfleet import __version__
from taskfleet.batch import is_id
from taskfleet.errors import NotFound
from taskfleet.wire.http import (
    Accepted,
    BatchList,
    BatchView,
    FleetView,
    Health,
    ResultPage,
    UploadForm,
)

T = TypeVar("T")

_HOST = re.compile(r"[A-Za-z0-9.\-]+(:\d{1,5})?")


def add_routes(
    app: Chalice, services: Callable[[], Services], authorizer: ChaliceAuthorizer
) -> None:
    # A list of no content types takes any: it is for bodies, and only POST has one.
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
        sent = request()
        wanted = read_submission(_raw(sent), sent.headers, query())
        called: dict[str, Any] = {
            "client_id": client_id(),
            "name": wanted.name,
            "idempotency_key": wanted.idempotency_key,
        }
        if isinstance(wanted, FromUpload):
            batch = services().uploads.submit(wanted.upload_id, **called)
        else:
            batch = services().submission.submit(wanted.tasks, **called)
        url = f"{_base_url(sent.headers, sent.context)}/{batch.batch_id}"
        return Accepted(batch.batch_id, batch.status, batch.expected_total, url)

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
            _known_form(batch_id), client_id=client_id(), wait_s=wanted.wait
        )

    @route("/batches/{batch_id}/results")
    @answer()
    def read_results(batch_id: str) -> ResultPage:
        wanted = read_query(query(), ResultsQuery)
        return _with_cursor(
            wanted.cursor,
            lambda: services().results.results(
                _known_form(batch_id),
                client_id=client_id(),
                limit=wanted.limit,
                cursor=wanted.cursor,
            ),
        )

    @route("/batches/{batch_id}", "DELETE")
    @answer(202)
    def cancel_batch(batch_id: str) -> BatchView:
        return services().results.cancel(_known_form(batch_id), client_id=client_id())

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
        from chalice_app.openapi import spec  # few calls need it, every cold start would pay

        return spec()


def _raw(request: Request) -> bytes:
    body = request.raw_body
    return body if isinstance(body, bytes) else body.encode()


def _with_cursor(cursor: str | None, read: Callable[[], T]) -> T:
    """A ValueError with a cursor in play is about the cursor, by the promise of `Results`."""
    try:
        return read()
    except ValueError:
        if cursor is None:
            raise
        raise Unprocessable(
            f"the query: cursor {cursor!r:.60} is none that this API gave"
        ) from None


def _known_form(batch_id: str) -> str:
    """Only what could be an id reaches the table, which has its own limits on keys."""
    if not is_id(batch_id):
        raise NotFound(f"no batch {batch_id!r:.60}")
    return batch_id


def _base_url(headers: Mapping[str, str], context: Mapping[str, Any]) -> str:
    """The URL of this very request as its client wrote it, or its path when that cannot be
    known. API Gateway's path has the stage in it."""
    path = str(context.get("path") or "/batches").rstrip("/")
    host = headers.get("host", "")
    if not _HOST.fullmatch(host):
        return path
    scheme = "https" if headers.get("x-forwarded-proto", "http") == "https" else "http"
    return f"{scheme}://{host}{path}"
