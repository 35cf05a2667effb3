"""`GET /openapi.json`: the API as OpenAPI 3.1. Owns the prose; the schemas are made from the very
structs that bodies and answers are read with and written from."""

from __future__ import annotations

from typing import Any

import msgspec

from chalice_app.body import (
    JSON_TYPE,
    TEXT_TYPE,
    FromUpload,
    SubmitRequest,
    TextQuery,
)
from chalice_app.query import BatchesQuery, ResultsQuery, StatusQuery
from taskfleet import __version__
from taskfleet.wire.http import (
    BODY_MAX_BYTES,
    MAX_TASKS,
    Accepted,
    BatchList,
    BatchView,
    Error,
    FleetView,
    Health,
    ResultPage,
    UploadForm,
)

Json = dict[str, Any]


_STRUCTS = [
    SubmitRequest,
    FromUpload,
    Accepted,
    UploadForm,
    BatchList,
    BatchView,
    ResultPage,
    FleetView,
    Health,
    Error,
]
_ERRORS = {
    400: "The body cannot be read: malformed, ambiguous or over-deep JSON, or not UTF-8",
    401: "No token",
    403: "A token that is not valid, or no longer",
    404: "No such batch or upload, or another client's",
    409: "The idempotency key stands for another payload",
    413: f"A body over {BODY_MAX_BYTES} bytes",
    415: f"A content type other than {JSON_TYPE} and {TEXT_TYPE}",
    422: "It can be read and cannot be done; the message names the task by its index",
    500: "A fault of the service",
    503: "The queue or the table is busy; Retry-After says when to send the same again",
}
_EVERYWHERE = (401, 403, 500, 503)


def spec() -> Json:
    _, schemas = msgspec.json.schema_components(
        _STRUCTS, ref_template="#/components/schemas/{name}"
    )
    batch_id: Json = {
        "name": "batch_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Taskfleet", "version": __version__},
        "security": [{"token": []}],
        "paths": {
            "/batches": {
                "post": _operation(
                    f"Hand in up to {MAX_TASKS} tasks, or the file of an upload, which is read "
                    "after the answer; sending the same again under the same idempotency key is "
                    "one batch",
                    Accepted,
                    status=202,
                    errors=(400, 404, 409, 413, 415, 422),
                    query=TextQuery,
                    body=_bodies(),
                ),
                "get": _operation(
                    "The caller's batches, newest first",
                    BatchList,
                    errors=(422,),
                    query=BatchesQuery,
                ),
            },
            "/uploads": {
                "post": _operation(
                    "A form to send a task file of any size with: POST it to `url` as "
                    "multipart/form-data, `fields` first and then the file as `file`. It has one "
                    "task a line, as a text body of POST /batches; what is wrong with it shows as "
                    "the `error` of its batch, by line",
                    UploadForm,
                    status=201,
                    errors=(422,),
                )
            },
            "/batches/{batch_id}": {
                "parameters": [batch_id],
                "get": _operation(
                    "A batch; `wait` holds the answer until something changes or so many seconds "
                    "pass",
                    BatchView,
                    errors=(404, 422),
                    query=StatusQuery,
                ),
                "delete": _operation(
                    "Cancel the tasks that have not started", BatchView, status=202, errors=(404,)
                ),
            },
            "/batches/{batch_id}/results": {
                "parameters": [batch_id],
                "get": _operation(
                    "Results by index, page by page",
                    ResultPage,
                    errors=(404, 422),
                    query=ResultsQuery,
                ),
            },
            "/fleet": {
                "get": _operation(
                    "The machines and workers, the last decisions, and why nothing runs", FleetView
                )
            },
            "/health": {"get": {**_operation("Liveness", Health, common=(500,)), "security": []}},
            "/openapi.json": {"get": _operation("This document", None)},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }


def _operation(
    summary: str,
    answers: type | None,
    *,
    status: int = 200,
    errors: tuple[int, ...] = (),
    common: tuple[int, ...] = _EVERYWHERE,
    query: type | None = None,
    body: Json | None = None,
) -> Json:
    schema = {"type": "object"} if answers is None else _reference(answers)
    responses = {str(status): {"description": "Done", "content": {JSON_TYPE: {"schema": schema}}}}
    for code in sorted({*errors, *common}):
        responses[str(code)] = {"description": _ERRORS[code]}
        if code not in (401, 403):  # these are API Gateway's own words
            responses[str(code)]["content"] = {JSON_TYPE: {"schema": _reference(Error)}}
    operation: Json = {"summary": summary, "responses": responses}
    if query is not None:
        operation["parameters"] = _parameters(query)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _reference(struct: type) -> Json:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _parameters(query: type) -> list[Json]:
    properties = msgspec.json.schema(query)["$defs"][query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _bodies() -> Json:
    lines = {
        "type": "string",
        "description": "One task a line, such as `sleep 1000`, or a JSON object; blank lines and "
        "lines that begin with `#` are skipped. Name and key are query parameters then.",
    }
    return {
        "required": True,
        "content": {
            JSON_TYPE: {"schema": {"oneOf": [_reference(SubmitRequest), _reference(FromUpload)]}},
            TEXT_TYPE: {"schema": lines},
        },
    }
