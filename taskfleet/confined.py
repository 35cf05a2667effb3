"""The part of the object store that a task of a client's own code may use. Owns which keys those
are. The worker and the API ask here, since the code may do and return whatever it wants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskfleet import spill
from taskfleet.batch import upload_key
from taskfleet.errors import PermanentError
from taskfleet.ports import ObjectStore
from taskfleet.wire.calls import content_id

RESERVED = frozenset(("logs", "parts", "spill", "uploads", "worker", "deploy"))
"""First parts of keys that are not a kind's own."""


class ConfinedStore:
    """`taskfleet.ports.ObjectStore` of which a task sees two parts: it may read the uploads of its
    client, and read and write the objects of its batch, whose keys are `<kind's own>/<batch>/...`.
    A large result may be stored under its hash, and nothing else under that hash. All else raises
    PermanentError.

    client_id: None for no uploads.
    """

    def __init__(self, store: ObjectStore, client_id: str | None, batch_id: str) -> None:
        self._store = store
        self._uploads = None if client_id is None else upload_key(client_id, "")
        self._batch_id = batch_id

    def put(self, key: str, data: bytes, *, content_type: str) -> None:
        if key != spill.PREFIX + content_id(data):
            self._check(key)
        self._store.put(key, data, content_type=content_type)

    def put_file(self, key: str, path: str | int, *, content_type: str) -> None:
        self._check(key)
        self._store.put_file(key, path, content_type=content_type)

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        self._check_read(key)
        return self._store.get(key, max_bytes=max_bytes)

    def get_file(self, key: str, path: str | int, *, max_bytes: int) -> int:
        self._check_read(key)
        return self._store.get_file(key, path, max_bytes=max_bytes)

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        self._check_read(key)
        return self._store.get_range(key, offset, length)

    def lines(self, key: str, *, etag: str | None = None, offset: int = 0) -> Iterator[bytes]:
        self._check_read(key)
        return self._store.lines(key, etag=etag, offset=offset)

    def etag(self, key: str) -> str | None:
        self._check_read(key)
        return self._store.etag(key)

    def url(self, key: str, *, expires_s: int) -> str:
        self._check_read(key)
        return self._store.url(key, expires_s=expires_s)

    def upload_form(self, key: str, **options: Any) -> tuple[str, dict[str, str]]:
        self._check(key)
        return self._store.upload_form(key, **options)

    def delete(self, key: str) -> None:
        self._check(key)
        self._store.delete(key)

    def _check_read(self, key: str) -> None:
        # A client's id may have slashes, the id of an upload has none.
        above, slash, _ = key.rpartition("/")
        if above + slash != self._uploads:
            self._check(key)

    def _check(self, key: str) -> None:
        first, *rest = key.split("/")
        own = len(rest) > 1 and rest[0] == self._batch_id and first not in RESERVED
        # Something on the way to the store might read such a key as another one.
        if not own or any(part in ("", ".", "..") for part in (first, *rest)):
            raise PermanentError(
                f"the task may not use the object {key!r:.200}: only its client's uploads and the "
                "objects of its batch"
            )
