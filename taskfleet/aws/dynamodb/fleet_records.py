"""`FleetRecords` in the table `Task_Monitor`. Owns the items `fleet/demand`, `fleet/state`,
`fleet/watched`, `fleet/history/<number>` and `worker/<worker_id>`.

`fleet/watched` is read only when `fleet/demand`, which every round reads, says that it has grown.

Each item of the history has the points of `HISTORY_S` seconds, as a set of texts, so that adding
one is one small write, however often it is repeated.

Workers are listed through the index of batches by client, under a client id that no real client can
have. A worker's report leaves the keys of that index as they are, so it costs one write. Without
these keys an item is not listed. It stays until it expires, so that a late report of the worker is
recognised.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.table import (
    ALWAYS,
    Item,
    Table,
    Update,
    number_of,
    wire_bool,
    wire_number,
    wire_text,
)
from taskfleet.aws.errors import ConditionFailed
from taskfleet.ports import Clock
from taskfleet.provisioner.points import Point
from taskfleet.provisioner.records import Demand, FleetState, KindDemand, Noted, WorkerRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TTL_DAYS = 1
"""Days after its last write when an item expires."""
DEMAND_KEY = "fleet/demand"
STATE_KEY = "fleet/state"
WATCHED_KEY = "fleet/watched"
HISTORY_S = 1_200
"""Seconds whose points share an item: 20 points of some 70 bytes. A larger item would cost more
write units for each point; smaller ones would make more than 100 in a day, which is what one call
reads."""
WORKERS_CLIENT = "\nworkers"
"""Client id of all workers' items. No token can hold it, because of its line break."""
WORKERS_A_PAGE = 1_000
"""Workers in one page of the list."""
MAX_WORKERS = 5_000
"""Number of workers at which the list ends."""
_KIND_ATTRIBUTE = re.compile(r"(?P<field>tasks|known|known_s)/(?P<kind>.+)")


