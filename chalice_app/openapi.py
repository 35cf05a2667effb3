"""The OpenAPI 3.1 document of the HTTP API, as `GET /openapi.json` returns it. Owns the description
of each route; the schemas are generated from the structs that the API reads and writes
(`chalice_app.body`, `chalice_app.query`, `taskfleet.wire.http`).
"""

from __future__ import annotations

import inspect
from typing import Any

import msgspec

from chalice_app.body import (
    JSON_TYPE,
    TEXT_TYPE,
    FromUpload,
    OpenRequest,
    PartRequest,
    SubmitRequest,
    TextQuery,
)
from chalice_app.query import BatchesQuery, LogQuery, ResultsQuery, StatusQuery
from taskfleet import __version__
from taskfleet.output import PAGE_BYTES
from taskfleet.wire.http import (
    BODY_MAX_BYTES,
    ESCAPED_BODY_MAX_BYTES,
    LOG_BYTES_HEADER,
    LOG_DROPPED_HEADER,
    LOG_END_HEADER,
    MAX_TASKS,
    Accepted,
    BatchList,
    BatchView,
    Error,
    FleetView,
    Grown,
    Health,
    ResultPage,
    TaskView,
    UploadForm,
)

Json = dict[str, Any]


_STRUCTS = [
    SubmitRequest,
    FromUpload,
    OpenRequest,
    PartRequest,
    Accepted,
    Grown,
    UploadForm,
    BatchList,
    BatchView,
    ResultPage,
    TaskView,
    FleetView,
    Health,
    Error,
]
_ERRORS = {
    400: "The body cannot be read: it is not UTF-8, or malformed, ambiguous or too deeply nested "
    "JSON.",
    401: "The request has no token.",
    403: "The token is not valid or has expired.",
    404: "There is no such batch, task or upload, or it belongs to another client.",
    409: "The idempotency key was used before for another payload, or no such part can join the "
    "batch.",
    413: f"The body has more than {BODY_MAX_BYTES} bytes, or more than {ESCAPED_BODY_MAX_BYTES} "
    "with its quotes and line ends escaped, or its part makes too many bundles. Send a batch as a "
    "file through POST /uploads, and a part in several parts.",
    415: f"The content type is neither {JSON_TYPE} nor {TEXT_TYPE}.",
    422: "The request can be read but is not valid. The message names a faulty task by its index.",
    429: "The client has too many tasks waiting or running, if the stage has such a limit, or the "
    "API has too many calls. The header Retry-After says in how many seconds to send the same "
    "request again.",
    500: "The service failed.",
    503: "The queue or the table is busy. The header Retry-After says in how many seconds to send "
    "the same request again.",
}
_COMMON_ERRORS = (401, 403, 500, 503)
"""Errors of every route that needs a token."""


