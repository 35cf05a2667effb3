"""The points at which processes crash: between two effects of a process, seen on the wire. Owns the
names of the points, which crashes there are at a point, and their triggers in the hop.

An effect is a request to AWS that changes something, or that takes messages. A crash before an
effect is one after everything that came earlier; a crash after it loses the answer. Reads have no
effect, so a process that dies at one is no new case. A process that is stopped at a read goes on
with what it knew, so that is one.
"""

from __future__ import annotations

import itertools
import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from tests.support.hop import Act, Call, Fault

KILL, TERM, STOP = (signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP)
BEFORE, AFTER = "before", "after"
_READS = ("Get", "BatchGet", "Query", "Head", "Describe", "List", "Scan")
_NO_CASE = ("GetQueueUrl", "GetQueueAttributes")
"""Reads of names and counts. Nothing rests on them."""
_NAMES = {
    "#counted": "counts",
    "#enqueued": "enqueued",
    "#closed = :true": "closes",
    "#cancelled_at": "cancels",
    "#started_at": "started",
    "#followers": "follower",
    "#upload_lines": "checked",
    "#total": "grows",
    "#attempt = if_not_exists": "claims",
}
"""What an update of the table does, by a part of its expression; the first that fits counts."""


def point_of(call: Call) -> str:
    """Returns the name of the point of a request, such as `UpdateItem bundle claims`: the same for
    all requests that do the same."""
    given = call.given
    if call.service == "sqs":
        queue = str(given.get("QueueUrl") or given.get("QueueName")).rpartition("/")[2]
        return f"{call.operation} {queue}"
    if call.service == "dynamodb":
        return " ".join(filter(None, (call.operation, *_items(given))))
    if call.service == "s3":
        path = call.target.partition(" ")[2].partition("?")[0]
        _, _bucket, *key = path.split("/", 3)
        return " ".join([call.operation, *key[:1]])
    return call.operation


def _items(given: dict[str, object] | object) -> Iterator[str]:
    """Yields the words for the items that a request to the table names, and for what it does."""
    assert isinstance(given, dict)
    if "TransactItems" in given:
        for each in given["TransactItems"]:
            for request in each.values():
                yield from _items(request)
        return
    if "RequestItems" in given:
        (request,) = given["RequestItems"].values()
        yield _item(request["Keys"][0])
        return
    if "IndexName" in given:
        yield given["IndexName"]
    key = given.get("Key") or given.get("Item")
    if key:
        yield _item(key)
    expression = given.get("UpdateExpression")
    if expression:
        yield _deed(expression, given)


def _item(key: dict[str, dict[str, str]]) -> str:
    name = key["Job_ID"]["S"]
    prefix, slash, rest = name.partition("/")
    if slash:
        known = ("kind", "worker", "fleet", "schedule", "result")
        named = f"{prefix} {rest}" if prefix == "fleet" and "/" not in rest else prefix
        return named if prefix in known else "page"
    return "bundle" if ":" in name else "batch"


def _deed(expression: str, given: dict[str, dict[str, dict[str, str]]]) -> str:
    for part, word in _NAMES.items():
        if part in expression:
            return word
    values = given.get("ExpressionAttributeValues", {})
    if ":status" in values:  # of a bundle
        return values[":status"]["S"].lower()
    changed = [word.strip("#,") for word in expression.split() if word.startswith("#")]
    return next((name for name in changed if name not in ("ttl", "n0")), "")


def is_read(point: str) -> bool:
    """Returns whether the request of this point changes nothing."""
    return point.startswith(_READS)


@dataclass(frozen=True)
class Cell:
    """One crash: a signal to a process at a point.

    role: that of the process.
    point: as `point_of` names it.
    number: of the requests of this point from the trigger on, counted from 1.
    """

    role: str
    point: str
    side: str
    signal: signal.Signals
    number: int = 1

    def __str__(self) -> str:
        nth = f" ({self.number})" if self.number > 1 else ""
        return f"{self.role}: {self.signal.name} {self.side} {self.point}{nth}"


def cells(role: str, points: Iterable[tuple[str, int]]) -> Iterator[Cell]:
    """Yields the crashes of a role at these points, each with its number."""
    for point, number in points:
        if point.startswith(_NO_CASE):
            continue
        if is_read(point):
            yield Cell(role, point, AFTER, STOP, number)
            continue
        # Before a receive nothing has happened since the effect before it.
        sides = (AFTER,) if point.startswith("ReceiveMessage") else (BEFORE, AFTER)
        for side, number_of_signal in itertools.product(sides, (KILL, TERM, STOP)):
            yield Cell(role, point, side, number_of_signal, number)


@dataclass
class Trigger:
    """Takes the step `act` once, in the process named `sender`, when the cell's request comes.

    fired: set when the step begins.
    over: set when it has ended.
    """

    cell: Cell
    sender: str
    act: Callable[[], None]
    fired: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    _seen: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def decide(self, call: Call) -> Fault | None:
        """Returns the fault of a request, if it is the cell's."""
        if call.sender != self.sender or point_of(call) != self.cell.point or self.fired.is_set():
            return None
        if call.operation == "ReceiveMessage":
            return Act(after=self._step, applies=self._brings)
        if not self._is_its_turn():
            return None
        if self.cell.side == BEFORE:
            return Act(before=self._step, passes_on=self.cell.signal is not KILL)
        return Act(after=self._step)

    def _brings(self, answer: bytes) -> bool:
        """Returns whether a receive brought messages, and whether it is the cell's."""
        return bool(_body(answer).get("Messages")) and self._is_its_turn()

    def _is_its_turn(self) -> bool:
        with self._lock:
            self._seen += 1
            if self._seen != self.cell.number or self.fired.is_set():
                return False
            self.fired.set()
            return True

    def _step(self) -> None:
        try:
            self.act()
        finally:
            self.over.set()


@dataclass
class Triggers:
    """The triggers that wait, and the points that were seen. Its `decide` is that of the hops."""

    armed: dict[str, Trigger] = field(default_factory=dict)
    seen: dict[str, list[str]] = field(default_factory=dict)

    def decide(self, call: Call) -> Fault | None:
        self.seen.setdefault(call.sender, []).append(point_of(call))
        trigger = self.armed.get(call.sender)
        return trigger.decide(call) if trigger is not None else None


def _body(answer: bytes) -> dict[str, object]:
    _, _, body = answer.partition(b"\r\n\r\n")
    try:
        found = json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
