"""Data that is too large for the table: stored as an object under the hash of its content. Owns the
names of such objects and the check that their content is what was stored."""

from __future__ import annotations

import hashlib

from taskfleet.errors import NotFound, PermanentError
from taskfleet.ports import ObjectStore

PREFIX = "spill/"
"""Prefix of the keys of spilled objects."""


def put(store: ObjectStore, data: bytes) -> str:
    """Store the data and return its key. The same data always has the same key, so nobody can
    change what a key stands for."""
    key = PREFIX + hashlib.sha256(data).hexdigest()
    store.put(key, data, content_type="application/octet-stream")
    return key


def get(store: ObjectStore, key: str, what: str) -> bytes:
    """Returns the data stored under the key. Raises PermanentError, naming `what` it is, if the
    object is gone or is not what was stored."""
    try:
        data = store.get(key)
    except NotFound as error:
        raise PermanentError(
            f"{what} is gone: {error}. Does the bucket's lifecycle delete objects before the "
            "table's records expire?"
        ) from error
    if PREFIX + hashlib.sha256(data).hexdigest() != key:
        raise PermanentError(f"{what} was changed in the bucket: {key} does not match its hash")
    return data
