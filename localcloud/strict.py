"""The hop between the guard and ministack that refuses what AWS refuses and ministack does not.
Owns the ASGI edge: it reads requests of the operations that a rule is about, holds transactions in
flight, and gives the refusals their form on the wire. The rules are `localcloud.conflicts` and
`localcloud.quotas`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from localcloud.conflicts import HOLD_S, Conflicts, Request, read_request
from localcloud.guard import Asgi, Scope, headers_of
from localcloud.quotas import Quotas, Rate

LOOK_S = 0.05
"""Seconds between two looks of a long poll that waits for a message's place in flight."""
_REGION = re.compile(r"Credential=[^/]+/[0-9]{8}/(?P<region>[^/]+)/")
_UNIT_BYTES = 1024
"""Bytes of an item that cost one write unit."""

Table = Callable[[str, str], tuple[str, ...]]
"""Returns the names of the key attributes of the table with this name in this region."""
InFlight = Callable[[str, str], int]
"""Returns the number of messages in flight of the queue with this URL in this region."""


class Strict:
    """An ASGI app that stands before `app`, an emulator of SQS and DynamoDB.

    key_names, in_flight: what the emulator knows of a table and of a queue.
    hold_s: least seconds for which a transaction is in flight.
    """

    def __init__(
        self,
        app: Asgi,
        key_names: Table,
        in_flight: InFlight,
        quotas: Quotas,
        *,
        hold_s: float = HOLD_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._key_names = key_names
        self._in_flight = in_flight
        self._quotas = quotas
        self._hold_s = hold_s
        self._now = now
        self._conflicts = Conflicts()
        self._writes: dict[str, Rate] = {}

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = dict(headers_of(scope))
        service, _, operation = headers.get("x-amz-target", "").partition(".")
        match = _REGION.search(headers.get("authorization", ""))
        region = match["region"] if match else ""
        if service.startswith("DynamoDB_"):
            body = await _read(receive)
            await self._table(operation, region, body, (scope, _again(body, receive), send))
        elif (service, operation) == ("AmazonSQS", "ReceiveMessage"):
            body = await _read(receive)
            await self._queue(region, body, (scope, _again(body, receive), send))
        else:
            await self._app(scope, receive, send)

    async def _table(
        self, operation: str, region: str, body: bytes, call: tuple[Scope, Any, Any]
    ) -> None:
        given = _json(body)
        request = _touched(operation, given, lambda table: self._key_names(table, region), region)
        if request is None:
            await self._app(*call)
            return
        if request.writes and not self._affords(request, len(body)):
            refusal = {
                "__type": "com.amazonaws.dynamodb.v20120810#ThrottlingException",
                "message": "Throughput exceeds the maximum OnDemandThroughput configured on table "
                "or index",
            }
            await _answer(call[2], 400, refusal)
            return
        refused = self._conflicts.enter(request)
        if refused is not None:
            await _answer(call[2], 400, refused.body)
            return
        scope, receive, send = call
        messages: list[Any] = []

        async def keep(message: Any) -> None:
            messages.append(message)

        began = self._now()
        try:
            await self._app(scope, receive, keep)
            if request.transaction:
                await asyncio.sleep(max(0.0, began + self._hold_s - self._now()))
        finally:
            self._conflicts.leave(request)
        for message in messages:
            await send(message)

    def _affords(self, request: Request, size: int) -> bool:
        """Takes the write units of a request of `size` bytes from its table. Returns False when the
        table has none left. A transaction's items cost twice as much."""
        table = request.items[0][0]
        rate = self._writes.setdefault(table, Rate(self._quotas.table_writes, self._now))
        units = max(len(request.items), -(-size // _UNIT_BYTES))
        return rate.take(units * (2 if request.transaction else 1))

    async def _queue(self, region: str, body: bytes, call: tuple[Scope, Any, Any]) -> None:
        """A short poll at the quota is refused; a long poll waits until a message has left or its
        time is up."""
        most = self._quotas.messages_in_flight
        given = _json(body)
        ends_at = self._now() + float(given.get("WaitTimeSeconds") or 0)
        while most is not None and self._in_flight(str(given.get("QueueUrl")), region) >= most:
            if not given.get("WaitTimeSeconds"):
                refusal = {
                    "__type": "com.amazonaws.sqs#OverLimit",
                    "message": "Too many messages are in flight",
                }
                await _answer(call[2], 403, refusal, error="OverLimit;Sender")
                return
            if self._now() >= ends_at:
                await _answer(call[2], 200, {})
                return
            await asyncio.sleep(LOOK_S)
        await self._app(*call)


def _touched(
    operation: str, given: Mapping[str, Any], key_names: Any, region: str
) -> Request | None:
    """Returns what a request touches, None for one that is malformed: the emulator refuses it."""
    try:
        request = read_request(operation, given, key_names, region)
    except (KeyError, TypeError, AttributeError, StopIteration):
        return None
    return request if request and request.items else None


def _json(body: bytes) -> dict[str, Any]:
    try:
        given = json.loads(body)
    except ValueError:
        return {}
    return given if isinstance(given, dict) else {}


async def _read(receive: Any) -> bytes:
    """Reads the body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Any) -> Any:
    """Returns a `receive` that gives the body that was read, then whatever comes."""
    given = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Any:
        return given.pop() if given else await receive()

    return next_message


async def _answer(send: Any, status: int, body: Mapping[str, Any], error: str = "") -> None:
    """Answers in the JSON protocol of AWS ("AWS JSON 1.0 protocol", Smithy)."""
    content = json.dumps(body).encode()
    headers = {
        "content-type": "application/x-amz-json-1.0",
        "content-length": str(len(content)),
        "x-amzn-requestid": str(uuid.uuid4()),
        "x-amz-crc32": str(zlib.crc32(content)),
        **({"x-amzn-query-error": error} if error else {}),
    }
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": content})
