"""The cells of the faulty AWS: which faults AWS can make of which call, and which call meets which
fault. Owns these; not the work during which they happen (`tests.faults.aws.work`).

A cell is a row (`tests.faults.aws.rows`) and a fault. Cells that do not exist:

- A transaction conflict exists for DynamoDB's writes only. Nothing here makes transactions, but
  another program on the table could ("TransactionConflictException", DynamoDB API Reference).
- A stale read exists for a read of an index, for EC2's lists of machines and for reads without
  `ConsistentRead`, of which there are none. S3 is strongly consistent.
- A stale count exists for a queue's numbers only.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.faults.aws.rows import Row, row_of
from tests.support.awswire import Refuse
from tests.support.hop import Call, Delay, Fault, Hang, Lose, Reset, Stale

HANG_S = 11.0
"""Seconds without an answer: longer than a lease, and than the read time-out of all clients but
that of SQS, whose long polls need 30 s; for it the connection breaks then."""
DELAY_S = 5.0
_CODES: Mapping[str, Mapping[str, tuple[int, str]]] = {
    "dynamodb": {
        "throttle": (400, "ProvisionedThroughputExceededException"),
        "500": (500, "InternalServerError"),
        "503": (503, "ServiceUnavailable"),
        "conflict": (400, "TransactionConflictException"),
        "expired": (400, "ExpiredTokenException"),
    },
    "sqs": {
        "throttle": (400, "RequestThrottled"),
        "500": (500, "InternalFailure"),
        "503": (503, "ServiceUnavailable"),
        "expired": (403, "ExpiredToken"),
    },
    "s3": {
        "throttle": (503, "SlowDown"),
        "500": (500, "InternalError"),
        "503": (503, "ServiceUnavailable"),
        "expired": (400, "ExpiredToken"),
    },
    # EC2 has a code of its own for expired credentials ("Error codes for the Amazon EC2 API").
    "ec2": {
        "throttle": (503, "RequestLimitExceeded"),
        "500": (500, "InternalError"),
        "503": (503, "Unavailable"),
        "expired": (400, "RequestExpired"),
    },
    "lambda": {
        "throttle": (429, "TooManyRequestsException"),
        "500": (500, "ServiceException"),
        "503": (503, "ServiceUnavailableException"),
        "expired": (403, "ExpiredTokenException"),
    },
    "ssm": {
        "throttle": (400, "ThrottlingException"),
        "500": (500, "InternalServerError"),
        "503": (503, "ServiceUnavailable"),
        "expired": (400, "ExpiredTokenException"),
    },
    "events": {
        "throttle": (400, "ThrottlingException"),
        "500": (500, "InternalException"),
        "503": (503, "ServiceUnavailable"),
        "expired": (400, "ExpiredTokenException"),
    },
}
_WRITES = ("PutItem", "UpdateItem", "DeleteItem")
FAULTS = (
    *("throttle", "500", "503", "conflict", "reset", "lost reply"),
    *("+5 s", "expired", "stale read", "stale count", "hang"),
)
"""Names of the faults, which are the columns of the table."""
_TIMES: Mapping[str, tuple[int, ...]] = {
    "+5 s": (1,),
    "hang": (1,),
    "lost reply": (1, 4),
    "expired": (1,),  # the SDK does not repeat it
    "conflict": (1,),  # nor this
    "stale read": (6,),
    "stale count": (6,),
}
_SDK_TRIES = 4
"""Requests that the SDK makes of one call (`taskfleet.aws.session`). If all meet the fault, the
error reaches the program; if one does, the retry goes through, or meets the row's next fault."""
A_ROUND = 9
"""Most faults of a row in one round."""


def exists(call: Call, name: str) -> bool:
    """Returns whether AWS can make the fault of this name of this request."""
    if name == "conflict":
        return call.service == "dynamodb" and call.operation in _WRITES
    if name == "stale count":
        return call.operation == "GetQueueAttributes" and b"ApproximateNumber" in call.body
    if name == "stale read":
        if call.service == "dynamodb":
            is_read = call.operation in ("Query", "GetItem", "BatchGetItem")
            return is_read and b'"ConsistentRead": true' not in call.body
        return call.operation == "DescribeInstances"
    return True


def fault(name: str, service: str) -> Fault:
    """Returns the fault of this name, as the service makes it."""
    match name:
        case "reset":
            return Reset()
        case "lost reply":
            return Lose()
        case "+5 s":
            return Delay(DELAY_S)
        case "hang":
            return Hang(HANG_S)
        case "stale read" | "stale count":
            return Stale()
    return Refuse(*_CODES[service][name])


