"""Encodes a submission: as the body of one POST when it fits, otherwise as a task file with one
task on each line, which is sent in a form. Owns the choice between the two and both encodings; not
the sending (`taskfleet.client.client`, `taskfleet.client.transport`) nor what a line means
(`taskfleet.wire.taskfile`).
"""

from __future__ import annotations

import contextlib
import io
import json
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, islice
from typing import IO, Any

import msgspec

from taskfleet.errors import InvalidTask
from taskfleet.options import BatchOptions
from taskfleet.ports import LINE_MAX_BYTES
from taskfleet.task import Task
from taskfleet.wire.http.caps import BODY_MAX_BYTES, MAX_TASKS, body_fault
from taskfleet.wire.taskfile import kind_and_params, own_options

_READ_BYTES = 256 * 1024
"""Bytes that are read from a form at a time."""
_AT_ONCE = 1_000
"""Tasks that are encoded at a time, which is much faster than one by one."""


def pack(
    tasks: Iterable[Any],
    *,
    name: str | None,
    idempotency_key: str,
    options: BatchOptions | None = None,
    max_bytes: int = BODY_MAX_BYTES,
    max_tasks: int = MAX_TASKS,
) -> bytes | IO[bytes]:
    """Encode a submission. Returns a JSON body if it has at most `max_bytes` bytes and `max_tasks`
    tasks and one request can take it, otherwise an open temporary file, positioned at its start,
    with the N-th task on the N-th line. `tasks` is iterated once.

    Raises InvalidTask for a task that cannot be encoded, ValueError for a name or key that is not
    valid Unicode.
    """
    envelope: dict[str, Any] = {"idempotency_key": idempotency_key}
    if name is not None:
        envelope["name"] = name
    if options is not None:
        envelope |= options.as_fields()
    room = max_bytes - len(msgspec.json.encode({**envelope, "tasks": []}))
    taken: list[Any] = []
    encoded: list[bytes] = []
    remaining = iter(tasks)
    while some := list(islice(remaining, min(_AT_ONCE, max_tasks + 1 - len(taken)))):
        data = _encode_tasks(some, len(taken))
        taken += some
        encoded.append(data)
        room -= len(data) + 1  # with a comma
        if room < -1 or len(taken) > max_tasks:  # the last ones have no comma
            encoded.clear()
            return _task_file(chain(taken, remaining))
    array = msgspec.Raw(b"[" + b",".join(encoded) + b"]")
    body = msgspec.json.encode({**envelope, "tasks": array})
    return _task_file(taken) if body_fault(body) else body


def unpacked(body: bytes) -> IO[bytes]:
    """Returns the tasks of a body of `pack` as the file that `pack` makes of too many tasks."""
    return _task_file(json.loads(body)["tasks"])


def _task_file(tasks: Iterable[Any]) -> IO[bytes]:
    """Returns a temporary file with one task on each line, positioned at its start."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    try:
        for index, task in enumerate(tasks):
            file.write(line(task, index) + b"\n")
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def line(task: Any, index: int) -> bytes:
    """Returns a task as a line of a task file, without the line's end. Raises InvalidTask, which
    names the task by `index`."""
    if isinstance(task, str) and _fits_on_line(task):
        data = _utf8(task, index)
    else:
        try:
            parsed = Task(index, *kind_and_params(task), own_options(task))
        except InvalidTask as error:
            raise error.at(index) from None
        data = encode_task(parsed.as_object, index)
    if len(data) > LINE_MAX_BYTES:
        raise InvalidTask(f"its {len(data)} bytes are over the cap of {LINE_MAX_BYTES}", index)
    return data


def _fits_on_line(task: str) -> bool:
    """Returns whether a line with this text would be read as this task."""
    text = task.strip()
    return bool(text) and text[0] not in "{#\ufeff" and "\n" not in task


def _utf8(task: str, index: int) -> bytes:
    try:
        return task.encode()
    except UnicodeEncodeError as error:
        raise InvalidTask(f"cannot be written as UTF-8: {error}", index) from None


def _encode_tasks(tasks: list[Any], first: int) -> bytes:
    """Returns tasks as JSON with commas between them. `first` is the index of the first of them.
    Raises as `encode_task` does."""
    if all(type(task) is str for task in tasks):
        with contextlib.suppress(ValueError):  # the loop below tells which task it is
            return msgspec.json.encode(tasks)[1:-1]
    return b",".join(encode_task(task, index) for index, task in enumerate(tasks, first))


def encode_task(task: Any, index: int) -> bytes:
    """Returns the task as JSON. Raises InvalidTask when that is impossible; everything else is
    validated by the server. A `msgspec.Raw` is taken for a task as JSON."""
    if isinstance(task, msgspec.Raw):
        return bytes(task)
    try:
        if isinstance(task, str):
            return msgspec.json.encode(task)
        # Not msgspec, which encodes NaN as null without an error.
        text = json.dumps(task, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except RecursionError:
        raise InvalidTask("is nested too deeply", index) from None
    except (TypeError, ValueError) as error:
        raise InvalidTask(f"cannot be written as JSON: {error}", index) from None


class FormBody:
    """A file in a form, as multipart/form-data (RFC 7578). `requests` streams it as the body of a
    request and knows its length.

    on_sent: called with the bytes that were sent so far and their total.
    """

    def __init__(
        self,
        fields: Mapping[str, str],
        file: IO[bytes],
        on_sent: Callable[[int, int], None],
    ) -> None:
        boundary = secrets.token_hex(16)
        start = f"--{boundary}\r\nContent-Disposition: form-data; name="
        head = "".join(f'{start}"{name}"\r\n\r\n{value}\r\n' for name, value in fields.items())
        head += f'{start}"file"; filename="tasks.txt"\r\nContent-Type: text/plain\r\n\r\n'
        tail = f"\r\n--{boundary}--\r\n"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self._pieces = (io.BytesIO(head.encode()), file, io.BytesIO(tail.encode()))
        self._length = sum(piece.seek(0, io.SEEK_END) for piece in self._pieces)
        self._on_sent = on_sent
        self.seek(0)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")

    def read(self, size: int = -1) -> bytes:
        """Returns up to `size` bytes, or a block of convenient size; nothing at the end."""
        for piece in self._pieces:
            data = piece.read(_READ_BYTES if size < 0 else size)
            if data:
                self._sent += len(data)
                self._on_sent(self._sent, self._length)
                return data
        return b""

    def tell(self) -> int:
        return self._sent

    def seek(self, _offset: int) -> None:
        """Go to the start, whatever the offset: a form is always sent again from there."""
        self._sent = 0
        for piece in self._pieces:
            piece.seek(0)
