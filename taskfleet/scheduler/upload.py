"""Batches that come as a file: the form to send it with, and the batch made of it at once, whatever
its size. Owns the taking in; the file is read later, elsewhere (`taskfleet.scheduler.expand`)."""

from __future__ import annotations

from collections.abc import Callable

from taskfleet.batch import BatchRecord, Upload, is_id, keyed_batch_id, random_batch_id
from taskfleet.errors import NotFound
from taskfleet.ports import Clock, ObjectStore, OutgoingMessage, TaskMonitor, TaskQueue
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.submit import payload_hash, record
from taskfleet.wire.http import UploadForm
from taskfleet.wire.queues import encode_upload


class Uploads:
    """Takes uploads in. `expand` is the queue of batches whose files are to be read; `max_bytes`
    and `expires_s` are those of a form; `random_bytes` makes so many random bytes."""

    def __init__(
        self,
        planner: Planner,
        store: ObjectStore,
        expand: TaskQueue,
        monitor: TaskMonitor,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        *,
        max_bytes: int,
        expires_s: int,
    ) -> None:
        self._planner = planner
        self._store = store
        self._expand = expand
        self._monitor = monitor
        self._clock = clock
        self._random_bytes = random_bytes
        self._max_bytes = max_bytes
        self._expires_s = expires_s

    def form(self, client_id: str) -> UploadForm:
        """For one file of the client's."""
        upload_id = random_batch_id(self._random_bytes(32))
        url, fields = self._store.upload_form(
            upload_key(client_id, upload_id), max_bytes=self._max_bytes, expires_s=self._expires_s
        )
        return UploadForm(upload_id, url, fields)

    def submit(
        self,
        upload_id: str,
        *,
        client_id: str,
        name: str | None = None,
        idempotency_key: str | None = None,
    ) -> BatchRecord:
        """Record the batch, open and empty, and have its file read. Without a key the upload itself
        is the key.

        NotFound when the client has no such upload; Conflict when the key stands for another file
        or name; TransientError when the queue or table would not have it: send the same again.
        """
        key = f"\nupload {upload_id}" if idempotency_key is None else idempotency_key
        batch_id = keyed_batch_id(client_id, key)
        found = self._found(upload_id, client_id)
        if found is None:
            # Files are kept for some days, batches for longer.
            known = self._monitor.batch(batch_id)
            if known is not None and known.upload is not None:
                return known
            raise NotFound(
                f"no upload {upload_id!r:.60}: get one from POST /uploads and send the file to its "
                "url first"
            )
        batch = record(
            self._monitor,
            BatchRecord(
                batch_id=batch_id,
                client_id=client_id,
                name=name,
                created_at=self._clock.now(),
                total=0,
                bundles=0,
                payload_hash=payload_hash(name, {"etag": found.etag}),
                closed=False,
                plan=self._planner.plan_unread(),
                upload=found,
            ),
        )
        if not _begun(batch):
            send_to_expand(self._expand, batch)
        return batch

    def _found(self, upload_id: str, client_id: str) -> Upload | None:
        if not is_id(upload_id):
            return None
        key = upload_key(client_id, upload_id)
        etag = self._store.etag(key)
        return None if etag is None else Upload(key, etag)


def _begun(batch: BatchRecord) -> bool:
    """Whether its message is known to have been sent."""
    read = batch.upload is not None and batch.upload.lines > 0
    return read or batch.total > 0 or batch.cancelled_at is not None


def upload_key(client_id: str, upload_id: str) -> str:
    """Where the file lies in the store: no client can name another's."""
    return f"uploads/{client_id}/{upload_id}"


def send_to_expand(queue: TaskQueue, batch: BatchRecord) -> None:
    """Put the batch on the queue of those whose files are to be read."""
    queue.send([OutgoingMessage(encode_upload(batch.batch_id), group=batch.client_id)])
