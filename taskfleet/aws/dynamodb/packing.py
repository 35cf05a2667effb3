"""How a bundle's tasks and results lie in its item: as one compressed JSON value, or in an object
beside the table when that would be too large for an item (400 KB). Owns this form alone."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any

import msgspec

from taskfleet.aws.dynamodb.table import Item, text
from taskfleet.errors import NotFound, PermanentError
from taskfleet.ports import ObjectStore
from taskfleet.task import Task, TaskResult

ITEM_MAX_BYTES = 350_000
SPILL_PREFIX = "spill/"
Content = tuple[list[Task], list[TaskResult]]
_encode = msgspec.json.Encoder().encode
_decoder: msgspec.json.Decoder[Content] = msgspec.json.Decoder(Content)


class Packing:
    """`packed` holds the value; `spill`, instead, the key of the object that does. An object's name
    is the hash of its content, so that nobody, a worker without a lease least of all, can
    change what an item points to."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def pack(
        self, tasks: Sequence[Task], results: Sequence[TaskResult]
    ) -> tuple[str, dict[str, Any]]:
        """The clauses of an update expression, and its values. What has to be spilled is in the
        store before the item can point to it."""
        data = zlib.compress(_encode((tasks, results)))
        if len(data) <= ITEM_MAX_BYTES:
            return "#packed = :packed REMOVE #spill", {":packed": {"B": data}}
        key = SPILL_PREFIX + hashlib.sha256(data).hexdigest()
        self._store.put(key, data, content_type="application/zlib")
        return "#spill = :spill REMOVE #packed", {":spill": text(key)}

    def unpack(self, item: Item) -> Content:
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
