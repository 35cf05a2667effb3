"""The parts in which a file is handed in, kept in the bucket where no client can write. A part is
kept before it is recorded, so that what is recorded can be enqueued whatever becomes of the file:
its client may delete or replace it, and the next version may cut it otherwise. Owns the names and
the form of these objects; when they are written and read belongs to `taskfleet.scheduler.expand`.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from taskfleet.batch import BatchRecord
from taskfleet.errors import NotFound
from taskfleet.ports import ObjectStore
from taskfleet.task import Task

PREFIX = "parts/"
"""Prefix of the keys of parts. The bucket deletes them after some days."""

_decode = msgspec.json.Decoder(list[list[Task]]).decode


def keep(store: ObjectStore, batch: BatchRecord, bundles: Sequence[Sequence[Task]]) -> None:
    """Keep the bundles of the part that follows the enqueued tasks of `batch`."""
    store.put(_key(batch), msgspec.json.encode(bundles), content_type="application/json")


def kept(store: ObjectStore, batch: BatchRecord) -> list[list[Task]] | None:
    """Returns the bundles of the part that `batch` has recorded and not enqueued. None if none was
    kept, as by an earlier version, or another one than was recorded."""
    try:
        bundles = _decode(store.get(_key(batch)))
    except NotFound:
        return None
    count = sum(len(bundle) for bundle in bundles)
    return bundles if count == batch.total - batch.enqueued else None


def _key(batch: BatchRecord) -> str:
    return f"{PREFIX}{batch.batch_id}/{batch.enqueued}"
