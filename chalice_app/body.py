"""From the bytes of a `POST /batches` to what is submitted. Owns the media types, the cap, and the
shape of the two bodies; not what a task means (`taskfleet.registry`).

JSON: `{"tasks": [...], "name"?, "idempotency_key"?}`, or `upload_id` in place of `tasks`. Text: one
task a line, as in a task file (`taskfleet.wire.taskfile`); name and key are query parameters then.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from chalice_app.errors import Unprocessable, Unreadable, UnsupportedMedia
from chalice_app.query import NoQuery, read_query
from taskfleet.errors import InvalidTask, TooLarge
from taskfleet.wire import strictjson
from taskfleet.wire.http import (
    BODY_MAX_BYTES,
    KEY_MAX_CHARS,
    NAME_MAX_CHARS,
)
from taskfleet.wire.taskfile import read_tasks

JSON_TYPE = "application/json"
TEXT_TYPE = "text/plain"

Name = Annotated[str, Meta(max_length=NAME_MAX_CHARS)]
Key = Annotated[str, Meta(min_length=1, max_length=KEY_MAX_CHARS)]


class SubmitRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of these tasks."""

    tasks: list[Any]
    name: Name | None = None
    idempotency_key: Key | None = None


class FromUpload(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of the tasks in a file that was uploaded before. Without a key the upload is one."""

    upload_id: str
    name: Name | None = None
    idempotency_key: Key | None = None


class TextQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The words of a JSON body that a text body has no place for."""

    name: Name | None = None
    idempotency_key: Key | None = None


def read_submission(
    body: bytes, headers: Mapping[str, str], query: Mapping[str, list[str]] | None
) -> SubmitRequest | FromUpload:
    """Unreadable, UnsupportedMedia, TooLarge, Unprocessable or InvalidTask say what is wrong.
    `headers` finds its keys in lower case."""
    media = _media_type(headers)
    if len(body) > BODY_MAX_BYTES:
        raise TooLarge(
            f"the body of {len(body)} bytes is over the cap of {BODY_MAX_BYTES} bytes (5 MiB) of "
            "one POST; send it as a file through POST /uploads"
        )
    if media == TEXT_TYPE:
        named = read_query(query, TextQuery)
        return SubmitRequest(_tasks_of_text(body), named.name, named.idempotency_key)
    read_query(query, NoQuery)
    return _request_of_json(body)


def check_empty(body: bytes) -> None:
    """For a POST that takes nothing."""
    if body.strip() not in (b"", b"{}"):
        raise Unprocessable("the body: leave it empty; the file goes to the url of the answer")


def _media_type(headers: Mapping[str, str]) -> str:
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise UnsupportedMedia(f"content encoding {encoding!r:.60}; send the body as it is")
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


def _request_of_json(body: bytes) -> SubmitRequest | FromUpload:
    try:
        value = strictjson.loads(body)
    except ValueError as error:
        raise Unreadable(f"the body: {error}") from None
    if not isinstance(value, dict):
        raise Unreadable('the body must be a JSON object like {"tasks": ["sleep 1000"]}')
    if "tasks" in value and "upload_id" in value:
        raise Unprocessable("the body: a batch has either tasks or an upload_id, not both")
    form: type[SubmitRequest | FromUpload] = FromUpload if "upload_id" in value else SubmitRequest
    try:
        return msgspec.convert(value, form)
    except msgspec.ValidationError as error:
        raise Unprocessable(f"the body: {error}") from None


def _tasks_of_text(body: bytes) -> list[Any]:
    try:
        text = body.decode("utf-8-sig")  # editors on Windows put a mark first
    except UnicodeDecodeError as error:
        raise Unreadable(f"the body: not UTF-8: byte {error.start} cannot be read") from None
    tasks: list[Any] = []
    try:
        for _, task in read_tasks(text.split("\n")):
            tasks.append(task)
    except InvalidTask as error:
        raise error.at(len(tasks)) from None
    return tasks
