"""The parts in which batches grow, kept where no client can write until they are enqueued: small
ones that a client adds in the batch's record, the others in the bucket. A part is kept before, or
as, it is recorded, so that what is recorded can be enqueued by anyone and whatever becomes of the
one who sent it: the file of an upload may be gone, a driver dead, and the next version may cut a
batch otherwise. Owns where parts are kept, in which form, and the enqueueing of a part that is
recorded; when parts are recorded belongs to `taskfleet.scheduler.expand` and
`taskfleet.scheduler.open`.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from taskfleet.batch import BatchRecord, Kept
from taskfleet.errors import NotFound, PermanentError
from taskfleet.ports import ObjectStore
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.task import Task

PREFIX = "parts/"
"""Prefix of the keys of parts. The bucket deletes them after some days."""
ADDED_PREFIX = f"{PREFIX}added/"
"""Prefix of the keys of parts that clients add. The API may write these and no others."""
IN_RECORD_MAX_BYTES = 4_096
"""Most bytes, compressed, of a part that is kept in the batch's record. Both writes of a part then
cost up to five units, about as much as storing an object, which takes longer."""

_decode = msgspec.json.Decoder(list[list[Task]]).decode


class Parts:
    """Keeps parts, and enqueues those that are recorded."""

    def __init__(self, store: ObjectStore, enqueuer: Enqueuer) -> None:
        self._store = store
        self._enqueuer = enqueuer

    def keep_next(self, batch: BatchRecord, bundles: Sequence[Sequence[Task]]) -> None:
        """Keep the bundles of the part of an upload that follows the enqueued tasks of `batch`. The
        same file always makes the same part there."""
        data = msgspec.json.encode(bundles)
        self._store.put(_next_key(batch), data, content_type="application/json")

    def keep(self, batch_id: str, bundles: Sequence[Sequence[Task]]) -> Kept:
        """Keep the bundles of a part that a client adds. Returns where they are, which belongs into
        the record of the batch. Several drivers may add different parts at the same place, so the
        key is that of the content."""
        data = msgspec.json.encode(bundles)
        packed = zlib.compress(data, 1)
        if len(packed) <= IN_RECORD_MAX_BYTES:
            return Kept(content=packed)
        key = f"{ADDED_PREFIX}{batch_id}/{hashlib.sha256(data).hexdigest()[:32]}"
        self._store.put(key, data, content_type="application/json")
        return Kept(key=key)

    def enqueue_kept(self, batch: BatchRecord) -> BatchRecord:
        """Enqueue the part that is recorded and not enqueued, as it is kept. Returns the batch with
        it, or as it was if there is no such part. Enqueueing a part twice does no harm.

        Raises PermanentError if a part that a client added is gone.
        """
        spent_before = self._enqueuer.spent()
        if batch.enqueued == batch.total or (bundles := self._kept(batch)) is None:
            return batch
        self._enqueuer.enqueue(batch, bundles, spent_before)
        return replace(batch, enqueued=batch.total, kept=None)

    def _kept(self, batch: BatchRecord) -> list[list[Task]] | None:
        """Returns the bundles of the part that `batch` has recorded and not enqueued. None if none
        was kept, as by an earlier version, or another one than was recorded."""
        kept = batch.kept
        if kept is not None and kept.content is not None:
            return _decode(zlib.decompress(kept.content))
        key = _next_key(batch) if kept is None or kept.key is None else kept.key
        try:
            bundles = _decode(self._store.get(key))
        except NotFound:
            if kept is None:
                return None
            raise PermanentError(f"the object {key} with a part of the batch is gone") from None
        count = sum(len(bundle) for bundle in bundles)
        return bundles if count == batch.total - batch.enqueued else None


def _next_key(batch: BatchRecord) -> str:
    return f"{PREFIX}{batch.batch_id}/{batch.enqueued}"
