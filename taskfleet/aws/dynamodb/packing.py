"""The form of a bundle's tasks and results in its item: JSON compressed with zlib, or the key of an
object that holds the same if it is too large for an item. Owns this form only.

Source: an item has at most 400 KB ("Quotas in Amazon DynamoDB", Amazon DynamoDB Developer Guide).
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from taskfleet.aws.dynamodb.table import Item, wire_text
from taskfleet.errors import NotFound, PermanentError
from taskfleet.ports import ObjectStore
from taskfleet.task import Task, TaskResult

ITEM_MAX_BYTES = 350_000
"""Most bytes of compressed tasks and results in an item. More are spilled to the object store."""
SPILL_PREFIX = "spill/"
"""Prefix of the keys of spilled objects."""
Content = tuple[list[Task], list[TaskResult]]
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Content] = msgspec.json.Decoder(Content)


class Packing:
    """Packs and unpacks tasks and results. An item has either the attribute `packed`, with the
    compressed bytes, or the attribute `spill`, with the key of the object that holds them. The key
    is the hash of the bytes, so no other worker can change what an item points to.

    store: holds the spilled objects.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def pack(
        self, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> tuple[str, dict[str, Any]]:
        """Returns the end of an update expression's SET clause with the clauses after it, and the
        values that it names. Bytes that are too large are stored before this returns, so that an
        item never points to a missing object."""
        data = zlib.compress(_encode((tasks, results)))
        if len(data) <= ITEM_MAX_BYTES:
            return "#packed = :packed REMOVE #spill", {":packed": {"B": data}}
        key = SPILL_PREFIX + hashlib.sha256(data).hexdigest()
        self._store.put(key, data, content_type="application/zlib")
        return "#spill = :spill REMOVE #packed", {":spill": wire_text(key)}

    def unpack(self, item: Item) -> Content:
        """Returns the tasks and results of an item; both are empty for an item that has none."""
        if "spill" in item:
            data = self._spilled(item["spill"]["S"], item["Job_ID"]["S"])
        elif "packed" in item:
            data = item["packed"]["B"]
        else:
            return [], []
        return _decoder.decode(zlib.decompress(data))

    def _spilled(self, key: str, job_id: str) -> bytes:
        try:
            return self._store.get(key)
        except NotFound as error:
            raise PermanentError(
                f"the results of bundle {job_id} are gone: {error}. Does the bucket's lifecycle "
                "delete objects before the table's records expire?"
            ) from error
