"""What a task printed, as a client reads it: ranged reads of the object that a worker stored. Owns
the reading; the writing belongs to `ec2_worker.output`.

A row refers to its output by `[key, offset, length, dropped]` (`taskfleet.task.TaskResult.log`): a
part of the object that has the output of all tasks of a bundle. `dropped` bytes, which came after
the others, were not kept.
"""

from __future__ import annotations

import codecs

import msgspec

from taskfleet.errors import NotFound
from taskfleet.ports import ObjectStore

PREFIX = "logs/"
"""Prefix of the keys of stored output; the batch's id follows."""
PAGE_BYTES = 1_000_000
"""Most bytes of one page. In an answer of Lambda a byte takes at most six (a control character or
one that is not UTF-8, see `taskfleet.wire.payload`), so that a page always fits."""
TAIL_BYTES = 4_096
"""Most bytes of the end of an output that stand in the view of a task."""

LogRef = tuple[str, int, int, int]
"""Key of the object, offset and length of the task's output in it, and the bytes not kept."""


class LogPage(msgspec.Struct, frozen=True):
    """A part of an output, as text; what is not UTF-8 is replaced by U+FFFD.

    end: where the part ends, in bytes of the output: the offset of the next part.
    length: bytes of the output, as far as it was kept.
    dropped: bytes after that which were not kept.
    """

    text: str
    end: int
    length: int
    dropped: int

    @property
    def is_last(self) -> bool:
        """Returns whether nothing follows this part."""
        return self.end >= self.length


def page(
    store: ObjectStore, batch_id: str, ref: LogRef, offset: int, limit: int = PAGE_BYTES
) -> LogPage:
    """Returns the output from the byte `offset` on, at most `limit` bytes (at least 4, so that a
    character fits). A page does not end within a character. Raises NotFound if the object is gone
    or is not one of this batch."""
    _, _, length, dropped = ref
    data = _read(store, batch_id, ref, offset, min(limit, length - offset))
    end = offset + len(data)
    if not data or end >= length:
        return LogPage(data.decode(errors="replace"), end, length, dropped)
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(data)
    unread, _ = decoder.getstate()
    return LogPage(text, end - len(unread), length, dropped)


def tail(store: ObjectStore, batch_id: str, ref: LogRef) -> str:
    """Returns the last bytes of the output, at most `TAIL_BYTES`, without a character that begins
    before them. Raises NotFound as `page` does."""
    length = ref[2]
    start = max(0, length - TAIL_BYTES)
    data = _read(store, batch_id, ref, start, length - start)
    if start:
        first = next((i for i, byte in enumerate(data[:4]) if byte & 0xC0 != 0x80), 0)
        data = data[first:]
    return data.decode(errors="replace")


def _read(store: ObjectStore, batch_id: str, ref: LogRef, start: int, length: int) -> bytes:
    key, offset, _, _ = ref
    if length <= 0:
        return b""
    # Anybody with access to the table may have written the row.
    if not key.startswith(f"{PREFIX}{batch_id}/") or offset < 0 or start < 0:
        raise NotFound(f"the output is not one of batch {batch_id}")
    return store.get_range(key, offset + start, length)
