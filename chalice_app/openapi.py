"""The OpenAPI 3.1 document of the HTTP API, as `GET /openapi.json` returns it. Owns the description
of each route; the schemas are generated from the structs that the API reads and writes
(`chalice_app.body`, `chalice_app.query`, `taskfleet.wire.http`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chalice_app.body import (
    JSON_TYPE,
    TEXT_TYPE,
    ContentRequest,
    FromUpload,
    OpenRequest,
    PartRequest,
    RedriveRequest,
    RetryRequest,
    ScheduleRequest,
    SubmitRequest,
    TextQuery,
)
from chalice_app.openapi_links import add_links
from chalice_app.openapi_parts import (
    SCHEMA,
    Json,
    as_markdown,
    json_body,
    operation,
    reference,
    text_operation,
)
from chalice_app.query import (
    BatchesQuery,
    HistoryQuery,
    LettersQuery,
    LogQuery,
    ResultsQuery,
    StatusQuery,
    StreamQuery,
)
from chalice_app.taskforms import TaskObject
from taskfleet import __version__
from taskfleet.output import PAGE_BYTES
from taskfleet.wire.http.batches import Accepted, AuditView, BatchList, BatchView, Grown, QuoteView
from taskfleet.wire.http.caps import MAX_TASKS
from taskfleet.wire.http.fleet import FleetHistory, FleetView
from taskfleet.wire.http.kinds import KindList
from taskfleet.wire.http.letters import LetterList, Redriven
from taskfleet.wire.http.results import ResultPage, StreamPage
from taskfleet.wire.http.schedules import ScheduleList, ScheduleView
from taskfleet.wire.http.service import Error, Health, Me
from taskfleet.wire.http.tasks import LOG_BYTES_HEADER, LOG_DROPPED_HEADER, LOG_END_HEADER, TaskView
from taskfleet.wire.http.uploads import Stored, UploadForm

_STRUCTS = [
    SubmitRequest,
    FromUpload,
    OpenRequest,
    PartRequest,
    RetryRequest,
    ScheduleRequest,
    ScheduleList,
    Accepted,
    AuditView,
    Grown,
    ContentRequest,
    Stored,
    KindList,
    Me,
    UploadForm,
    BatchList,
    BatchView,
    ResultPage,
    StreamPage,
    TaskView,
    FleetView,
    FleetHistory,
    LetterList,
    RedriveRequest,
    Redriven,
    Health,
    Error,
    QuoteView,
    TaskObject,
]


def spec() -> Json:
    """Returns the document."""
    _, schemas = msgspec.json.schema_components(_STRUCTS, ref_template=SCHEMA)
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = as_markdown(schema["description"])
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
    document: Json = {
        "openapi": "3.1.0",
        "info": {"title": "Taskfleet", "version": __version__},
        "security": [{"token": []}],
        "paths": {
            "/batches": {
                "post": operation(
                    f"Submit a batch of up to {MAX_TASKS} tasks, or of the file of an "
                    "upload, or open one",
                    Accepted,
                    status=202,
                    errors=(400, 404, 409, 413, 415, 422, 429),
                    query=TextQuery,
                    body=_bodies([SubmitRequest, FromUpload, OpenRequest]),
                    description="The file of an upload is read after the answer. Sending the same "
                    "payload again under the same idempotency key gives the same batch. An open "
                    "batch takes more tasks until it is closed. A batch with `after` is WAITING "
                    "until those batches have ended; 422 when one of them is not yours. The query "
                    f"parameters are for a body of the type {TEXT_TYPE} only.",
                ),
                "get": operation(
                    "List your batches, newest first",
                    BatchList,
                    errors=(422,),
                    query=BatchesQuery,
                    description="With `name`, `status` or `kind`, those that match all of them. "
                    "One call looks at up to 500 batches, so that a page may then be short or "
                    "empty; the next one goes on.",
                ),
            },
            "/quote": {
                "post": operation(
                    "Ask how long a batch would take and what it would cost",
                    QuoteView,
                    errors=(400, 413, 415, 422),
                    query=TextQuery,
                    body=_bodies([SubmitRequest]),
                    description="The body is that of `POST /batches`; nothing is submitted. The "
                    "quote rests on the durations that earlier tasks of the kinds took, the fleet "
                    "as it stands, and the rule by which machines are launched. Options do not "
                    "change it. The query parameters are for a body of the type "
                    f"{TEXT_TYPE} only.",
                ),
            },
            "/uploads": {
                "post": operation(
                    "Get a form with which to send a file",
                    UploadForm,
                    status=201,
                    errors=(400, 413, 422),
                    description="The file may be a task file of any size, for POST /batches with "
                    "its `upload_id`. It has one task on each line, like a text body. If a line is "
                    "faulty, its batch is cancelled, none of its tasks runs, and the `error` of "
                    "the batch names the line. With the `sha256` and `bytes` of a content in the "
                    "body, the form takes that content only, and its id is the SHA-256; if the "
                    "content is stored and lives for two more days, the answer is 200 and has no "
                    "form.",
                    body=json_body(ContentRequest, required=False),
                    also={200: Stored},
                )
            },
            "/batches/{batch_id}": {
                "parameters": [batch_id],
                "get": operation(
                    "Read the status of a batch",
                    BatchView,
                    errors=(404, 422),
                    query=StatusQuery,
                    description="With `wait`, the answer comes when the batch changes, the time "
                    "is up, or no change is near.",
                ),
                "delete": operation(
                    "Cancel the tasks of a batch that have not started",
                    BatchView,
                    status=202,
                    errors=(404,),
                ),
            },
            "/batches/{batch_id}/tasks": {
                "parameters": [batch_id],
                "post": operation(
                    f"Add a part of up to {MAX_TASKS} tasks to an open batch",
                    Grown,
                    status=202,
                    errors=(400, 404, 409, 413, 415, 422, 429),
                    body=json_body(PartRequest),
                    description="Parts are added in order. Sending the same part again under the "
                    "same `first` changes nothing. 409 when `first` leaves a gap, when another "
                    "part was added there, or when the batch is closed or cancelled. A batch to "
                    "which nothing is added for a day is closed.",
                ),
            },
            "/batches/{batch_id}/close": {
                "parameters": [batch_id],
                "post": operation(
                    "Close an open batch, so that it ends when its tasks have",
                    BatchView,
                    status=202,
                    errors=(404, 409, 422),
                    description="A batch that is closed or cancelled stays as it is. 409 for a "
                    "batch whose file is being read.",
                ),
            },
            "/batches/{batch_id}/retry": {
                "parameters": [batch_id],
                "post": operation(
                    "Run the failed tasks of a batch again, as a new batch",
                    Accepted,
                    status=202,
                    errors=(400, 404, 409, 413, 422, 429),
                    body=json_body(RetryRequest, required=False),
                    description="The new batch has the name and the options of the old one, and "
                    "its tasks have their own options. 409 while the batch has not ended; 422 when "
                    "it has no such task.",
                ),
            },
            "/batches/{batch_id}/results": {
                "parameters": [batch_id],
                "get": operation(
                    "Read the results of a batch, page by page",
                    ResultPage,
                    errors=(404, 422),
                    query=ResultsQuery,
                    description="With `order=completion`, each page has results that no page "
                    "before had, and the cursor is null only once no task can join the batch and "
                    "all of its results were given. Results of a bundle of tasks are given "
                    "together, once the last of them has ended; the last ones of a batch that is "
                    "open to its client may come a moment before its status counts them. With the "
                    "header `Prefer: return=minimal`, rows have null for `task`, which is often "
                    "most of an answer.",
                ),
            },
            "/batches/{batch_id}/audit": {
                "parameters": [batch_id],
                "get": operation(
                    "Audit a batch: prove that every task has exactly one result",
                    AuditView,
                    errors=(404, 413, 422),
                ),
            },
            "/batches/{batch_id}/stream": {
                "parameters": [batch_id],
                "get": operation(
                    "Read which tasks of a batch have ended, in a compact form",
                    StreamPage,
                    errors=(404, 422),
                    query=StreamQuery,
                    description="For charts of very many tasks: one short array a task, in the "
                    "order of completion, also while the batch runs. The cursor goes on where it "
                    "stood, so each answer has what is new.",
                ),
            },
            "/batches/{batch_id}/tasks/{index}": {
                "parameters": [batch_id, index],
                "get": operation(
                    "Read one task: its result, its attempts, and what it waits for",
                    TaskView,
                    errors=(404, 422),
                ),
            },
            "/batches/{batch_id}/tasks/{index}/log": {
                "parameters": [batch_id, index],
                "get": text_operation(
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
            "/schedules": {
                "get": operation("List your schedules, by name", ScheduleList, errors=(422,)),
                "post": operation(
                    "Make a schedule, by which a batch is submitted again and again",
                    ScheduleView,
                    status=201,
                    errors=(400, 409, 413, 415, 422),
                    body=json_body(ScheduleRequest),
                    description="A batch has the name of its schedule, and the idempotency key "
                    "`<name>@<time>`, such as `nightly@2030-01-31T03:00:00Z`, so that there is one "
                    "batch for each time at most. Making the same schedule again changes nothing; "
                    "409 if the name is that of another, or for more than 100 schedules.",
                ),
            },
            "/schedules/{name}": {
                "parameters": [
                    {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
                ],
                "delete": operation(
                    "Remove a schedule",
                    ScheduleView,
                    errors=(404, 422),
                    description="Its batches stay. One that is due at this moment may still come.",
                ),
            },
            "/me": {
                "get": operation(
                    "Read whom your token names, and what it may do",
                    Me,
                    errors=(422,),
                    description="The token of a reader is for GET only: every other method is a "
                    "403.",
                )
            },
            "/kinds": {
                "get": operation(
                    "List the kinds of tasks, and the versions of the workers",
                    KindList,
                    errors=(422,),
                )
            },
            "/fleet": {
                "get": operation(
                    "Read the state of the machines and workers, and why nothing runs", FleetView
                )
            },
            "/fleet/history": {
                "get": operation(
                    "Read how the fleet stood over time",
                    FleetHistory,
                    errors=(422,),
                    query=HistoryQuery,
                )
            },
            "/dead-letters": {
                "get": operation(
                    "List the messages that could not be processed, with their reasons",
                    LetterList,
                    errors=(422,),
                    query=LettersQuery,
                    description="Up to 500 letters of the queue are looked at, and are invisible "
                    "to others for so long. Those of other clients are left out.",
                )
            },
            "/dead-letters/redrive": {
                "post": operation(
                    "Move dead letters back to their queue, once their cause is fixed",
                    Redriven,
                    status=202,
                    errors=(400, 413, 415, 422),
                    body=json_body(RedriveRequest),
                    description="Moves those that `GET /dead-letters` shows, out of up to 500 "
                    "letters of the queue. A task that has its result does not run again.",
                )
            },
            "/health": {
                "get": {
                    **operation("Check that the API answers", Health, common=(500,)),
                    "security": [],
                }
            },
            "/openapi.json": {"get": operation("Read this document", None)},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
    }
    add_links(document["paths"])
    return document


def _bodies(shapes: Sequence[type]) -> Json:
    lines = {
        "type": "string",
        "description": "One task on each line: text such as `sleep 1000`, or a JSON object. Blank "
        "lines and lines that begin with `#` are skipped. The name and the idempotency key are "
        "query parameters.",
    }
    return {
        "required": True,
        "content": {
            JSON_TYPE: {"schema": {"oneOf": [reference(shape) for shape in shapes]}},
            TEXT_TYPE: {"schema": lines},
        },
    }
