"""Reads the bodies of requests. Owns the media types, the cap, and the shapes of the bodies;
not what a task means (`taskfleet.registry`).

A JSON body is an object with `tasks` or `upload_id`, and optionally `name`, `idempotency_key` and
options (`taskfleet.options`). A text body has one task on each line, as a task file does
(`taskfleet.wire.taskfile`); the other fields are query parameters then. Docstrings of the structs
become descriptions in the OpenAPI document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from chalice_app.errors import Unprocessable, Unreadable, UnsupportedMedia
from chalice_app.query import NoQuery, read_query
from chalice_app.taskforms import FewTasks, Tasks
from taskfleet.errors import InvalidTask, TooLarge
from taskfleet.options import BatchOptions, whole_numbers
from taskfleet.schedule import NAME as SCHEDULE_NAME
from taskfleet.schedule import Missed
from taskfleet.wire import strictjson
from taskfleet.wire.http.caps import KEY_MAX_CHARS, NAME_MAX_CHARS, body_fault
from taskfleet.wire.http.letters import QueueName
from taskfleet.wire.taskfile import read_tasks

T = TypeVar("T")

JSON_TYPE = "application/json"
"""Media type of a body that is one JSON object."""
TEXT_TYPE = "text/plain"
"""Media type of a body that is a task file."""

Name = Annotated[str, Meta(max_length=NAME_MAX_CHARS, description="A name for the batch, to show.")]
Key = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=KEY_MAX_CHARS,
        description="A text that you choose, such as a random UUID. Sending the same payload again "
        "under the same key gives the same batch and runs nothing twice.",
    ),
]


class SubmitRequest(BatchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Makes a batch of the given tasks. A task is text, such as `"sleep 1000"`, or an object with
    its kind and its params, such as `{"kind": "sleep", "params": 1000}`. `timeout_s`,
    `max_attempts`, `memory_mb` and `retry_timeouts` count for the tasks that do not have their own:
    an object may have the same fields, and they go before."""

    tasks: Tasks
    name: Name | None = None
    idempotency_key: Key | None = None


