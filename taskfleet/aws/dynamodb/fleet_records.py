"""`FleetRecords` in the table `Task_Monitor`. Owns the items `fleet/demand`, `fleet/state` and
`worker/<worker_id>`.

Workers are found through the index of batches by client, under a client that can have no token;
a beat changes none of the index's keys, so it costs one write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.dynamodb.table import Table, Update, number, text
from taskfleet.aws.errors import ConditionFailed
from taskfleet.ports import Clock
from taskfleet.provisioner.records import Demand, FleetState, KindDemand, WorkerRecord

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TTL_DAYS = 1
DEMAND, STATE = "fleet/demand", "fleet/state"
WORKERS = "\nworkers"
MAX_WORKERS = 5_000
_KIND = re.compile(r"(?P<field>tasks|known|known_s)/(?P<kind>.+)")


class DynamoFleetRecords:
    """For any number of threads."""

    def __init__(
        self, client: DynamoDBClient, table: str, *, clock: Clock, backoff: Backoff
    ) -> None:
        self._table = Table(client, table, clock, backoff, TTL_DAYS)

    # --- demand ---

    def add_demand(self, more: Demand) -> int | None:
        adds: dict[str, float] = {"batches": more.batches, "messages": more.messages}
        for name, kind in more.kinds.items():
            adds |= {f"tasks/{name}": kind.tasks}
            if kind.known:
                adds |= {f"known/{name}": kind.known, f"known_s/{name}": kind.known_s}
        item = self._table.add("count demand in", DEMAND, adds)
        return int(float(item["machines"]["N"])) if "machines" in item else None

    def demand(self) -> Demand:
        item = self._table.read("read demand from", DEMAND) or {}
        kinds: dict[str, dict[str, float]] = {}
        for name, value in item.items():
            if found := _KIND.fullmatch(name):
                kinds.setdefault(found["kind"], {})[found["field"]] = float(value["N"])
        return Demand(
            _count(item, "batches"),
            _count(item, "messages"),
            {
                name: KindDemand(
                    int(kind.get("tasks", 0)), int(kind.get("known", 0)), kind.get("known_s", 0.0)
                )
                for name, kind in kinds.items()
            },
        )

    def note_machines(self, count: int, slots: int) -> None:
        self._table.update(
            "note machines in",
            Update(
                DEMAND,
                "SET #machines = :count, #slots = :slots, #ttl = :ttl",
                "attribute_not_exists(#machines) OR #machines <> :never",
                {":count": number(count), ":slots": number(slots), ":never": number(-1)},
            ),
        )

    def slots(self) -> int | None:
        item = self._table.read("read slots from", DEMAND) or {}
        return _count(item, "slots") if "slots" in item else None

    # --- workers ---

    def report(self, worker: WorkerRecord) -> bool:
        write = Update(
            _key(worker.worker_id),
            "SET #record = :record, #client_id = :workers, #created_at = :started, #ttl = :ttl",
            "attribute_not_exists(#signed_off)",
            {
                ":record": text(msgspec.json.encode(worker).decode()),
                ":workers": text(WORKERS),
                ":started": number(worker.started_at),
            },
        )
        try:
            item = self._table.update(f"record worker {worker.worker_id} in", write, read_back=True)
        except ConditionFailed:
            return True  # a last beat that was on its way when the worker signed off
        return "leave" in item

    def ask_to_leave(self, worker_ids: Sequence[str]) -> None:
        for worker_id in worker_ids:
            self._if_there(worker_id, "SET #leave = :yes, #ttl = :ttl", {":yes": {"BOOL": True}})

    def sign_off(self, worker_id: str) -> None:
        # Out of the index; the item itself goes with its time to live.
        update = "SET #signed_off = :yes, #ttl = :ttl REMOVE #client_id, #created_at"
        self._if_there(worker_id, update, {":yes": {"BOOL": True}})

    def workers(self) -> list[WorkerRecord]:
        operation = "list workers in"
        places: list[tuple[float, str]] = []
        while True:
            before = places[-1] if places else None
            found = self._table.newest(operation, WORKERS, limit=1_000, before=before)
            places += found
            if len(found) < 1_000 or len(places) >= MAX_WORKERS:
                break
        items = self._table.read_many(operation, [key for _, key in places])
        return [
            msgspec.json.decode(item["record"]["S"], type=WorkerRecord)
            for _, key in places
            if (item := items.get(key)) is not None and "signed_off" not in item
        ]

    def _if_there(self, worker_id: str, update: str, values: Mapping[str, Any]) -> None:
        condition = "attribute_exists(#record)"
        try:
            self._table.update(
                f"record worker {worker_id} in", Update(_key(worker_id), update, condition, values)
            )
        except ConditionFailed:
            return  # it has never been there

    # --- state ---

    def state(self) -> FleetState:
        item = self._table.read("read the fleet's state from", STATE)
        if item is None:
            return FleetState()
        return msgspec.json.decode(item["state"]["S"], type=FleetState)

    def save_state(self, state: FleetState) -> bool:
        following = msgspec.structs.replace(state, revision=state.revision + 1)
        encoded = text(msgspec.json.encode(following).decode())
        try:
            self._table.update(
                "record the fleet's state in",
                Update(
                    STATE,
                    "SET #state = :state, #revision = :following, #ttl = :ttl",
                    "#revision = :revision"
                    " OR (attribute_not_exists(#revision) AND :revision = :zero)",
                    {
                        ":state": encoded,
                        ":revision": number(state.revision),
                        ":following": number(following.revision),
                        ":zero": number(0),
                    },
                ),
            )
        except ConditionFailed as failure:
            # My own write, whose reply was lost, is no one else's.
            return failure.item is not None and failure.item.get("state") == encoded
        return True


def _key(worker_id: str) -> str:
    return f"worker/{worker_id}"


def _count(item: Mapping[str, Any], name: str) -> int:
    return int(float(item[name]["N"])) if name in item else 0
