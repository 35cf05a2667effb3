"""Access to the table `Task_Monitor`: conditional writes and consistent reads of items. Owns
expressions, retries and expiry; not the content of the items, which stands in the other modules of
`taskfleet.aws.dynamodb`.

Items and values are in wire form, such as `{"N": "1"}`, to save the cost of boto3's serializer.
Sources: "Update expressions", "Condition and filter expressions" and "Using time to live (TTL) in
DynamoDB", Amazon DynamoDB Developer Guide; "AttributeValue", "BatchGetItem" and "UpdateItem",
Amazon DynamoDB API Reference.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from taskfleet.aws.backoff import Backoff
from taskfleet.aws.errors import WriteConflict, translated
from taskfleet.errors import TransientError
from taskfleet.ports import Clock

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

Item = Mapping[str, Any]
"""An item in wire form: attribute name -> value in wire form."""

READ_MAX_KEYS = 100
"""Most keys in one call of BatchGetItem."""
ALWAYS = "attribute_exists(#Job_ID) OR attribute_not_exists(#Job_ID)"
"""A condition that holds for every item, and for a missing one."""
_NAME = re.compile(r"#(\w+)")
T = TypeVar("T")


def wire_number(value: float) -> dict[str, str]:
    """Returns the wire form of a number."""
    return {"N": repr(value)}


def wire_text(value: str) -> dict[str, str]:
    """Returns the wire form of a text."""
    return {"S": value}


def wire_bool(value: bool) -> dict[str, bool]:
    """Returns the wire form of a boolean."""
    return {"BOOL": value}


def number_of(item: Item, name: str) -> float:
    """Returns the number in the attribute `name` of an item in wire form."""
    return float(item[name]["N"])


class Update(msgspec.Struct, frozen=True):
    """A conditional write of one item.

    In both expressions `#name` stands for the attribute `name`, because many names are reserved
    words of DynamoDB, and `:name` stands for a value.

    key: the item's `Job_ID`.
    update: update expression. It must contain `#ttl = :ttl`, which sets the item's expiry.
    condition: condition expression.
    values: values in wire form, by their names with the colon; `:ttl` is added to them.
    """

    key: str
    update: str
    condition: str
    values: Mapping[str, Any]


class Table:
    """The table `name`. Safe for any number of threads.

    Each method that calls DynamoDB takes `operation`, which completes the error message "could not
    `operation` table ...", such as "read batch b1 from".

    ttl_days: days after its last write when an item expires.
    """

    def __init__(
        self, client: DynamoDBClient, name: str, clock: Clock, backoff: Backoff, ttl_days: int
    ) -> None:
        self._client = client
        self._name = name
        self._clock = clock
        self._backoff = backoff
        self._ttl_s = ttl_days * 86_400

    def now(self) -> float:
        """Returns the current time in epoch seconds, UTC."""
        return self._clock.now()

    def update(self, operation: str, write: Update, *, read_back: bool = False) -> Item:
        """Make one write. Returns the new item if `read_back`, otherwise an empty mapping. Raises
        ConditionFailed, with the existing item, if the condition does not hold."""
        response = self._write(
            operation,
            lambda: self._client.update_item(
                **self._request(write),
                ReturnValues="ALL_NEW" if read_back else "NONE",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            ),
        )
        return response.get("Attributes", {})

    def add(self, operation: str, key: str, amounts: Mapping[str, float]) -> Item:
        """Add the amounts to number attributes of an item, which is created if it is missing.
        Returns the new item. Not idempotent: if the SDK sends the request again after a lost reply,
        the amounts count twice."""
        names = {f"#n{i}": name for i, name in enumerate(amounts)}
        values = {f":n{i}": wire_number(amount) for i, amount in enumerate(amounts.values())}
        sums = ", ".join(f"#n{i} :n{i}" for i in range(len(amounts)))
        response = self._write(
            operation,
            lambda: self._client.update_item(
                TableName=self._name,
                Key={"Job_ID": wire_text(key)},
                UpdateExpression=f"SET #ttl = :ttl ADD {sums}",
                ExpressionAttributeNames={**names, "#ttl": "ttl"},
                ExpressionAttributeValues={**values, ":ttl": self._expiry()},
                ReturnValues="ALL_NEW",
            ),
        )
        return response.get("Attributes", {})

    def remove(self, operation: str, key: str, names: Iterable[str]) -> None:
        """Remove attributes of an item. Those that it does not have are ignored."""
        placeholders = {f"#n{i}": name for i, name in enumerate(names)}
        self._write(
            operation,
            lambda: self._client.update_item(
                TableName=self._name,
                Key={"Job_ID": wire_text(key)},
                UpdateExpression=f"SET #ttl = :ttl REMOVE {', '.join(placeholders)}",
                ExpressionAttributeNames={**placeholders, "#ttl": "ttl"},
                ExpressionAttributeValues={":ttl": self._expiry()},
            ),
        )

    def create(self, operation: str, item: Item) -> None:
        """Write a new item. Raises ConditionFailed, with the existing item, if the key is taken."""
        self._write(
            operation,
            lambda: self._client.put_item(
                TableName=self._name,
                Item={**item, "ttl": self._expiry()},
                ConditionExpression="attribute_not_exists(Job_ID)",
                ReturnValuesOnConditionCheckFailure="ALL_OLD",
            ),
        )

    def delete(self, operation: str, key: str) -> Item | None:
        """Delete an item. Returns it as it was, or None if there is none."""
        response = self._write(
            operation,
            lambda: self._client.delete_item(
                TableName=self._name, Key={"Job_ID": wire_text(key)}, ReturnValues="ALL_OLD"
            ),
        )
        return response.get("Attributes")

    def _write(self, operation: str, call: Callable[[], T]) -> T:
        """Make a write, again after a pause when it meets another one on its item, until
        `Backoff.tries` ends. A write that met another one has not been made."""
        tries = self._backoff.tries()
        next(tries)
        while True:
            try:
                with self._translated(operation):
                    return call()
            except WriteConflict:
                if next(tries, None) is None:
                    raise

    def read(self, operation: str, key: str) -> Item | None:
        """Returns the item, or None if there is none."""
        with self._translated(operation):
            return self._client.get_item(
                TableName=self._name, Key={"Job_ID": wire_text(key)}, ConsistentRead=True
            ).get("Item")

    def read_many(self, operation: str, keys: Iterable[str]) -> dict[str, Item]:
        """Returns the existing items by key."""
        items: dict[str, Item] = {}
        unique_keys = list(dict.fromkeys(keys))
        for start in range(0, len(unique_keys), READ_MAX_KEYS):
            items |= self._read_chunk(operation, unique_keys[start : start + READ_MAX_KEYS])
        return items

    def _read_chunk(self, operation: str, keys: list[str]) -> dict[str, Item]:
        """Read up to `READ_MAX_KEYS` items. DynamoDB leaves keys unprocessed if it throttles, and
        beyond 16 MB: the method asks for them again until none is left, and raises TransientError
        when `Backoff.tries` ends without a new item."""
        found: dict[str, Item] = {}
        unprocessed: Any = {
            self._name: {
                "Keys": [{"Job_ID": wire_text(key)} for key in keys],
                "ConsistentRead": True,
            }
        }
        tries = self._backoff.tries()
        while unprocessed:
            if next(tries, None) is None:
                raise TransientError(
                    f"could not {operation} table {self._name}: throttled; try again"
                )
            with self._translated(operation):
                response = self._client.batch_get_item(RequestItems=unprocessed)
            items = response.get("Responses", {}).get(self._name, [])
            found |= {item["Job_ID"]["S"]: item for item in items}
            unprocessed = response.get("UnprocessedKeys")
            if items:
                tries = self._backoff.tries()
        return found

    def list_newest(
        self, operation: str, client_id: str, *, limit: int, before: tuple[float, str] | None
    ) -> list[tuple[float, str]]:
        """Returns `created_at` and key of up to `limit` items of one client, newest first, older
        than `before`. `before` is such a pair, None to begin with the newest item."""
        request: Any = {}
        if before is not None:
            request["ExclusiveStartKey"] = {
                "Job_ID": wire_text(before[1]),
                "client_id": wire_text(client_id),
                "created_at": wire_number(before[0]),
            }
        with self._translated(operation):
            response = self._client.query(
                TableName=self._name,
                IndexName="batches_by_client",
                KeyConditionExpression="client_id = :client_id",
                ExpressionAttributeValues={":client_id": wire_text(client_id)},
                ScanIndexForward=False,
                Limit=limit,
                **request,
            )
        return [(number_of(item, "created_at"), item["Job_ID"]["S"]) for item in response["Items"]]

    def list_until(self, operation: str, client_id: str, *, until: float, limit: int) -> list[str]:
        """Returns the keys of up to `limit` items of one client that were created by `until`,
        oldest first."""
        with self._translated(operation):
            response = self._client.query(
                TableName=self._name,
                IndexName="batches_by_client",
                KeyConditionExpression="client_id = :client_id AND created_at <= :until",
                ExpressionAttributeValues={
                    ":client_id": wire_text(client_id),
                    ":until": wire_number(until),
                },
                Limit=limit,
            )
        return [item["Job_ID"]["S"] for item in response["Items"]]

    def _request(self, write: Update) -> Any:
        return {
            "TableName": self._name,
            "Key": {"Job_ID": wire_text(write.key)},
            "UpdateExpression": write.update,
            "ConditionExpression": write.condition,
            "ExpressionAttributeNames": _names(write.update, write.condition),
            "ExpressionAttributeValues": {**write.values, ":ttl": self._expiry()},
        }

    def _expiry(self) -> dict[str, str]:
        return wire_number(int(self._clock.now()) + self._ttl_s)

    def _translated(self, operation: str) -> Any:
        return translated(operation, f"table {self._name}")


@functools.lru_cache(maxsize=256)
def _names(update: str, condition: str) -> Mapping[str, str]:
    return {f"#{name}": name for name in _NAME.findall(f"{update} {condition}")}
