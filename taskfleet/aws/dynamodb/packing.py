"""The form of a bundle's tasks and results in its item: JSON compressed with zlib, or the key of an
object that holds the same if it is too large for an item. Owns this form only.

Source: an item has at most 400 KB ("Quotas in Amazon DynamoDB", Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from taskfleet import spill
from taskfleet.aws.dynamodb.table import Item, wire_text
from taskfleet.errors import PermanentError
from taskfleet.ports import ObjectStore
from taskfleet.task import Task, TaskResult

ITEM_MAX_BYTES = 350_000
"""Most bytes of compressed tasks and results in an item. More are spilled to the object store."""
_encode = msgspec.json.Encoder().encode
_decoder = msgspec.json.Decoder(tuple[list[Task], list[TaskResult]])


class Packed(NamedTuple):
    """Tasks and results in the form that is written: the end of an update expression's SET clause
    with the clauses after it, the values that it names, and the CRC-32 of the JSON."""

    clauses: str
    values: dict[str, Any]
    checksum: int


class Content(NamedTuple):
    """The tasks and results in an item. `checksum` is the CRC-32 of the JSON."""

    tasks: list[Task]
    results: list[TaskResult]
    checksum: int


class Packing:
    """Packs and unpacks tasks and results. An item has either the attribute `packed`, with the
    compressed bytes, or the attribute `spill`, with the key of the object that holds them. The key
    is the hash of the bytes, so no other worker can change what an item points to.

    store: holds the spilled objects.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def pack(self, tasks: Sequence[Task], results: Sequence[TaskResult]) -> Packed:
        """Returns what is to be written. Bytes that are too large are stored before this returns,
        so that an item never points to a missing object."""
        content = _encode((tasks, results))
        checksum = zlib.crc32(content)
        data = zlib.compress(content)
        if len(data) <= ITEM_MAX_BYTES:
            return Packed("#packed = :packed REMOVE #spill", {":packed": {"B": data}}, checksum)
        key = spill.put(self._store, data)
        return Packed("#spill = :spill REMOVE #packed", {":spill": wire_text(key)}, checksum)

    def unpack(self, item: Item) -> Content:
        """Returns the tasks and results of an item with their checksum; both are empty for an item
        that has none. Raises PermanentError for a record that cannot be read."""
        if "spill" in item:
            what = f"the record of bundle {item['Job_ID']['S']}"
            data = spill.get(self._store, item["spill"]["S"], what)
        elif "packed" in item:
            data = item["packed"]["B"]
        else:
            return Content([], [], 0)
        try:
            content = zlib.decompress(data)
            return Content(*_decoder.decode(content), zlib.crc32(content))
        except (zlib.error, msgspec.DecodeError) as error:
            raise PermanentError(
                f"the table's item {item['Job_ID']['S']} has a record that cannot be read: {error}"
            ) from error
