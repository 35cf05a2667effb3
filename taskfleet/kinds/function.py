"""Stored functions and arguments as a runner gets them: fetched from the uploads of the task's own
client, checked against their SHA-256, and kept for the next call. Owns fetching and keeping; reads
no pickle itself (`taskfleet.kinds.call`)."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from taskfleet.batch import upload_key
from taskfleet.errors import NotFound, PermanentError, TooLarge
from taskfleet.kinds.patience import patiently
from taskfleet.registry import TaskContext
from taskfleet.wire.calls import FunctionHeader, content_id, decode_header

KEPT_MAX = 64
"""Most functions that a runner keeps."""
KEPT_MAX_BYTES = 256_000_000
"""Most bytes of pickles of the functions that a runner keeps. The last one is kept in any case."""
OBJECT_MAX_BYTES = 2_000_000_000
"""Largest stored function or arguments."""
_MAPPED_BYTES = 1_000_000


@dataclass
class StoredFunction:
    """A function as it was fetched.

    body: its pickle.
    made: the function itself, once the kind has made it in this process; None before.
    checked: whether its versions were compared with the worker's.
    """

    header: FunctionHeader
    body: bytes
    size: int
    made: Callable[..., Any] | None = None
    checked: bool = False


class Functions:
    """The functions that a runner has fetched, the last used ones, for each client its own."""

    def __init__(self, most: int = KEPT_MAX, most_bytes: int = KEPT_MAX_BYTES) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._kept: OrderedDict[tuple[str, str], StoredFunction] = OrderedDict()
        self._bytes = 0

    def get(self, function_id: str, name: str, context: TaskContext) -> StoredFunction:
        """Returns a function of the task's client. Raises PermanentError if there is none, or what
        there is has another content; what the store raises; TaskStopped."""
        place = (context.client_id, function_id)
        found = self._kept.get(place)
        if found is not None:
            self._kept.move_to_end(place)
            return found
        data = fetch(function_id, f"the function {name}", context)
        header, body = decode_header(data, name)
        found = StoredFunction(header, body, len(data))
        self._kept[place] = found
        self._bytes += found.size
        while len(self._kept) > 1 and (
            len(self._kept) > self._most or self._bytes > self._most_bytes
        ):
            _, dropped = self._kept.popitem(last=False)
            self._bytes -= dropped.size
        return found


def fetch(content: str, what: str, context: TaskContext) -> bytes:
    """Returns an upload by content of the task's client. Raises PermanentError, naming `what` it
    is, if it is gone, too large or has another content; what the store raises; TaskStopped."""
    try:
        data = patiently(lambda: _read(upload_key(context.client_id, content), context), context)
    except NotFound:
        raise PermanentError(
            f"{what} is not in the store: uploads expire some days after they were sent; submit "
            "the call again"
        ) from None
    except TooLarge:
        raise PermanentError(f"{what} is over the cap of {OBJECT_MAX_BYTES} bytes") from None
    if content_id(data) != content:
        raise PermanentError(
            f"{what} does not match its SHA-256: the stored object was changed; submit the call "
            "again"
        )
    return data


def _read(key: str, context: TaskContext) -> bytes:
    """The object's bytes, through a file in memory: the worker then passes them in pieces, however
    many there are."""
    with memory_file() as file:
        fd = os.dup(file.fileno())
        size = context.store.get_file(key, fd, max_bytes=OBJECT_MAX_BYTES)
        return os.pread(file.fileno(), size, 0) if size < _MAPPED_BYTES else _mapped(file, size)


def _mapped(file: BinaryIO, size: int) -> bytes:
    # One read returns at most 2 GB.
    with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as mapped:
        return mapped[:]


def memory_file() -> BinaryIO:
    """Returns a new file without a name, in memory where the system has such files."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("taskfleet"), "w+b")
    return cast(BinaryIO, tempfile.TemporaryFile())