def spec() -> Json:
    """Returns the document."""
    _, schemas = msgspec.json.schema_components(
        _STRUCTS, ref_template="#/components/schemas/{name}"
    )
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = _as_markdown(schema["description"])
    batch_id: Json = {
        "name": "batch_id",
        "in": "path",
        "required": True,
        "schema": {"type": "string"},
    }
    index: Json = {
        "name": "index",
        "in": "path",
        "required": True,
        "description": "The task's place in the batch, from 0.",
        "schema": {"type": "integer", "minimum": 0},
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "Taskfleet", "version": __version__},
        "security": [{"token": []}],
        "paths": {
            "/batches": {
                "post": _operation(
                    f"Submit a batch of up to {MAX_TASKS} tasks, or of the file of an "
                    "upload, or open one",
                    Accepted,
                    status=202,
                    errors=(400, 404, 409, 413, 415, 422, 429),
                    query=TextQuery,
                    body=_bodies(),
                    description="The file of an upload is read after the answer. Sending the same "
                    "payload again under the same idempotency key gives the same batch. An open "
                    "batch takes more tasks until it is closed. The query "
                    f"parameters are for a body of the type {TEXT_TYPE} only.",
                ),
                "get": _operation(
                    "List your batches, newest first",
                    BatchList,
                    errors=(422,),
                    query=BatchesQuery,
                ),
            },
            "/uploads": {
                "post": _operation(
                    "Get a form with which to send a file",
                    UploadForm,
                    status=201,
                    errors=(422,),
                    description="The file may be a task file of any size, for POST /batches with "
                    "its `upload_id`. It has one task on each line, like a text body. If a line is "
                    "faulty, its batch is cancelled, none of its tasks runs, and the `error` of "
                    "the batch names the line.",
                )
            },
            "/batches/{batch_id}": {
                "parameters": [batch_id],
                "get": _operation(
                    "Read the status of a batch",
                    BatchView,
                    errors=(404, 422),
                    query=StatusQuery,
                    description="With `wait`, the answer comes when the batch changes, the time "
                    "is up, or no change is near.",
                ),
                "delete": _operation(
                    "Cancel the tasks of a batch that have not started",
                    BatchView,
                    status=202,
                    errors=(404,),
                ),
            },
            "/batches/{batch_id}/tasks": {
                "parameters": [batch_id],
                "post": _operation(
                    f"Add a part of up to {MAX_TASKS} tasks to an open batch",
                    Grown,
                    status=202,
                    errors=(400, 404, 409, 413, 415, 422, 429),
                    body=_json_body(PartRequest),
                    description="Parts are added in order. Sending the same part again under the "
                    "same `first` changes nothing. 409 when `first` leaves a gap, when another "
                    "part was added there, or when the batch is closed or cancelled. A batch to "
                    "which nothing is added for a day is closed.",
                ),
            },
            "/batches/{batch_id}/close": {
                "parameters": [batch_id],
                "post": _operation(
                    "Close an open batch, so that it ends when its tasks have",
                    BatchView,
                    status=202,
                    errors=(404, 409, 422),
                    description="A batch that is closed or cancelled stays as it is. 409 for a "
                    "batch whose file is being read.",
                ),
            },
            "/batches/{batch_id}/results": {
                "parameters": [batch_id],
                "get": _operation(
                    "Read the results of a batch, page by page",
                    ResultPage,
                    errors=(404, 422),
                    query=ResultsQuery,
                ),
            },
            "/batches/{batch_id}/tasks/{index}": {
                "parameters": [batch_id, index],
                "get": _operation(
                    "Read one task: its result, its attempts, and what it waits for",
                    TaskView,
                    errors=(404, 422),
                ),
            },
            "/batches/{batch_id}/tasks/{index}/log": {
                "parameters": [batch_id, index],
                "get": _text_operation(
                    "Read what a task printed",
                    errors=(404, 422),
                    query=LogQuery,
                    description="Standard output and standard error of one execution, in the order "
                    f"in which they were written; at most {PAGE_BYTES} bytes an answer. The "
                    f"header {LOG_END_HEADER} has the `offset` of the next answer, "
                    f"{LOG_BYTES_HEADER} the size of all that was kept, and {LOG_DROPPED_HEADER} "
                    "the bytes after that which were not. 404 if nothing was printed.",
                ),
            },
            "/fleet": {
                "get": _operation(
                    "Read the state of the machines and workers, and why nothing runs", FleetView
                )
            },
            "/health": {
                "get": {
                    **_operation("Check that the API answers", Health, common=(500,)),
                    "security": [],
                }
            },
            "/openapi.json": {"get": _operation("Read this document", None)},
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
    common: tuple[int, ...] = _COMMON_ERRORS,
    query: type | None = None,
    body: Json | None = None,
    description: str | None = None,
) -> Json:
    """Returns one operation. Without `answers`, its answer is an object of any form."""
    schema = {"type": "object"} if answers is None else _reference(answers)
    responses = {
        str(status): {"description": "Success", "content": {JSON_TYPE: {"schema": schema}}}
    }
    for code in sorted({*errors, *common}):
        responses[str(code)] = {"description": _ERRORS[code]}
        if code not in (401, 403):  # API Gateway makes these, with bodies of its own
            responses[str(code)]["content"] = {JSON_TYPE: {"schema": _reference(Error)}}
    operation: Json = {"summary": summary, "responses": responses}
    if description is not None:
        operation["description"] = description
    if query is not None:
        operation["parameters"] = _parameters(query)
    if body is not None:
        operation["requestBody"] = body
    return operation


def _text_operation(
    summary: str, *, errors: tuple[int, ...], query: type, description: str
) -> Json:
    """Returns one operation whose answer is text."""
    operation = _operation(summary, None, errors=errors, query=query, description=description)
    operation["responses"]["200"]["content"] = {TEXT_TYPE: {"schema": {"type": "string"}}}
    return operation


def _as_markdown(docstring: str) -> str:
    """Returns the docstring with one line for each paragraph and without indentation, which
    Markdown would show as code."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _reference(struct: type) -> Json:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _parameters(query: type) -> list[Json]:
    properties = msgspec.json.schema(query)["$defs"][query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def _json_body(struct: type) -> Json:
    return {"required": True, "content": {JSON_TYPE: {"schema": _reference(struct)}}}


def _bodies() -> Json:
    lines = {
        "type": "string",
        "description": "One task on each line: text such as `sleep 1000`, or a JSON object. Blank "
        "lines and lines that begin with `#` are skipped. The name and the idempotency key are "
        "query parameters.",
    }
    return {
        "required": True,
        "content": {
            JSON_TYPE: {
                "schema": {
                    "oneOf": [
                        _reference(SubmitRequest),
                        _reference(FromUpload),
                        _reference(OpenRequest),
                    ]
                }
            },
            TEXT_TYPE: {"schema": lines},
        },
    }
