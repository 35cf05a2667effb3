"""Several responses in one message of `Processed_Task`. Owns how they are packed and taken apart;
not the form of one response (`taskfleet.wire.queues`).

SQS and Lambda take messages by tens, and the collector counts together what comes together. So ten
responses a message are ten times fewer calls on the way to it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

from taskfleet.bundle import Response
from taskfleet.errors import Undecodable
from taskfleet.wire.queues import (
    WIRE_VERSION,
    LegacyResponseMessage,
    ResponseMessage,
    decode_response,
)

ENVELOPE_MAX_BYTES = 65_536
"""Most bytes of a message with several responses. SQS bills so many as one request ("Amazon SQS
pricing")."""
ENVELOPE_MAX_RESPONSES = 10
"""Most responses in one message."""
_Several = Meta(min_length=2, max_length=ENVELOPE_MAX_RESPONSES)
_HEAD, _TAIL = f'{{"v":{WIRE_VERSION},"responses":[', "]}"


class ResponsesMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`Processed_Task`, version 1, with several responses of one client. A single response has a
    message of its own form instead."""

    v: int
    responses: Annotated[list[ResponseMessage], _Several]


class _Envelope(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The same, with responses that are not read yet."""

    v: int
    responses: Annotated[list[msgspec.Raw], _Several]


_decoder = msgspec.json.Decoder(_Envelope)


def pack(encoded: Iterable[tuple[Response, str]]) -> list[tuple[str, str]]:
    """Returns messages of `Processed_Task` that carry the responses, each with the id of its
    client. Each response comes with the message that it would be alone. Those of one client share
    messages, in order. A response in the form of 2014 has a message of its own, which its program
    reads, and so has one that is too large for company."""
    messages: list[tuple[str, list[str]]] = []
    open_: dict[str, tuple[list[str], int]] = {}
    for response, body in encoded:
        size = len(body.encode()) + 1  # with a comma before every one but the first
        client_id = response.client_id
        bodies, room = open_.get(client_id, ([], 0))
        if response.legacy is not None or size > room or len(bodies) == ENVELOPE_MAX_RESPONSES:
            bodies, room = [], ENVELOPE_MAX_BYTES + 1 - len(_HEAD + _TAIL)
            messages.append((client_id, bodies))
        bodies.append(body)
        if response.legacy is None:
            open_[client_id] = bodies, room - size
    return [
        (client_id, bodies[0] if len(bodies) == 1 else _HEAD + ",".join(bodies) + _TAIL)
        for client_id, bodies in messages
    ]


def decode_responses(body: str) -> LegacyResponseMessage | list[Response | Undecodable]:
    """Reads a message of `Processed_Task`, whose responses come in order. An error that says what
    is wrong stands in the place of a response that cannot be read, so that it takes no other with
    it."""
    try:
        envelope = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        try:
            response = decode_response(body)
        except Undecodable as error:
            return [error]
        return response if isinstance(response, LegacyResponseMessage) else [response]
    if envelope.v != WIRE_VERSION:
        return [
            Undecodable(
                f"responses of version {envelope.v}; this reader knows version {WIRE_VERSION}"
            )
        ]
    return [_decode_one(bytes(raw)) for raw in envelope.responses]


def _decode_one(body: bytes) -> Response | Undecodable:
    """Reads one of several responses."""
    try:
        response = decode_response(body)
    except Undecodable as error:
        return error
    if isinstance(response, LegacyResponseMessage):
        return Undecodable("a response in the form of 2014 among others")
    return response
