"""`ObjectStore` in memory."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator

from taskfleet.errors import NotFound, TooLarge
from taskfleet.ports import LINE_MAX_BYTES


class MemoryStore:
    """Implements `taskfleet.ports.ObjectStore`. Safe for any number of threads. No server answers
    its URLs, `memory://<key>`."""

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}

    def put(self, key: str, data: bytes, *, content_type: str) -> None:  # noqa: ARG002
        self._objects[key] = bytes(data)

    def put_file(self, key: str, path: str | int, *, content_type: str) -> None:
        with open(path, "rb") as file:
            self.put(key, file.read(), content_type=content_type)

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        try:
            data = self._objects[key]
        except KeyError:
            raise NotFound(f"no object {key!r}") from None
        if max_bytes is not None and len(data) > max_bytes:
            raise TooLarge(f"object {key!r} has {len(data)} bytes, over the cap of {max_bytes}")
        return data

    def get_file(self, key: str, path: str | int, *, max_bytes: int) -> int:
        with open(path, "wb") as file:
            return file.write(self.get(key, max_bytes=max_bytes))

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        data = self.get(key)
        if offset >= len(data):
            raise NotFound(f"object {key!r} has {len(data)} bytes, none from {offset} on")
        return data[offset : offset + length]

    def lines(self, key: str, *, etag: str | None = None, offset: int = 0) -> Iterator[bytes]:
        if etag is not None and etag != self.etag(key):
            raise NotFound(f"no object {key!r} with etag {etag}")
        stream = io.BytesIO(self.get(key))
        stream.seek(offset)
        while line := stream.readline(LINE_MAX_BYTES + 2):
            if len(line) > LINE_MAX_BYTES:
                content = line.removesuffix(b"\n").removesuffix(b"\r")
                if len(content) > LINE_MAX_BYTES:
                    raise TooLarge(f"object {key!r} has a line of over {LINE_MAX_BYTES} bytes")
            yield line

    def etag(self, key: str) -> str | None:
        data = self._objects.get(key)
        return None if data is None else hashlib.sha256(data).hexdigest()

    def url(self, key: str, *, expires_s: int) -> str:  # noqa: ARG002
        return f"memory://{key}"

    def upload_form(
        self,
        key: str,
        *,
        max_bytes: int,  # noqa: ARG002
        expires_s: int,  # noqa: ARG002
    ) -> tuple[str, dict[str, str]]:
        return "memory://", {"key": key}

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)