def _times(row: Row, name: str, *, dense: bool) -> tuple[int, ...]:
    """Returns how many requests meet the fault, of the row's first call, and of each after it."""
    often = 1 if dense or zlib.crc32(f"{row} {name}".encode()) % 2 else _SDK_TRIES
    return _TIMES.get(name, (often,))


@dataclass
class _Calls:
    """The calls of a row that meet one fault. Requests of one call are alike, byte by byte."""

    times: tuple[int, ...]
    seen: int = 0
    left: dict[tuple[str, bytes], int] = field(default_factory=dict)

    def strikes(self, key: tuple[str, bytes]) -> bool:
        """Returns whether a request with this target and body meets the fault."""
        if key not in self.left:
            self.left[key] = self.times[self.seen] if self.seen < len(self.times) else 0
            self.seen += 1
        if self.left[key] == 0:
            del self.left[key]  # this one goes through; the next like it is another call
            return False
        self.left[key] -= 1
        return True

    @property
    def over(self) -> bool:
        """Whether no further request meets the fault."""
        return self.seen >= len(self.times) and not any(self.left.values())


@dataclass
class Plan:
    """Decides which request meets which fault; a `decide` of the hop. A row has one fault after the
    other.

    only: the cells to make, None for all that exist.
    fired: how often the fault of a cell took place.
    cells: the names of the faults that exist for a row.
    seen: how many rounds had a call of a row.
    """

    only: Mapping[tuple[str, str, str], str] | None = None
    fired: Counter[tuple[Row, str]] = field(default_factory=Counter)
    cells: dict[Row, tuple[str, ...]] = field(default_factory=dict)
    seen: Counter[Row] = field(default_factory=Counter)
    _hangs: bool = False
    _dense: bool = False
    _now: dict[Row, list[str]] = field(default_factory=dict)
    _calls: dict[Row, _Calls] = field(default_factory=dict)
    _made: dict[int, tuple[Row, str, Fault]] = field(default_factory=dict)
    _taken: int = 0

    def __call__(self, call: Call) -> Fault | None:
        row = row_of(call)
        if row is None:
            return None
        if row not in self.cells:
            self.cells[row] = tuple(name for name in FAULTS if exists(call, name))
        if row not in self._now:
            self.seen[row] += 1
            self._now[row] = self._names(row)
        names = self._now[row]
        if not names:
            return None
        name = names[0]
        calls = self._calls.setdefault(row, _Calls(_times(row, name, dense=self._dense)))
        key = ("", b"") if name.startswith("stale") else (call.target, call.body)
        if not exists(call, name) or not calls.strikes(key):
            return None
        if calls.over:
            del names[0], self._calls[row]
        made = fault(name, row.service)
        self._made[id(made)] = row, name, made
        return made

    def _names(self, row: Row) -> list[str]:
        """Returns the faults of this round for a row: some that have not fired yet. Rows begin with
        different ones, so that a round has all of them."""
        if self.only is not None:
            name = self.only.get((row.sender, row.operation, row.about))
            return [] if name is None else [name]
        names = self.cells[row]
        start = zlib.crc32(str(row).encode()) % len(names)
        turned = names[start:] + names[:start]
        left = [n for n in turned if not self.fired[row, n] and (n == "hang") == self._hangs]
        return left[:A_ROUND]

    def begin(self, *, hangs: bool, dense: bool = False) -> None:
        """Begin a round: with hangs or all other faults; dense if no fault is to take more than one
        request, so that rare calls meet several."""
        self._hangs, self._dense = hangs, dense
        self._now, self._calls = {}, {}

    def take(self, fired: list[tuple[Call, Fault]]) -> int:
        """Count what has fired since the last call. Returns how many."""
        new = fired[self._taken :]
        self._taken += len(new)
        for _, each in new:
            row, name, _ = self._made[id(each)]
            self.fired[row, name] += 1
        return len(new)

    def missing(self, rounds: int, *, hangs: bool) -> list[tuple[Row, str]]:
        """Returns the cells that have not fired, hangs or all others, of rows that most rounds
        have. The other rows are of calls that only follow faults, such as taking back a claim."""
        return [
            (row, name)
            for row, names in sorted(self.cells.items())
            for name in names
            if (name == "hang") == hangs and not self.fired[row, name]
            if self.seen[row] > rounds / 2
        ]

    def rows(self) -> list[dict[str, Any]]:
        """Returns the table: how often each fault fired; `-` where it does not exist."""
        return [
            {
                "process": row.sender,
                "operation": row.operation,
                "of": row.about,
                **{n: str(self.fired[row, n]) if n in names else "-" for n in FAULTS},
            }
            for row, names in sorted(self.cells.items())
        ]
