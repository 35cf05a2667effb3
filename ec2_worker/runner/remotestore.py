"""The object store as a runner sees it: every call goes over the pipe to the worker, which has the
credentials. Owns both ends of such a call."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from ec2_worker.runner.frames import Answer, Call, Pipe, Sent
from taskfleet import errors
from taskfleet.errors import NotFound, PermanentError, TooLarge
from taskfleet.ports import ObjectStore

METHODS = (
    "put",
    "put_file",
    "get",
    "get_file",
    "get_range",
    "etag",
    "url",
    "upload_form",
    "delete",
)
"""The methods that a runner may call. `lines` is made of them."""
LINE_MAX_BYTES = 1_000_000
"""Longest line of an object read by lines."""


class RemoteStore:
    """`taskfleet.ports.ObjectStore` in a runner. The calls of several threads go one by one.

    `lines` reads the whole object into memory.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._calling = threading.Lock()
        self._answers: queue.SimpleQueue[Sent] = queue.SimpleQueue()

    def answered(self, sent: Sent) -> None:
        """Take the answer to the call under way. Called by the thread that reads the pipe."""
        self._answers.put(sent)

    def _call(
        self, method: str, key: str, data: bytes = b"", file: int | None = None, **options: Any
    ) -> Sent:
        with self._calling:
            self._pipe.send(Call(method, key, options), data, file)
            answer, content = self._answers.get()
        if answer.error is not None:
            raise error_of(answer)
        return answer.value, content

    def put(self, key: str, data: bytes, *, content_type: str) -> None:
        self._call("put", key, bytes(data), content_type=content_type)

    def put_file(self, key: str, path: str | int, *, content_type: str) -> None:
        # Opened here: the worker may read files that the task may not.
        with open(path, "rb") as file:
            self._call("put_file", key, file=file.fileno(), content_type=content_type)

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        return self._call("get", key, max_bytes=max_bytes)[1]

    def get_file(self, key: str, path: str | int, *, max_bytes: int) -> int:
        with open(path, "wb") as file:
            return int(self._call("get_file", key, file=file.fileno(), max_bytes=max_bytes)[0])

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        return self._call("get_range", key, offset=offset, length=length)[1]

    def lines(self, key: str, *, etag: str | None = None, offset: int = 0) -> Iterator[bytes]:
        if etag is not None and etag != self.etag(key):
            raise NotFound(f"no object {key!r} with etag {etag}")
        for line in self.get(key)[offset:].splitlines(keepends=True):
            if len(line.rstrip(b"\r\n")) > LINE_MAX_BYTES:
                raise TooLarge(f"object {key!r} has a line of over {LINE_MAX_BYTES} bytes")
            yield line

    def etag(self, key: str) -> str | None:
        value: str | None = self._call("etag", key)[0]
        return value

    def url(self, key: str, *, expires_s: int) -> str:
        return str(self._call("url", key, expires_s=expires_s)[0])

    def upload_form(
        self, key: str, *, max_bytes: int, expires_s: int
    ) -> tuple[str, dict[str, str]]:
        url, form = self._call("upload_form", key, max_bytes=max_bytes, expires_s=expires_s)[0]
        return url, form

    def delete(self, key: str) -> None:
        self._call("delete", key)


def error_of(answer: Answer) -> Exception:
    """Returns the error in an answer: of the class that it names if Taskfleet defines that."""
    cls = getattr(errors, answer.error or "", PermanentError)
    error: Exception = cls(answer.reason)
    return error


def serve(store: ObjectStore, call: Call, data: bytes, pipe: Pipe) -> None:
    """Make a runner's call, and send the answer. Never raises: a runner that is gone needs none."""
    content = b""
    try:
        if call.method not in METHODS:
            raise PermanentError(f"a store has no method {call.method!r:.40}")
        if call.method == "put":
            store.put(call.key, data, **call.options)
            answer = Answer()
        elif call.method in ("put_file", "get_file"):
            descriptor = pipe.descriptor()
            if descriptor is None:
                raise PermanentError(f"{call.method} came without its file")
            answer = Answer(getattr(store, call.method)(call.key, descriptor, **call.options))
        elif call.method in ("get", "get_range"):
            content = getattr(store, call.method)(call.key, **call.options)
            answer = Answer()
        else:
            answer = Answer(getattr(store, call.method)(call.key, **call.options))
    except errors.TaskfleetError as error:
        answer = Answer(None, type(error).__name__, str(error))
    except Exception as error:  # noqa: BLE001 - it is the task's call
        answer = Answer(None, PermanentError.__name__, f"{type(error).__name__}: {error}")
    try:
        pipe.send(answer, content)
    except OSError:
        return
