"""The parts of the OpenAPI document that all its operations share: statuses, references to schemas,
parameters. Owns no path (`chalice_app.openapi`).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import msgspec

from chalice_app.body import JSON_TYPE, TEXT_TYPE
from taskfleet.wire.http.caps import BODY_MAX_BYTES, ESCAPED_BODY_MAX_BYTES
from taskfleet.wire.http.service import Error

Json = dict[str, Any]

SCHEMA = "#/components/schemas/{name}"
"""Where the document has the schema of a name."""

_ERRORS = {
    400: "The body cannot be read: it is not UTF-8, or malformed, ambiguous or too deeply nested "
    "JSON.",
    401: "The request has no token.",
    403: "The token is not valid, has expired, or is a reader's, who changes nothing.",
    404: "There is no such batch, task, upload or schedule, or it belongs to another client.",
    409: "The idempotency key or the name of the schedule was used before for another payload, or "
    "no such part can join the batch.",
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


def operation(
    summary: str,
    answers: type | None,
    *,
    status: int = 200,
    errors: tuple[int, ...] = (),
    common: tuple[int, ...] = _COMMON_ERRORS,
    query: type | None = None,
    body: Json | None = None,
    description: str | None = None,
    also: Mapping[int, type] | None = None,
) -> Json:
    """Returns one operation. `also` has the answers of other statuses. Without `answers`, its
    answer is an object of any form."""
    schema = {"type": "object"} if answers is None else reference(answers)
    responses = {
        str(status): {"description": "Success", "content": {JSON_TYPE: {"schema": schema}}}
    }
    for code, struct in (also or {}).items():
        responses[str(code)] = {
            "description": "Success",
            "content": {JSON_TYPE: {"schema": reference(struct)}},
        }
    for code in sorted({*errors, *common}):
        responses[str(code)] = {"description": _ERRORS[code]}
        if code not in (401, 403):  # API Gateway makes these, with bodies of its own
            responses[str(code)]["content"] = {JSON_TYPE: {"schema": reference(Error)}}
    made: Json = {"summary": summary, "responses": responses}
    if description is not None:
        made["description"] = description
    if query is not None:
        made["parameters"] = _parameters(query)
    if body is not None:
        made["requestBody"] = body
    return made


def text_operation(summary: str, *, errors: tuple[int, ...], query: type, description: str) -> Json:
    """Returns one operation whose answer is text."""
    made = operation(summary, None, errors=errors, query=query, description=description)
    made["responses"]["200"]["content"] = {TEXT_TYPE: {"schema": {"type": "string"}}}
    return made


def as_markdown(docstring: str) -> str:
    """Returns the docstring with one line for each paragraph and without indentation, which
    Markdown would show as code."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def reference(struct: type) -> Json:
    return {"$ref": f"#/components/schemas/{struct.__name__}"}


def _parameters(query: type) -> list[Json]:
    _, schemas = msgspec.json.schema_components([query], ref_template=SCHEMA)
    properties = schemas[query.__name__]["properties"]
    return [{"name": name, "in": "query", "schema": schema} for name, schema in properties.items()]


def json_body(struct: type, *, required: bool = True) -> Json:
    return {"required": required, "content": {JSON_TYPE: {"schema": reference(struct)}}}
