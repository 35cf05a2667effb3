"""Prices, meters and limits of the services that the middle stands on: Lambda, API Gateway, SQS,
DynamoDB, CloudWatch. Pure; owns no count of calls (`bench.middle_calls`). The prices of calls to
SQS and DynamoDB stand in `taskfleet.bill`.

Prices are those of us-east-1 in 2026, without any free tier unless a name says so. Sources: AWS's
pages "AWS Lambda pricing", "Amazon API Gateway pricing", "Amazon CloudWatch pricing", "Configuring
scaling behavior for SQS event source mappings" and "Configure Lambda function memory" (AWS Lambda
Developer Guide), "Lambda quotas", "Amazon SQS quotas", "Quotas in Amazon DynamoDB", "DynamoDB item
sizes and formats".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from taskfleet.bill import (
    DYNAMODB_READ_BYTES,
    DYNAMODB_READ_USD,
    DYNAMODB_WRITE_BYTES,
    DYNAMODB_WRITE_USD,
    SQS_REQUEST_USD,
)

HOUR_S = 3_600.0
MONTH_S = 30 * 24 * HOUR_S

LAMBDA_GB_S_USD = 16.6667e-6
"""Price of one GB-second of an x86 function. On arm64, the default, it is a fifth less."""
LAMBDA_CALL_USD = 0.20e-6
"""Price of one call of a function."""
LAMBDA_CPU_MB = 1_769
"""Memory with which a function has one whole virtual CPU; with less it has a share of one."""
LAMBDA_AT_A_TIME = 1_000
"""Functions that an account may run at a time. A new account may begin with 10."""
POLLERS = 5
"""Receive calls that Lambda keeps open on a queue that is idle. Without a maximum concurrency it
may go down to 2; with one, which Taskfleet's event sources have, it does not."""
POLL_S = 20.0
"""Length of such a call on an empty queue, in seconds: SQS's longest."""

API_CALL_USD = 3.50e-6
"""Price of one call of a REST API."""

TABLE_WRITE_UNITS = 40_000
"""Default quota of an on-demand table, in write units a second."""
PARTITION_WRITE_UNITS = 1_000
"""Write units a second of one partition, and so of one item."""
QUEUE_IN_FLIGHT = 120_000
"""Messages of one standard queue that may be received and not yet deleted."""

LOG_GB_USD = 0.50
"""Price of a gigabyte of logs that CloudWatch takes in."""
ALARM_USD = 0.10
"""Price of an alarm a month."""
FREE_ALARMS = 10
FREE_DASHBOARDS = 3


def lambda_usd(seconds: float, memory_mb: int) -> float:
    """Returns the price of one call of a function. Lambda rounds its time up to milliseconds."""
    billed_s = math.ceil(seconds * 1e3 - 1e-6) / 1e3
    return LAMBDA_CALL_USD + billed_s * memory_mb / 1024 * LAMBDA_GB_S_USD


def lambda_s(waits_s: float, cpu_s: float, memory_mb: int) -> float:
    """Returns the seconds of one call of a function that waits for services for `waits_s` seconds
    and computes for `cpu_s` seconds of one whole CPU."""
    return waits_s + cpu_s * max(1.0, LAMBDA_CPU_MB / memory_mb)


def pollers_usd(queues: int, seconds: float = MONTH_S) -> float:
    """Returns what SQS charges for Lambda's receive calls on idle queues."""
    return queues * POLLERS * seconds / POLL_S * SQS_REQUEST_USD


def alarms_usd(alarms: int) -> float:
    """Returns the price of alarms a month. The first ten of an account are free for ever."""
    return max(0, alarms - FREE_ALARMS) * ALARM_USD


def write_units(item_bytes: int) -> int:
    """Returns the write units of one write of an item of this size: the larger of its sizes before
    and after. A write whose condition does not hold costs the same."""
    return max(1, math.ceil(item_bytes / DYNAMODB_WRITE_BYTES))


def read_units(item_bytes: int, *, consistent: bool = True) -> float:
    """Returns the read units of one read. A read that is not consistent costs half."""
    return max(1, math.ceil(item_bytes / DYNAMODB_READ_BYTES)) * (1.0 if consistent else 0.5)


def table_usd(writes: float, reads: float) -> float:
    """Returns the price of write and read units."""
    return writes * DYNAMODB_WRITE_USD + reads * DYNAMODB_READ_USD


def item_bytes(item: Mapping[str, Mapping[str, Any]]) -> int:
    """Returns the size of an item in wire form as DynamoDB meters it."""
    return sum(len(name.encode()) + _value_bytes(value) for name, value in item.items())


def _value_bytes(value: Mapping[str, Any]) -> int:
    ((kind, content),) = value.items()
    if kind == "S":
        return len(content.encode())
    if kind == "N":
        return _number_bytes(content)
    if kind == "B":
        return len(content)
    if kind == "NS":
        return sum(_number_bytes(number) for number in content)
    if kind == "SS":
        return sum(len(text.encode()) for text in content)
    if kind == "L":
        return 3 + sum(1 + _value_bytes(each) for each in content)
    if kind == "M":
        return 3 + sum(1 + len(k.encode()) + _value_bytes(v) for k, v in content.items())
    return 1  # a boolean or null


def _number_bytes(text: str) -> int:
    """Two significant digits take a byte, and the number one more, its sign another."""
    digits = text.lower().split("e")[0].replace(".", "").replace("-", "").strip("0")
    return math.ceil(len(digits) / 2) + 1 + text.startswith("-")
