"""The cost of AWS calls. Owns the prices and the rules by which AWS meters calls; not the counting
of calls (`taskfleet.aws.meter`).

Prices are the public on-demand prices in us-east-1 (the pages "Amazon SQS pricing", "Amazon
DynamoDB pricing" and "Amazon S3 pricing", 2026), without the free tier. The running time of Lambda
and EC2 is not included. Sizes are those of HTTP bodies; for DynamoDB they are a little too large,
because binary values travel in base64.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

SQS_REQUEST_USD = 0.40e-6
"""Price of one SQS request, in dollars."""
SQS_CHUNK_BYTES = 64 * 1024
"""Bytes that SQS bills as one request. Each started chunk of a larger call is one more request."""
DYNAMODB_WRITE_USD = 0.625e-6
"""Price of one DynamoDB write request unit, in dollars."""
DYNAMODB_WRITE_BYTES = 1024
"""Bytes of an item that one write request unit covers."""
DYNAMODB_READ_USD = 0.125e-6
"""Price of one DynamoDB read request unit, in dollars."""
DYNAMODB_READ_BYTES = 4096
"""Bytes of an item that one strongly consistent read request unit covers."""
S3_PUT_USD = 5.0e-6
"""Price of one S3 request that writes or lists, in dollars."""
S3_GET_USD = 0.40e-6
"""Price of one S3 request that reads, in dollars."""
EVENT_USD = {"eventbridge": 1.00e-6, "sns": 0.50e-6}
"""Price of one event of up to 64 KiB, in dollars, by service."""

_DYNAMODB_READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})
_S3_READS = frozenset({"GetObject", "HeadObject"})


class Spend(msgspec.Struct, frozen=True, array_like=True):
    """AWS calls and their cost.

    calls: number of calls; a fraction if a call also served other batches or bundles.
    usd: cost, in dollars.
    """

    calls: Annotated[float, Meta(ge=0, le=1e6)] = 0.0
    usd: Annotated[float, Meta(ge=0, le=1e3)] = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.calls + other.calls, self.usd + other.usd)

    def __sub__(self, other: Spend) -> Spend:
        return Spend(self.calls - other.calls, self.usd - other.usd)

    def __truediv__(self, shares: int) -> Spend:
        return Spend(self.calls / shares, self.usd / shares)


NOTHING = Spend()


def price_usd(service: str, operation: str, request_bytes: int, response_bytes: int) -> float:
    """Returns the price of one call, in dollars. Calls to services other than SQS, DynamoDB, S3,
    EventBridge and SNS are rare and count as free.

    service, operation: names as botocore spells them, such as `sqs` and `SendMessageBatch`.
    """
    if service == "sqs":
        size = max(request_bytes, response_bytes)
        return SQS_REQUEST_USD * max(1, math.ceil(size / SQS_CHUNK_BYTES))
    if service == "dynamodb":
        if operation in _DYNAMODB_READS:
            return DYNAMODB_READ_USD * max(1, math.ceil(response_bytes / DYNAMODB_READ_BYTES))
        return DYNAMODB_WRITE_USD * max(1, math.ceil(request_bytes / DYNAMODB_WRITE_BYTES))
    if service == "s3":
        return S3_GET_USD if operation in _S3_READS else S3_PUT_USD
    return EVENT_USD.get(service, 0.0)


def event_source_spend(messages: int, messages_a_call: int) -> Spend:
    """Returns what Lambda's event source mapping spends on receiving and then deleting `messages`
    messages of a queue, `messages_a_call` in each call."""
    calls = 2 * math.ceil(messages / messages_a_call)
    return Spend(calls, calls * SQS_REQUEST_USD)


class Odometer:
    """Splits the running total of a process into the spends between two readings, so that each call
    is billed once. Safe for any number of threads.

    read: returns the running total.
    """

    def __init__(self, read: Callable[[], Spend]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._taken = read()

    def take(self) -> Spend:
        """Returns the spend since the last `take`. The caller puts it on a bill."""
        with self._lock:
            total = self._read()
            since, self._taken = total - self._taken, total
            return since