class FromUpload(BatchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Makes a batch of the tasks in a file that was sent with a form of `POST /uploads`. Without
    `idempotency_key`, the upload's id serves as the key."""

    upload_id: str
    name: Name | None = None
    idempotency_key: Key | None = None


class OpenRequest(BatchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Opens a batch to which parts are added with `POST /batches/{batch_id}/tasks`. `open` is true.
    `tasks`, if there are any, are its first part."""

    open: Annotated[bool, Meta(extra_json_schema={"const": True})]
    tasks: FewTasks = msgspec.field(default_factory=list)
    name: Name | None = None
    idempotency_key: Key | None = None


class PartRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Adds tasks to an open batch. `first` is the number of tasks that were added before, which is
    the `total` of the answer to the part before. With `close`, no part can follow."""

    first: Annotated[int, Meta(ge=0, le=10**12)]
    tasks: Tasks
    close: bool = False


class RetryRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Runs tasks of a batch again that ended with one of the statuses in `status`. Without an
    `idempotency_key`, each request makes another batch."""

    status: Annotated[list[Literal["FAILED", "CANCELLED"]], Meta(min_length=1, max_length=2)] = (
        msgspec.field(default_factory=lambda: ["FAILED"])
    )
    idempotency_key: Key | None = None


class ScheduleRequest(BatchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Makes a schedule of the given tasks, by which they are submitted as a batch again and again.
    It has either `every` or `cron`. The options are those of each batch."""

    name: Annotated[
        str, Meta(pattern=SCHEDULE_NAME, description="A name for the schedule and its batches.")
    ]
    tasks: Tasks
    every: (
        Annotated[
            int | str,
            Meta(
                description="The rate: seconds, or text such as `15m`, `12h` or `1d`. The first "
                "batch comes after so long."
            ),
        ]
        | None
    ) = None
    cron: (
        Annotated[
            str,
            Meta(
                max_length=200,
                description="A cron expression, in UTC: minute, hour, day of the month, month and "
                "day of the week.",
            ),
        ]
        | None
    ) = None
    missed: Annotated[
        Missed,
        Meta(
            description="What becomes of times at which the service did not look: they are left "
            "out, or up to 60 of them are made up for."
        ),
    ] = Missed.SKIP


class TextQuery(BatchOptions, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query parameters of a text body, for the fields of a JSON body that it cannot have."""

    name: Name | None = None
    idempotency_key: Key | None = None


def read_submission(
    body: bytes, headers: Mapping[str, str], query: Mapping[str, list[str]] | None
) -> SubmitRequest | FromUpload | OpenRequest:
    """Reads a submission. `headers` must have its keys in lower case.

    Raises Unreadable, UnsupportedMedia, TooLarge, Unprocessable or InvalidTask.
    """
    media = _media_type(headers)
    _check_size(body, "send it as a file through POST /uploads")
    if media == TEXT_TYPE:
        parameters = read_query(query, TextQuery, lists=["after"])
        given = msgspec.structs.asdict(parameters)
        return SubmitRequest(tasks=_text_tasks(body), **given)
    read_query(query, NoQuery)
    return _json_request(body)


def read_quote(
    body: bytes, headers: Mapping[str, str], query: Mapping[str, list[str]] | None
) -> SubmitRequest:
    """Reads what is to be quoted, a body as of a submission. Raises as `read_submission` does, and
    Unprocessable for an upload or an open batch, whose tasks are not in the body."""
    wanted = read_submission(body, headers, query)
    if isinstance(wanted, SubmitRequest):
        return wanted
    raise Unprocessable("the body: a quote is made of `tasks`; those of an upload are not read yet")


def read_part(
    body: bytes, headers: Mapping[str, str], query: Mapping[str, list[str]] | None
) -> PartRequest:
    """Reads a part of an open batch. Raises as `read_submission` does."""
    media = _media_type(headers)
    if media != JSON_TYPE:
        raise UnsupportedMedia(f"content type {media!r:.60}; send {JSON_TYPE}")
    _check_size(body, "send it in several parts")
    read_query(query, NoQuery)
    value = _json_object(body, '{"first": 0, "tasks": ["sleep 1000"]}')
    return _converted(value, PartRequest)


class ContentRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Asks to store a content under its SHA-256, in 64 lower-case hexadecimal digits. `bytes` is
    its size."""

    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$", max_length=64)]
    bytes: Annotated[int, Meta(ge=0, le=2**40)]


def read_upload(body: bytes, query: Mapping[str, list[str]] | None) -> ContentRequest | None:
    """Reads what `POST /uploads` asks for: a content, or, with an empty body, a form for any file.
    Raises as `read_submission` does."""
    read_query(query, NoQuery)
    if body.strip() in (b"", b"{}"):
        return None
    _check_size(body, "send the file to the url in the answer")
    return _converted(_json_object(body, '{"sha256": "...", "bytes": 12}'), ContentRequest)


def read_retry(body: bytes, query: Mapping[str, list[str]] | None) -> RetryRequest:
    """Reads what is to be retried; an empty body asks for the defaults. Raises as `read_submission`
    does."""
    read_query(query, NoQuery)
    _check_size(body, "a retry needs no tasks in it")
    return _converted(_json_object(body.strip() or b"{}", '{"status": ["FAILED"]}'), RetryRequest)


def read_schedule(body: bytes, query: Mapping[str, list[str]] | None) -> ScheduleRequest:
    """Reads a schedule. Raises as `read_submission` does."""
    read_query(query, NoQuery)
    _check_size(body, "a schedule has fewer tasks")
    example = '{"name": "nightly", "cron": "0 3 * * *", "tasks": ["sleep 1000"]}'
    return _converted(_json_object(body, example), ScheduleRequest)


class RedriveRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Moves dead letters back to the queue to which they belong."""

    queue: QueueName


def read_redrive(body: bytes, query: Mapping[str, list[str]] | None) -> RedriveRequest:
    """Reads whose dead letters are to be moved. Raises as `read_submission` does."""
    read_query(query, NoQuery)
    _check_size(body, "it names a queue only")
    return _converted(_json_object(body, '{"queue": "tasks"}'), RedriveRequest)


def check_empty(body: bytes) -> None:
    """Raises Unprocessable unless the body is empty or `{}`."""
    if body.strip() not in (b"", b"{}"):
        raise Unprocessable(
            "the body must be empty or {}; the file of an upload goes to the url in the answer"
        )


def _media_type(headers: Mapping[str, str]) -> str:
    """Returns `JSON_TYPE` or `TEXT_TYPE`. Raises UnsupportedMedia for all other bodies."""
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(f"content encoding {encoding!r:.60}; send the body without encoding")
    media, _, parameters = headers.get("content-type", JSON_TYPE).partition(";")
    media = media.strip().lower()
    if media not in (JSON_TYPE, TEXT_TYPE):
        raise UnsupportedMedia(f"content type {media!r:.60}; send {JSON_TYPE} or {TEXT_TYPE}")
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        charset = value.strip().strip('"').lower()
        if name.strip().lower() == "charset" and charset not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedMedia(f"charset {charset!r:.60}; send UTF-8")
    return media


def _check_size(body: bytes, advice: str) -> None:
    fault = body_fault(body)
    if fault is not None:
        raise TooLarge(f"the body {fault} of one POST; {advice}")


def _json_request(body: bytes) -> SubmitRequest | FromUpload | OpenRequest:
    value = _json_object(body, '{"tasks": ["sleep 1000"]}')
    if "tasks" in value and "upload_id" in value:
        raise Unprocessable("the body: a batch has either tasks or an upload_id, not both")
    if "open" in value:
        if value["open"] is not True:
            raise Unprocessable("the body: `open` is true, or left out")
        return _converted(value, OpenRequest)
    shape: type[SubmitRequest | FromUpload] = FromUpload if "upload_id" in value else SubmitRequest
    return _converted(value, shape)


def _json_object(body: bytes, example: str) -> dict[str, Any]:
    try:
        value = strictjson.loads(body)
    except ValueError as error:
        raise Unreadable(f"the body: {error}") from None
    if not isinstance(value, dict):
        raise Unreadable(f"the body must be a JSON object like {example}")
    return value


def _converted(value: Mapping[str, Any], shape: type[T]) -> T:
    try:
        return msgspec.convert(whole_numbers(value), shape)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"the body: {error}") from None


def _text_tasks(body: bytes) -> list[Any]:
    try:
        text = body.decode("utf-8-sig")  # without the byte order mark of editors on Windows
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body: not UTF-8: byte {error.start} cannot be read") from None
    tasks: list[Any] = []
    try:
        for _, task in read_tasks(text.split("\n")):
            tasks.append(task)
    except InvalidTask as error:
        raise error.at(len(tasks)) from None
    return tasks
