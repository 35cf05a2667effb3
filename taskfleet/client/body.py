"""A submission as it is sent: the body of one POST when it fits, otherwise a task file with one
task a line, and the form that such a file travels in. Owns where the one ends and the other begins;
not the sending (`taskfleet.client.client`, `taskfleet.client.transport`) nor what a line means
(`taskfleet.wire.taskfile`)."""

from __future__ import annotations

import io
import json
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import IO, Any

import msgspec

from taskfleet.errors import InvalidTask
from taskfleet.ports import LINE_MAX_BYTES
from taskfleet.wire.http import (
    BODY_MAX_BYTES,
    MAX_TASKS,
)
from taskfleet.wire.taskfile import (
    kind_and_params,
)

_READ_BYTES = 256 * 1024


def pack(
    tasks: Iterable[Any],
    *,
    name: str | None,
    idempotency_key: str,
    max_bytes: int = BODY_MAX_BYTES,
    max_tasks: int = MAX_TASKS,
) -> bytes | IO[bytes]:
    """A JSON body, or a temporary file at its start, the N-th task on its N-th line; `tasks` is
    consumed once. InvalidTask names a task that cannot travel; ValueError a name or key that is
    not Unicode."""
    envelope: dict[str, Any] = {"idempotency_key": idempotency_key}
    if name is not None:
        envelope["name"] = name
    room = max_bytes - len(msgspec.json.encode({**envelope, "tasks": []}))
    held: list[Any] = []
    texts: list[bytes] = []
    source = iter(tasks)
    for task in source:
        text = _encode(task, len(held))
        held.append(task)
        texts.append(text)
        room -= len(text) + 1
        if room < -1 or len(held) > max_tasks:  # the last one has no comma
            texts.clear()
            return _spooled(chain(held, source))
    listed = msgspec.Raw(b"[" + b",".join(texts) + b"]")
    return msgspec.json.encode({**envelope, "tasks": listed})


def _spooled(tasks: Iterable[Any]) -> IO[bytes]:
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
    """A task as a line of a task file, without its end."""
    if not isinstance(task, str) or not _is_plain(task):
        try:
            kind, params = kind_and_params(task)
        except InvalidTask as error:
            raise error.at(index) from None
        text = _encode({"kind": kind, "params": params}, index)
    else:
        text = _utf8(task, index)
    if len(text) > LINE_MAX_BYTES:
        raise InvalidTask(f"its {len(text)} bytes are over the cap of {LINE_MAX_BYTES}", index)
    return text


def _is_plain(task: str) -> bool:
    """Whether the text means on a line what it means by itself."""
    text = task.strip()
    return bool(text) and text[0] not in "{#\ufeff" and "\n" not in task


def _utf8(task: str, index: int) -> bytes:
    try:
        return task.encode()
    except UnicodeEncodeError as error:
        raise InvalidTask(f"cannot be written as UTF-8: {error}", index) from None


def _encode(task: Any, index: int) -> bytes:
    """What a task may be is for the server to say; that it is JSON is seen here."""
    try:
        if isinstance(task, str):
            return msgspec.json.encode(task)
        # msgspec would turn NaN into null without a word.
        text = json.dumps(task, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return text.encode()
    except RecursionError:
        raise InvalidTask("nested too deeply", index) from None
    except (TypeError, ValueError) as error:
        raise InvalidTask(f"cannot be written as JSON: {error}", index) from None


class FormBody:
    """A file in a form, as multipart/form-data (RFC 7578), read as it is sent: `requests` streams
    it and knows its length. `on_sent` sees bytes of it sent and their total."""

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
        """Up to so many bytes, and at most what comes conveniently; none at the end."""
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
        """To the start, from where a form is sent again."""
        self._sent = 0
        for piece in self._pieces:
            piece.seek(0)
