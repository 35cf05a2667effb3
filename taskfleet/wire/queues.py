"""The messages on the three queues: `Task_to_process` carries bundles, `Processed_Task` carries
responses, `Upload_to_expand` names batches whose files are to be read. Owns their versioned JSON
forms, whose JSON Schemas are in `docs/schemas/`; not how several responses share a message
(`taskfleet.wire.envelopes`).

A message in the form of 2014, `{"clientID", "jobID", "task"}`, which is a single task, is read and
answered too.

Anybody with access to a queue may have written a message. The decoders accept only what the
encoders could have written: names have their form, numbers their bounds, lists their length.
"""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, TypeVar, cast

import msgspec
from msgspec import Meta
from msgspec.json import Decoder
from msgspec.structs import replace

from taskfleet.batch import is_client_id, is_id
from taskfleet.bill import NOTHING, Spend
from taskfleet.bundle import BUNDLE_MAX_TASKS, Bundle, LegacyIds, Response, job_id
from taskfleet.errors import Undecodable
from taskfleet.options import Options
from taskfleet.pace import Sample
from taskfleet.task import Task, TaskResult, TaskStatus, compacted
from taskfleet.trace import Traceparent
from taskfleet.wire.taskfile import kind_and_params

WIRE_VERSION = 1
"""Version of all three forms: the field `v` of a message."""
RESPONSE_MAX_BYTES = 262_144
"""Largest response that carries results. A larger one carries only the state of each task, which is
what the collector counts; the results stay in the table."""
LEGACY_ID_MAX_CHARS = 128
"""Longest `clientID` or `jobID` of the form of 2014, in characters."""
_BUNDLE_NUMBER_END = 1_000_000_000
"""First number that no bundle can have. The table can store every number below it."""

LegacyId = int | Annotated[str, Meta(min_length=1, max_length=LEGACY_ID_MAX_CHARS)]
KindName = Annotated[str, Meta(min_length=1, max_length=64)]


class BundleMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`Task_to_process`, version 1. `traceparent` is the batch's trace context ("Trace Context",
    W3C), `options` are the options of its tasks that do not have their own. Messages of earlier
    versions have neither, nor the fourth element of a task; a message without options is as
    theirs."""

    v: int
    job_id: str
    client_id: str
    batch_id: str
    tasks: list[Task]
    traceparent: Traceparent | None = None
    options: Options | None = None


class ResponseMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`Processed_Task`, version 1. `abridged` says that the rows are without results and errors,
    which would be too large together; the API has them. `traceparent` is the bundle's. `checksum`
    is that of the bundle's record in the table; workers of earlier versions do not tell it."""

    v: int
    job_id: str
    client_id: str
    batch_id: str
    results: list[TaskResult]
    timings: dict[KindName, Sample] = {}
    spend: Spend = NOTHING
    abridged: bool = False
    traceparent: Traceparent | None = None
    checksum: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0


class LegacyBundleMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Task_to_process` in the form of 2014."""

    clientID: LegacyId  # noqa: N815
    jobID: LegacyId  # noqa: N815
    task: str


class LegacyResponseMessage(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True
):
    """`Processed_Task` in the form of 2014; `result` is the error's text when the task failed. A
    result that is too large for a message is null, and `note` says where it is."""

    clientID: LegacyId  # noqa: N815
    jobID: LegacyId  # noqa: N815
    status: TaskStatus
    result: Any
    note: str = ""


M = TypeVar("M", bound=msgspec.Struct)
L = TypeVar("L", bound=msgspec.Struct)

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
        BundleMessage(
            WIRE_VERSION,
            bundle.job_id,
            bundle.client_id,
            bundle.batch_id,
            # They are encoded as what they are, whatever the field's type says.
            cast("list[Task]", compacted(bundle.tasks)),
            bundle.traceparent,
            bundle.options,
        )
    )


def decode_bundle(body: str) -> Bundle:
    """Reads a message of `Task_to_process`. The tasks are not validated. Raises Undecodable, which
    says what is wrong, or InvalidTask for an empty task in the form of 2014."""
    try:
        message = _decode(body, _bundle_decoder, _legacy_bundle_decoder)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(f"not a bundle: {error}") from error
    if isinstance(message, LegacyBundleMessage):
        kind, params = kind_and_params(message.task)
        return Bundle(
            job_id=f"{message.clientID};{message.jobID}",
            client_id=str(message.clientID),
            batch_id="",
            tasks=[Task(0, kind, params)],
            legacy=LegacyIds(message.clientID, message.jobID),
        )
    _check_head(message, "bundle")
    _check_indexes([task.index for task in message.tasks], "bundle")
    return Bundle(
        message.job_id,
        message.client_id,
        message.batch_id,
        message.tasks,
        traceparent=message.traceparent,
        options=message.options,
    )


def encode_response(response: Response) -> str:
    """Returns a message of `Processed_Task`, in the form of 2014 if the bundle was in that form."""
    encoded = _encode(_response_message(response, abridged=False))
    if len(encoded.encode()) <= RESPONSE_MAX_BYTES:
        return encoded
    return _encode(_response_message(response, abridged=True))


def encode_states(response: Response) -> str:
    """Returns a message of `Processed_Task` with the state of each task only, for a response that
    cannot be published otherwise."""
    bare = replace(response, timings={}, spend=NOTHING)
    return _encode(_response_message(bare, abridged=True))


def _response_message(
    response: Response, *, abridged: bool
) -> ResponseMessage | LegacyResponseMessage:
    if response.legacy is not None:
        (only,) = response.results
        result, note = only.result if only.error is None else only.error, ""
        if abridged or only.stored is not None:
            result, note = None, f"not fit for a message; recorded as {response.job_id}"
        ids = response.legacy
        return LegacyResponseMessage(ids.clientID, ids.jobID, only.status, result, note)
    results = response.results
    if abridged:
        results = [TaskResult(row.index, row.status) for row in results]
    elif any(row.traceback is not None for row in results):
        # Long, and for the task's owner: the API has them.
        results = [replace(row, traceback=None) for row in results]
    return ResponseMessage(
        WIRE_VERSION,
        response.job_id,
        response.client_id,
        response.batch_id,
        results,
        response.timings,
        response.spend,
        abridged,
        response.traceparent,
        response.checksum,
    )


def decode_response(body: str | bytes) -> Response | LegacyResponseMessage:
    """Reads a message of `Processed_Task` with one response. Raises Undecodable, which says what is
    wrong."""
    try:
        message = _decode(body, _response_decoder, _legacy_response_decoder)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Undecodable(f"not a response: {error}") from error
    if isinstance(message, LegacyResponseMessage):
        return message
    _check_head(message, "response")
    _check_indexes([row.index for row in message.results], "response")
    _check_timings(message)
    return Response(
        message.job_id,
        message.client_id,
        message.batch_id,
        message.results,
        timings=message.timings,
        spend=message.spend,
        traceparent=message.traceparent,
        checksum=message.checksum,
    )


def _decode(body: str | bytes, current: Decoder[M], legacy: Decoder[L]) -> M | L:
    """Decode by the current form, else by that of 2014. Only a message without `v` can be of the
    latter, since it forbids fields that it does not know. Raises the error of the current form if
    neither fits."""
    try:
        return current.decode(body)
    except msgspec.DecodeError:
        with contextlib.suppress(msgspec.DecodeError):
            return legacy.decode(body)
        raise


def _check_head(message: BundleMessage | ResponseMessage, what: str) -> None:
    """Raise Undecodable if the version is unknown or the names do not have their form."""
    if message.v != WIRE_VERSION:
        raise Undecodable(
            f"{what} of version {message.v}; this reader knows version {WIRE_VERSION}"
        )
    if not is_id(message.batch_id):
        raise Undecodable(f"{what} of {message.batch_id!r:.60}, which is not the id of a batch")
    if not is_client_id(message.client_id):
        raise Undecodable(f"{what} of {message.client_id!r:.60}, which is not the id of a client")
    _, _, number = message.job_id.partition(":")
    known = number.isascii() and number.isdigit() and int(number[:10]) < _BUNDLE_NUMBER_END
    if not known or message.job_id != job_id(message.batch_id, int(number[:10])):
        raise Undecodable(
            f"{what} {message.job_id!r:.60} does not belong to batch {message.batch_id!r:.60}"
        )


def _check_indexes(indexes: list[int], what: str) -> None:
    """Raise Undecodable unless there are 1 to `BUNDLE_MAX_TASKS` indexes from 0, all different."""
    if not indexes:
        raise Undecodable(f"a {what} without tasks")
    if len(indexes) > BUNDLE_MAX_TASKS:
        raise Undecodable(f"a {what} with {len(indexes)} tasks; the most is {BUNDLE_MAX_TASKS}")
    if min(indexes) < 0:
        raise Undecodable(f"a {what} with the task index {min(indexes)}")
    if len(set(indexes)) != len(indexes):
        raise Undecodable(f"a {what} with the same task index twice")


def _check_timings(message: ResponseMessage) -> None:
    """Raise Undecodable if the response times more tasks than it has, or a kind without tasks."""
    timed = [sample.tasks for sample in message.timings.values()]
    if 0 in timed or sum(timed) > len(message.results):
        raise Undecodable(
            f"a response that times {sum(timed)} tasks of {len(timed)} kinds; "
            f"it has {len(message.results)} tasks"
        )


class UploadMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """`Upload_to_expand`, version 1: a batch whose file is to be read. `ended` is a batch for which
    this one waits and whose end is the occasion; None if it does not wait."""

    v: int
    batch_id: str
    ended: str | None = None


_upload_decoder = msgspec.json.Decoder(UploadMessage)


def encode_upload(batch_id: str, ended: str | None = None) -> str:
    """Returns a message of `Upload_to_expand` for the batch."""
    return _encode(UploadMessage(WIRE_VERSION, batch_id, ended))


def decode_upload(body: str) -> UploadMessage:
    """Reads a message of `Upload_to_expand`. Raises Undecodable."""
    try:
        message = _upload_decoder.decode(body)
    except msgspec.DecodeError as error:
        raise Undecodable(f"not an upload to expand: {error}") from error
    if message.v != WIRE_VERSION:
        raise Undecodable(
            f"upload message of version {message.v}; this reader knows version {WIRE_VERSION}"
        )
    return message
