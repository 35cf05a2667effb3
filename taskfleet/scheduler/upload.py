"""Takes in batches that are sent as a file: makes the form to send the file with, and records a
batch of it at once, whatever the file's size. Writes the file itself for a batch that came in one
request and is too much to enqueue there. Owns these steps; the file is read later, by
`taskfleet.scheduler.expand`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from taskfleet.batch import (
    BatchRecord,
    Upload,
    is_upload_id,
    keyed_batch_id,
    random_batch_id,
    upload_key,
)
from taskfleet.errors import NotFound, TooLarge, TransientError
from taskfleet.options import BatchOptions
from taskfleet.ports import Clock, TaskMonitor, TaskQueue, UploadStore
from taskfleet.scheduler.after import Precedence, request_expansion
from taskfleet.scheduler.limit import NO_LIMIT, ClientLimit
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.record import payload_hash, record_once
from taskfleet.task import Task
from taskfleet.wire.http.uploads import Stored, UploadForm

KEPT_DAYS = 7
"""Days after which the bucket deletes an upload (`infra/stack.yaml`)."""
LEAST_DAYS = 2
"""Days that a content must live on for its client to be spared sending it again."""


class Uploads:
    """Takes in uploads.

    upload_queue: the queue of batches whose files are to be read.
    random_bytes: returns the given number of random bytes, such as `os.urandom`.
    max_bytes: size of the largest file that a form takes.
    expires_s: seconds for which a form may be used.
    limit: bounds the tasks of each client.
    precedence: lets batches wait for others; one on the same ports unless given.
    """

    def __init__(
        self,
        planner: Planner,
        store: UploadStore,
        upload_queue: TaskQueue,
        monitor: TaskMonitor,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        *,
        max_bytes: int,
        expires_s: int,
        limit: ClientLimit = NO_LIMIT,
        precedence: Precedence | None = None,
    ) -> None:
        self._planner = planner
        self._store = store
        self._upload_queue = upload_queue
        self._monitor = monitor
        self._clock = clock
        self._random_bytes = random_bytes
        self._max_bytes = max_bytes
        self._expires_s = expires_s
        self._limit = limit
        self._precedence = precedence or Precedence(monitor, upload_queue, clock)

    def form(self, client_id: str) -> UploadForm:
        """Makes a form with which the client can send one file."""
        upload_id = random_batch_id(self._random_bytes(32))
        url, fields = self._store.upload_form(
            upload_key(client_id, upload_id), max_bytes=self._max_bytes, expires_s=self._expires_s
        )
        return UploadForm(upload_id, url, fields)

    def content(self, client_id: str, sha256: str, size: int) -> UploadForm | Stored:
        """Makes a form with which the client can send the content of this SHA-256 and size in
        bytes, unless it is stored and not about to expire. Its id is the SHA-256, and another
        client's content is never found. Raises TooLarge."""
        if size > self._max_bytes:
            raise TooLarge(f"{size} bytes are over the cap of {self._max_bytes} of one upload")
        key = upload_key(client_id, sha256)
        found = self._store.stored(key)
        lasts_s = (KEPT_DAYS - LEAST_DAYS) * 86_400.0
        if found and found.size == size and self._clock.now() - found.at < lasts_s:
            return Stored(sha256)
        url, fields = self._store.content_form(
            key, sha256=sha256, size=size, expires_s=self._expires_s
        )
        return UploadForm(sha256, url, fields)

    def submit(
        self,
        upload_id: str,
        *,
        client_id: str,
        name: str | None = None,
        idempotency_key: str | None = None,
        traceparent: str | None = None,
        options: BatchOptions | None = None,
    ) -> BatchRecord:
        """Record an open, empty batch and ask for its file to be read. Returns the batch as
        recorded. Without `idempotency_key`, the upload's id serves as one. `traceparent` and
        `options` are as for `Submission.submit`.

        Raises NotFound when the client has no such upload; Conflict when the client used the key
        before for another file, name or options; InvalidTask when it may not wait for the batches
        in `after`; LimitReached when the client has too many tasks or
        another of its files is still being read; TransientError when the queue or the table is
        busy: the caller may send the same again.
        """
        key = f"\nupload {upload_id}" if idempotency_key is None else idempotency_key
        batch_id = keyed_batch_id(client_id, key)
        upload = self._find(upload_id, client_id)
        if upload is None:
            # The file may have expired: batches are kept for longer than files.
            earlier = self._monitor.batch(batch_id)
            if earlier is not None and earlier.upload is not None:
                return earlier
            raise NotFound(
                f"no upload {upload_id!r:.60}: get one from POST /uploads and send the file to its "
                "url first"
            )
        self._precedence.check(client_id, batch_id, options)
        self._limit.check(self._monitor, client_id, batch_id, None)
        batch = record_once(
            self._monitor,
            BatchRecord(
                batch_id=batch_id,
                client_id=client_id,
                name=name,
                created_at=self._clock.now(),
                total=0,
                bundles=0,
                payload_hash=payload_hash(name, {"etag": upload.etag}, options),
                closed=False,
                plan=self._planner.plan_unread(),
                upload=upload,
                traceparent=traceparent,
                options=options,
            ),
        )
        self.request(batch)
        return batch

    def check(self, client_id: str, batch_id: str, options: BatchOptions | None) -> None:
        """Raises as `Precedence.check` does, for a batch that is to go by `as_file`."""
        self._precedence.check(client_id, batch_id, options)

    def as_file(self, batch: BatchRecord, tasks: Sequence[Task]) -> BatchRecord:
        """Store the tasks of a batch, which are valid, as a file of the client's. Returns the batch
        as one that is made of this file: open, with no task enqueued.

        The file's key follows from the batch and its payload, so a submission that is sent again
        finds its own file, and one of another payload under the same id does not replace it. No
        form is ever made for such a key.
        """
        key = upload_key(
            batch.client_id, keyed_batch_id(batch.batch_id, f"\ntasks {batch.payload_hash}")
        )
        data = b"".join([_line(task) for task in tasks])
        etag = self._store.etag(key)
        if etag is None:
            self._store.put(key, data, content_type="text/plain; charset=utf-8")
            etag = self._store.etag(key)
            if etag is None:
                raise TransientError(f"the file {key} is gone as soon as it was stored")
        upload = Upload(
            key, etag, lines=len(tasks), tasks=len(tasks), checked=True, offset=len(data)
        )
        return replace(batch, total=0, bundles=0, borders=0, closed=False, upload=upload)

    def request(self, batch: BatchRecord) -> None:
        """Ask for the batch's file to be read, unless its reading has begun; for that of one that
        waits for others, when they have ended. Asking twice does no harm."""
        if batch.waiting:
            self._precedence.note(batch)
        elif not _begun(batch):
            request_expansion(self._upload_queue, batch)

    def _find(self, upload_id: str, client_id: str) -> Upload | None:
        """Returns the client's upload, or None when no file was sent under this id."""
        if not is_upload_id(upload_id):
            return None
        key = upload_key(client_id, upload_id)
        etag = self._store.etag(key)
        return None if etag is None else Upload(key, etag)


def _begun(batch: BatchRecord) -> bool:
    """Returns whether reading the batch's file has begun, or is no longer needed. A file that is
    checked while no task is recorded may be one that was written here."""
    upload = batch.upload
    checking = upload is not None and upload.lines > 0 and not upload.checked
    return checking or batch.total > 0 or batch.cancelled_at is not None


def _line(task: Task) -> bytes:
    """Returns a valid task as a line of a task file. Equal tasks make equal lines."""
    return msgspec.json.encode(task.as_object, order="sorted") + b"\n"
