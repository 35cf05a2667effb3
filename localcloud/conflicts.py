"""DynamoDB's rule of conflicts, which no emulator has: two requests meet on an item, at least one
of them a transaction, and one is refused. Owns the rule and the form of the refusal; not the
transport (`localcloud.strict`; the tests have another one for moto).

Source: "Transaction conflict handling in DynamoDB", Amazon DynamoDB Developer Guide. A write meets
a `TransactWriteItems` in flight: TransactionConflictException. A `TransactWriteItems` meets another
one, or a `TransactGetItems` meets any write: TransactionCanceledException. All other reads pass.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

HOLD_S = 0.01
"""Least seconds for which a transaction's items count as in flight. DynamoDB takes about so long
for a transaction, an emulator far less, so that two would hardly ever meet."""

KeyNames = Callable[[str], Sequence[str]]
"""Returns the names of the key attributes of a table; none for an unknown table."""
Item = tuple[str, str]
"""A table's name and an item's key, as JSON."""


@dataclass(frozen=True)
class Request:
    """What a request to DynamoDB touches.

    transaction: whether it is a transaction.
    writes: whether it writes.
    items: those that it touches, in its own order.
    """

    transaction: bool
    writes: bool
    items: tuple[Item, ...]


def read_request(
    operation: str, body: Mapping[str, Any], key_names: KeyNames, region: str = ""
) -> Request | None:
    """Returns what a request touches; None for a plain read and for all other operations.

    operation: such as `PutItem`.
    body: the request's parameters, in DynamoDB's JSON.
    region: distinguishes tables of one name in two regions.
    """

    def item(given: Mapping[str, Any], table: str) -> Item:
        names = key_names(table)
        key = given.get("Key") or {n: v for n, v in given.get("Item", {}).items() if n in names}
        return f"{region}/{table}", json.dumps(key, sort_keys=True)

    if operation in ("PutItem", "UpdateItem", "DeleteItem"):
        return Request(False, True, (item(body, body["TableName"]),))
    if operation == "BatchWriteItem":
        given = (
            item(next(iter(write.values())), table)
            for table, writes in body["RequestItems"].items()
            for write in writes
        )
        return Request(False, True, tuple(given))
    if operation in ("TransactWriteItems", "TransactGetItems"):
        actions = [next(iter(action.values())) for action in body["TransactItems"]]
        touched = tuple(item(action, action["TableName"]) for action in actions)
        return Request(True, operation == "TransactWriteItems", touched)
    return None


@dataclass(frozen=True)
class Refusal:
    """DynamoDB's refusal of a request, with the status 400.

    reasons: `CancellationReasons` of a cancelled transaction, one for each of its items; none for a
        plain write.
    """

    code: str
    message: str
    reasons: tuple[Mapping[str, str], ...] = ()

    @property
    def body(self) -> dict[str, Any]:
        """The body of the answer in DynamoDB's JSON."""
        kind = f"com.amazonaws.dynamodb.v20120810#{self.code}"
        if not self.reasons:
            return {"__type": kind, "message": self.message}
        return {"__type": kind, "Message": self.message, "CancellationReasons": [*self.reasons]}


class Conflicts:
    """The requests in flight of one account. Safe for any number of threads."""

    def __init__(self) -> None:
        self._transactions: Counter[Item] = Counter()
        self._writes: Counter[Item] = Counter()
        self._lock = threading.Lock()

    def enter(self, request: Request) -> Refusal | None:
        """Returns why the request is refused. Otherwise it is in flight until `leave`."""
        with self._lock:
            against = [self._transactions]
            if not request.writes:
                against.append(self._writes)
            met = [any(flying[item] for flying in against) for item in request.items]
            if any(met):
                return _refusal(request, met)
            self._flying(request).update(request.items)
            return None

    def leave(self, request: Request) -> None:
        """Ends what `enter` began."""
        with self._lock:
            flying = self._flying(request)
            flying.subtract(request.items)
            for item in request.items:
                if not flying[item]:
                    del flying[item]

    def _flying(self, request: Request) -> Counter[Item]:
        if not request.writes:
            return Counter()  # a transaction that only reads stands in nobody's way
        return self._transactions if request.transaction else self._writes


def _refusal(request: Request, met: Iterable[bool]) -> Refusal:
    ongoing = "Transaction is ongoing for the item"
    if not request.transaction:
        return Refusal("TransactionConflictException", ongoing)
    reasons = tuple(
        {"Code": "TransactionConflict", "Message": ongoing} if hit else {"Code": "None"}
        for hit in met
    )
    codes = ", ".join(reason["Code"] for reason in reasons)
    return Refusal(
        "TransactionCanceledException",
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]",
        reasons,
    )
