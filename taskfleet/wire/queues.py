"""The messages on the three queues: `Task_to_process` carries bundles, `Processed_Task` carries
responses, `Upload_to_expand` names batches whose files are to be read. Owns their versioned JSON
forms, whose JSON Schemas are in `docs/schemas/`.

A message in the form of 2014, `{"clientID", "jobID", "task"}`, which is a single task, is read and
answered too.
"""

from __future__ import annotations

from typing import Any

import msgspec

from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import Bundle, LegacyIds, Response
from taskfleet.errors import Undecodable
from taskfleet.pace import Sample
from taskfleet.task import Task, TaskResult, TaskStatus
from taskfleet.wire.taskfile import kind_and_params

WIRE_VERSION = 1
"""Version of all three forms: the field `v` of a message."""


class BundleMessage(msgspec.Struct, frozen=True):
    """`Task_to_process`, version 1."""

    v: int
    job_id: str
    client_id: str
    batch_id: str
    tasks: list[Task]


class ResponseMessage(msgspec.Struct, frozen=True):
    """`Processed_Task`, version 1."""

    v: int
    job_id: str
    client_id: str
    batch_id: str
    results: list[TaskResult]
    timings: dict[str, Sample] = {}
    spend: Spend = NOTHING


class LegacyBundleMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Task_to_process` in the form of 2014."""

    clientID: int | str  # noqa: N815
    jobID: int | str  # noqa: N815
    task: str


class LegacyResponseMessage(msgspec.Struct, frozen=True):
    """`Processed_Task` in the form of 2014; `result` is the error's text when the task failed."""

    clientID: int | str  # noqa: N815
    jobID: int | str  # noqa: N815
    status: TaskStatus
    result: Any


_encode_json = msgspec.json.Encoder().encode
_bundle_decoder = msgspec.json.Decoder(BundleMessage)
_response_decoder = msgspec.json.Decoder(ResponseMessage)
_legacy_bundle_decoder = msgspec.json.Decoder(LegacyBundleMessage)
_legacy_response_decoder = msgspec.json.Decoder(LegacyResponseMessage)


def _encode(message: msgspec.Struct) -> str:
    """Returns the message as JSON. Escapes U+FFFE and U+FFFF, which JSON allows and SQS refuses."""
    text = _encode_json(message).decode()
    return text.replace("\ufffe", "\\ufffe").replace("\uffff", "\\uffff")


def encode_bundle(bundle: Bundle) -> str:
    """Returns a message of `Task_to_process`."""
    return _encode(
        BundleMessage(WIRE_VERSION, bundle.job_id, bundle.client_id, bundle.batch_id, bundle.tasks)
    )


def decode_bundle(body: str) -> Bundle:
    """Reads a message of `Task_to_process`. The tasks are not validated. Raises Undecodable, which
    says what is wrong, or InvalidTask for an empty task in the form of 2014."""
    try:
        if '"clientID"' in body:
            old = _legacy_bundle_decoder.decode(body)
            kind, params = kind_and_params(old.task)
            return Bundle(
                job_id=f"{old.clientID};{old.jobID}",
                client_id=str(old.clientID),
                batch_id="",
                tasks=[Task(0, kind, params)],
                legacy=LegacyIds(old.clientID, old.jobID),
            )
        message = _bundle_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(f"not a bundle: {error}") from error
    if message.v != WIRE_VERSION:
        raise Undecodable(
            f"bundle of version {message.v}; this worker reads version {WIRE_VERSION}"
        )
    if not message.tasks:
        raise Undecodable("a bundle without tasks")
    if len({task.index for task in message.tasks}) != len(message.tasks):
        raise Undecodable("a bundle with the same task index twice")
    return Bundle(message.job_id, message.client_id, message.batch_id, message.tasks)


def encode_response(response: Response) -> str:
    """Returns a message of `Processed_Task`, in the form of 2014 when the bundle came in that."""
    if response.legacy is not None:
        only = response.results[0]
        return _encode(
            LegacyResponseMessage(
                response.legacy.clientID,
                response.legacy.jobID,
                only.status,
                only.result if only.error is None else only.error,
            )
        )
    return _encode(
        ResponseMessage(
            WIRE_VERSION,
            response.job_id,
            response.client_id,
            response.batch_id,
            response.results,
            response.timings,
            response.spend,
        )
    )


def decode_response(body: str) -> Response | LegacyResponseMessage:
    """Reads a message of `Processed_Task`. Raises Undecodable, which says what is wrong."""
    try:
        if '"clientID"' in body[:100]:
            return _legacy_response_decoder.decode(body)
        message = _response_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(f"not a response: {error}") from error
    if message.v != WIRE_VERSION:
        raise Undecodable(
            f"response of version {message.v}; this reader knows version {WIRE_VERSION}"
        )
    return Response(
        message.job_id,
        message.client_id,
        message.batch_id,
        message.results,
        timings=message.timings,
        spend=message.spend,
    )


class UploadMessage(msgspec.Struct, frozen=True):
    """`Upload_to_expand`, version 1."""

    v: int
    batch_id: str


_upload_decoder = msgspec.json.Decoder(UploadMessage)


def encode_upload(batch_id: str) -> str:
    """Returns a message of `Upload_to_expand` for the batch."""
    return _encode(UploadMessage(WIRE_VERSION, batch_id))


def decode_upload(body: str) -> str:
    """Reads a message of `Upload_to_expand` and returns the batch's id. Raises Undecodable."""
    try:
        message = _upload_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Undecodable(f"not an upload to expand: {error}") from error
    if message.v != WIRE_VERSION:
        raise Undecodable(
            f"upload message of version {message.v}; this reader knows version {WIRE_VERSION}"
        )
    return message.batch_id
