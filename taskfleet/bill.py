"""What AWS calls cost. Pure: sizes in, dollars out. Owns the prices and the rules of metering.

Prices are the public ones of us-east-1 on demand (the pricing pages of SQS, DynamoDB and S3, 2026);
the free tier and Lambda's and EC2's time are not in them. Sizes are those of requests and answers
on the wire, which overstate DynamoDB's a little, since binary values travel there as base64.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import msgspec

SQS_REQUEST_USD = 0.40e-6
SQS_CHUNK_BYTES = 64 * 1024
"""Every started chunk of a call is one request on the bill."""
DYNAMODB_WRITE_USD = 0.625e-6
DYNAMODB_WRITE_BYTES = 1024
DYNAMODB_READ_USD = 0.125e-6
DYNAMODB_READ_BYTES = 4096
S3_PUT_USD = 5.0e-6
S3_GET_USD = 0.40e-6

_DYNAMODB_READS = frozenset({"GetItem", "BatchGetItem", "Query", "Scan"})
_S3_READS = frozenset({"GetObject", "HeadObject"})


class Spend(msgspec.Struct, frozen=True, array_like=True):
    """AWS calls made and dollars; `calls` may be a share of a call that served several."""

    calls: float = 0.0
    usd: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.calls + other.calls, self.usd + other.usd)

    def __sub__(self, other: Spend) -> Spend:
        return Spend(self.calls - other.calls, self.usd - other.usd)

    def __truediv__(self, ways: int) -> Spend:
        return Spend(self.calls / ways, self.usd / ways)


NOTHING = Spend()


def price_usd(service: str, operation: str, request_bytes: int, response_bytes: int) -> float:
    """Dollars for one call. Services that Taskfleet hardly calls cost nothing here."""
    if service == "sqs":
        size = max(request_bytes, response_bytes)
        return SQS_REQUEST_USD * max(1, math.ceil(size / SQS_CHUNK_BYTES))
    if service == "dynamodb":
        if operation in _DYNAMODB_READS:
            return DYNAMODB_READ_USD * max(1, math.ceil(response_bytes / DYNAMODB_READ_BYTES))
        units = max(1, math.ceil(request_bytes / DYNAMODB_WRITE_BYTES))
        if operation == "TransactWriteItems":  # two items, each written twice
            return DYNAMODB_WRITE_USD * 2 * (units + 1)
        return DYNAMODB_WRITE_USD * units
    if service == "s3":
        return S3_GET_USD if operation in _S3_READS else S3_PUT_USD
    return 0.0


def event_source_spend(messages: int, a_call: int) -> Spend:
    """What Lambda's poller spends to receive so many messages and delete them, `a_call` at a
    time."""
    calls = 2 * math.ceil(messages / a_call)
    return Spend(calls, calls * SQS_REQUEST_USD)


class Odometer:
    """What a process spent since somebody last asked. `read` is its running total."""

    def __init__(self, read: Callable[[], Spend]) -> None:
        self._read = read
        self._lock = threading.Lock()
        self._taken = read()

    def take(self) -> Spend:
        """The spend since the last `take`, to be put on somebody's bill."""
        with self._lock:
            total = self._read()
            since, self._taken = total - self._taken, total
            return since