class DynamoFleetRecords:
    """Implements `taskfleet.provisioner.ports.FleetRecords`. Safe for any number of threads."""

    def __init__(
        self, client: DynamoDBClient, table: str, *, clock: Clock, backoff: Backoff
    ) -> None:
        self._table = Table(client, table, clock, backoff, TTL_DAYS)

    # --- demand ---

    def add_demand(self, more: Demand) -> Noted | None:
        amounts: dict[str, float] = {"batches": more.batches, "messages": more.messages}
        if more.high:
            amounts["high"] = more.high
        amounts |= _amounts(more.kinds)
        return _noted(self._table.add("count demand in", DEMAND_KEY, amounts))

    def demand(self) -> Demand:
        item = self._table.read("read demand from", DEMAND_KEY) or {}
        return Demand(
            _count(item, "batches"),
            _count(item, "messages"),
            _kinds(item),
            _count(item, "high"),
            _count(item, "watched"),
        )

    def watch(self, batch_id: str, kinds: Mapping[str, KindDemand]) -> None:
        operation = f"ask to watch batch {batch_id} in"
        amounts = _amounts(kinds)
        self._table.add(
            operation, WATCHED_KEY, {f"{batch_id}/{name}": n for name, n in amounts.items()}
        )
        self._table.add(operation, DEMAND_KEY, {"watched": 1})

    def watched(self) -> dict[str, dict[str, KindDemand]]:
        return {batch_id: _kinds(item) for batch_id, item in self._watched_items().items()}

    def unwatch(self, batch_id: str) -> None:
        names = self._watched_items().get(batch_id)
        if names:
            self._table.remove(
                f"no longer watch batch {batch_id} in",
                WATCHED_KEY,
                [f"{batch_id}/{name}" for name in names],
            )

    def _watched_items(self) -> dict[str, dict[str, Any]]:
        """The attributes of each batch to watch, without its id in their names."""
        item = self._table.read("read the batches to watch from", WATCHED_KEY) or {}
        items: dict[str, dict[str, Any]] = {}
        for name, value in item.items():
            batch_id, slash, rest = name.partition("/")
            if slash:
                items.setdefault(batch_id, {})[rest] = value
        return items

    def note(self, noted: Noted) -> None:
        # Functions of an earlier version read the two numbers.
        self._table.update(
            "note the fleet in",
            Update(
                DEMAND_KEY,
                "SET #machines = :machines, #slots = :slots, #noted = :noted, #ttl = :ttl",
                ALWAYS,
                {
                    ":machines": wire_number(noted.machines),
                    ":slots": wire_number(noted.slots),
                    ":noted": wire_text(msgspec.json.encode(noted).decode()),
                },
            ),
        )

    def noted(self) -> Noted | None:
        return _noted(self._table.read("read what is noted of the fleet from", DEMAND_KEY) or {})

    # --- workers ---

    def report(self, worker: WorkerRecord) -> bool:
        item = self._record(worker, "SET", {})
        return item is None or "leave" in item

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        update = "SET #leave = :yes, #ttl = :ttl"
        self._update_each(
            worker_ids, update, "attribute_exists(#record)", {":yes": wire_bool(True)}
        )

    def sign_off(self, worker: WorkerRecord) -> None:
        self._record(worker, "SET #signed_off = :yes,", {":yes": wire_bool(True)})

    def forget(self, worker_ids: Sequence[str]) -> None:
        update = "SET #ttl = :ttl REMOVE #client_id, #created_at"
        self._update_each(worker_ids, update, "attribute_exists(#signed_off)", {})

    def workers(self) -> list[WorkerRecord]:
        operation = "list workers in"
        entries: list[tuple[float, str]] = []
        while True:
            page = self._table.list_newest(
                operation,
                WORKERS_CLIENT,
                limit=WORKERS_A_PAGE,
                before=entries[-1] if entries else None,
            )
            entries += page
            if len(page) < WORKERS_A_PAGE or len(entries) >= MAX_WORKERS:
                break
        items = self._table.read_many(operation, [key for _, key in entries])
        return [
            msgspec.json.decode(item["record"]["S"], type=WorkerRecord)
            for _, key in entries
            # The index may be older than the item.
            if (item := items.get(key)) is not None and "client_id" in item
        ]

    def _record(self, worker: WorkerRecord, update: str, values: Mapping[str, Any]) -> Item | None:
        """Record a report, and what else `update` sets. Returns the item; None when the worker has
        signed off already, and this report was still on its way."""
        write = Update(
            _key(worker.worker_id),
            f"{update} #record = :record, #client_id = :workers, #created_at = :started, "
            "#ttl = :ttl",
            "attribute_not_exists(#signed_off)",
            {
                ":record": wire_text(msgspec.json.encode(worker).decode()),
                ":workers": wire_text(WORKERS_CLIENT),
                ":started": wire_number(worker.started_at),
                **values,
            },
        )
        try:
            return self._table.update(f"record worker {worker.worker_id} in", write, read_back=True)
        except ConditionFailed:
            return None

    def _update_each(
        self, worker_ids: Sequence[str], update: str, condition: str, values: Mapping[str, Any]
    ) -> None:
        """Update the item of each of the workers for which the condition holds."""
        for worker_id in worker_ids:
            write = Update(_key(worker_id), update, condition, values)
            with contextlib.suppress(ConditionFailed):
                self._table.update(f"record worker {worker_id} in", write)

    # --- history ---

    def add_point(self, point: Point) -> None:
        text = msgspec.json.encode(point).decode()
        write = Update(
            _history_key(_period(point.at)),
            "SET #ttl = :ttl ADD #points :point",
            ALWAYS,
            {":point": {"SS": [text]}},
        )
        self._table.update("add to the fleet's history in", write)

    def points(self, since: float) -> list[Point]:
        periods = range(_period(since), _period(self._table.now()) + 1)
        items = self._table.read_many(
            "read the fleet's history from", [_history_key(period) for period in periods]
        )
        found = [
            msgspec.json.decode(text, type=Point)
            for item in items.values()
            for text in item["points"]["SS"]
        ]
        return sorted((p for p in found if p.at >= since), key=lambda p: p.at)

    # --- state ---

    def state(self) -> FleetState:
        item = self._table.read("read the fleet's state from", STATE_KEY)
        if item is None:
            return FleetState()
        return msgspec.json.decode(item["state"]["S"], type=FleetState)

    def save_state(self, state: FleetState) -> bool:
        next_state = msgspec.structs.replace(state, revision=state.revision + 1)
        encoded = wire_text(msgspec.json.encode(next_state).decode())
        try:
            self._table.update(
                "record the fleet's state in",
                Update(
                    STATE_KEY,
                    "SET #state = :state, #revision = :next_revision, #ttl = :ttl",
                    "#revision = :revision"
                    " OR (attribute_not_exists(#revision) AND :revision = :zero)",
                    {
                        ":state": encoded,
                        ":revision": wire_number(state.revision),
                        ":next_revision": wire_number(next_state.revision),
                        ":zero": wire_number(0),
                    },
                ),
            )
        except ConditionFailed as failure:
            # The same state is recorded if an earlier request succeeded and its reply was lost.
            return failure.item is not None and failure.item.get("state") == encoded
        return True


def _noted(item: Item) -> Noted | None:
    """Returns what the item of demand has of the fleet; an earlier version noted two numbers."""
    if "noted" in item:
        return msgspec.json.decode(item["noted"]["S"], type=Noted)
    if "machines" not in item:
        return None
    slots = _count(item, "slots")
    return Noted(_count(item, "machines"), slots, ready=slots)


def _amounts(kinds: Mapping[str, KindDemand]) -> dict[str, float]:
    """Returns the number attributes that hold the totals of these kinds."""
    amounts: dict[str, float] = {}
    for name, kind in kinds.items():
        amounts |= {f"tasks/{name}": kind.tasks}
        if kind.known:
            amounts |= {f"known/{name}": kind.known, f"known_s/{name}": kind.known_s}
    return amounts


def _kinds(item: Item) -> dict[str, KindDemand]:
    """Returns the totals by kind in such attributes; others are ignored."""
    kinds: dict[str, dict[str, float]] = {}
    for name, value in item.items():
        if match := _KIND_ATTRIBUTE.fullmatch(name):
            kinds.setdefault(match["kind"], {})[match["field"]] = float(value["N"])
    return {
        name: KindDemand(
            int(kind.get("tasks", 0)), int(kind.get("known", 0)), kind.get("known_s", 0.0)
        )
        for name, kind in kinds.items()
    }


def _key(worker_id: str) -> str:
    return f"worker/{worker_id}"


def _period(at: float) -> int:
    return int(at // HISTORY_S)


def _history_key(period: int) -> str:
    return f"fleet/history/{period}"


def _count(item: Item, name: str) -> int:
    """Returns the attribute `name` as an integer, 0 if the item has none."""
    return int(number_of(item, name)) if name in item else 0
