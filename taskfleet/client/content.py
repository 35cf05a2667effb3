"""The client's upload by content: a file or bytes that are stored once under their SHA-256. Owns
the hashing and the choice to send; not HTTP (`taskfleet.client.transport`)."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import IO

import msgspec

from taskfleet.client.transport import Transport
from taskfleet.wire.http.uploads import UploadAnswer


class ContentUploads:
    """The call for uploads by content."""

    _http: Transport

    def put(self, data: bytes | bytearray | memoryview | str | Path) -> str:
        """Store bytes, or the file at a path, unless you have stored the same content before and it
        lives for at least two more days. Returns the upload's id, the SHA-256 of the content, with
        which tasks of yours refer to it. Calling it again is cheap, and harmless after any error.

        Raises OSError if the file cannot be read, and ApiError, with the status 413 if it is too
        large.
        """
        if isinstance(data, str | Path):
            with open(data, "rb") as file:
                return self._put(file)
        return self._put(io.BytesIO(data))

    def _put(self, file: IO[bytes]) -> str:
        digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
        wanted = msgspec.json.encode({"sha256": digest, "bytes": file.seek(0, io.SEEK_END)})
        answer = self._http.call("POST", "/uploads", UploadAnswer, body=wanted)
        if not answer.stored:
            file.seek(0)
            self._http.send_form(answer.url, answer.fields, file, lambda _sent, _total: None)
        return answer.upload_id
