"""The table `Task_Monitor` as DynamoDB sees it: conditional writes and consistent reads of items
in wire form (`{"N": "1"}`), which spares the cost of a serializer. Owns expressions, retries and
expiry; what the items mean stands in `bundles` and `batches`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.errors import translated
from taskfleet.errors import TransientError
from taskfleet.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = Mapping[str, Any]
"""An item in wire form."""

READ_MAX_KEYS = 100
_NAME = re.compile(r"#(\w+)")


def number(value: float) -> dict[str, str]:
    return {"N": repr(value)}


def text(value: str) -> dict[str, str]:
    return {"S": value}


def read_number(item: Item, name: str) -> float:
    return float(item[name]["N"])


class Update(msgspec.Struct, frozen=True):
    """A conditional write of one item. In the expressions `#name` stands for the attribute `name`,
    since so many names are reserved words, and `:name` for a value in `values`. Each sets the
    item's expiry, as `#ttl = :ttl`."""

    key: str
    update: str
    condition: str
    values: Mapping[str, Any]


class Table:
    """`ttl_days`: how long an item lives after its last write."""

    def __init__(
        self, client: DynamoDBClient, name: str, clock: Clock, backoff: Backoff, ttl_days: int
    ) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._backoff = backoff
        self._ttl_s = ttl_days * 86_400

    def now(self) -> float:
        return self._clock.now()

    def update(self, operation: str, write: Update, *, read_back: bool = False) -> Item:
        """Make one write; `operation` says in an error what could not be done. ConditionFailed
        carries the item that stands there. Returns the new item with `read_back`."""
        with self._translated(operation):
            response = self._client.update_item(
                **self._request(write),
                ReturnValues="ALL_NEW" if read_back else "NONE",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )
        return response.get("Attributes", {})

    def add(self, operation: str, key: str, amounts: Mapping[str, float]) -> Item:
        """Add to numbers of an item, which is made when it is not there. Returns the new item.
        At least once: a write that the SDK sent twice, because its first reply was lost, counts
        twice."""
        names = {f"#n{place}": name for place, name in enumerate(amounts)}
        values = {f":n{place}": number(value) for place, value in enumerate(amounts.values())}
        sums = ", ".join(f"#n{place} :n{place}" for place in range(len(amounts)))
        with self._translated(operation):
            response = self._client.update_item(
                TableName=self._name,
                Key={"Job_ID": text(key)},
                UpdateExpression=f"SET #ttl = :ttl ADD {sums}",
                ExpressionAttributeNames={**names, "#ttl": "ttl"},
                ExpressionAttributeValues={**values, ":ttl": self._expiry()},
                ReturnValues="ALL_NEW",
            )
        return response.get("Attributes", {})

    def update_together(self, operation: str, writes: Sequence[Update]) -> None:
        """Make all writes or none. TransactionCancelled carries the reasons."""
        with self._translated(operation):
            self._client.transact_write_items(
                TransactItems=[{"Update": self._request(write)} for write in writes]
            )

    def create(self, operation: str, item: Item) -> None:
        """Put an item that is not there yet. ConditionFailed carries the one that is."""
        with self._translated(operation):
            self._client.put_item(
                TableName=self._name,
                Item={**item, "ttl": self._expiry()},
                ConditionExpression="attribute_not_exists(Job_ID)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            )

    def read(self, operation: str, key: str) -> Item | None:
        with self._translated(operation):
            return self._client.get_item(
                TableName=self._name, Key={"Job_ID": text(key)}, ConsistentRead=True
            ).get("Item")

    def read_many(self, operation: str, keys: Iterable[str]) -> dict[str, Item]:
        """Those that exist, by key."""
        found: dict[str, Item] = {}
        wanted = list(dict.fromkeys(keys))
        for start in range(0, len(wanted), READ_MAX_KEYS):
            found |= self._read_chunk(operation, wanted[start : start + READ_MAX_KEYS])
        return found

    def _read_chunk(self, operation: str, keys: list[str]) -> dict[str, Item]:
        """DynamoDB leaves keys for another call when it throttles, and at 16 MB."""
        found: dict[str, Item] = {}
        left: Any = {
            self._name: {"Keys": [{"Job_ID": text(key)} for key in keys], "ConsistentRead": True}
        }
        progress = True
        while progress:
            progress = False
            for _ in self._backoff.tries():
                with self._translated(operation):
                    response = self._client.batch_get_item(RequestItems=left)
                items = response.get("Responses", {}).get(self._name, [])
                found |= {item["Job_ID"]["S"]: item for item in items}
                left = response.get("UnprocessedKeys")
                if not left:
                    return found
                if items:
                    progress = True
                    break
        raise TransientError(f"could not {operation} table {self._name}: throttled; try again")

    def newest(
        self, operation: str, client_id: str, *, limit: int, before: tuple[float, str] | None
    ) -> list[tuple[float, str]]:
        """`created_at` and key of up to `limit` of one client's items, newest first, those after
        `before`."""
        request: Any = {}
        if before is not None:
            request["ExclusiveStartKey"] = {
                "Job_ID": text(before[1]),
                "client_id": text(client_id),
                "created_at": number(before[0]),
            }
        with self._translated(operation):
            response = self._client.query(
                TableName=self._name,
                IndexName="batches_by_client",
                KeyConditionExpression="client_id = :client_id",
                ExpressionAttributeValues={":client_id": text(client_id)},
                ScanIndexForward=False,
                Limit=limit,
                **request,
            )
        return [
            (read_number(item, "created_at"), item["Job_ID"]["S"]) for item in response["Items"]
        ]

    def _request(self, write: Update) -> Any:
        return {
            "TableName": self._name,
            "Key": {"Job_ID": text(write.key)},
            "UpdateExpression": write.update,
            "ConditionExpression": write.condition,
            "ExpressionAttributeNames": _names(write.update, write.condition),
            "ExpressionAttributeValues": {**write.values, ":ttl": self._expiry()},
        }

    def _expiry(self) -> dict[str, str]:
        return number(int(self._clock.now()) + self._ttl_s)

    def _translated(self, operation: str) -> Any:
        return translated(operation, f"table {self._name}")


@functools.lru_cache(maxsize=256)
def _names(update: str, condition: str) -> Mapping[str, str]:
    return {f"#{name}": name for name in _NAME.findall(f"{update} {condition}")}
