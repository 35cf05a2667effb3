"""`ObjectStore` in S3. Sources: "GetObject", "HeadObject" and "Browser-based uploads using POST
(AWS signature version 4)", Amazon S3 API Reference."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taskfleet.aws.errors import translated
from taskfleet.errors import NotFound, TooLarge
from taskfleet.ports import LINE_MAX_BYTES

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_STREAM_CHUNK_BYTES = 256 * 1024


class S3Store:
    """Implements `taskfleet.ports.ObjectStore`. Safe for any number of threads. Its role also needs
    the permission s3:ListBucket: without it S3 answers 403 instead of 404 for a missing object."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def put(self, key: str, data: bytes, *, content_type: str) -> None:
        with translated("write", self._name(key)):
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, ContentType=content_type
            )

    def put_file(self, key: str, path: str | int, *, content_type: str) -> None:
        with open(path, "rb") as data, translated("write", self._name(key)):
            self._client.put_object(
                Bucket=self._bucket, Key=key, Body=data, ContentType=content_type
            )

    def get(self, key: str, *, max_bytes: int | None = None) -> bytes:
        with translated("read", self._name(key)):
            response = self._client.get_object(Bucket=self._bucket, Key=key)
            with response["Body"] as body:
                size = response["ContentLength"]
                if max_bytes is not None and size > max_bytes:
                    raise TooLarge(
                        f"{self._name(key)} has {size} bytes, over the cap of {max_bytes}"
                    )
                return body.read()

    def get_file(self, key: str, path: str | int, *, max_bytes: int) -> int:
        with open(path, "wb") as file, translated("read", self._name(key)):
            response = self._client.get_object(Bucket=self._bucket, Key=key)
            with response["Body"] as body:
                size = response["ContentLength"]
                if size > max_bytes:
                    raise TooLarge(
                        f"{self._name(key)} has {size} bytes, over the cap of {max_bytes}"
                    )
                shutil.copyfileobj(body, file, _STREAM_CHUNK_BYTES)
                return size

    def get_range(self, key: str, offset: int, length: int) -> bytes:
        wanted = f"bytes={offset}-{offset + length - 1}"
        with translated("read", self._name(key)):
            response = self._client.get_object(Bucket=self._bucket, Key=key, Range=wanted)
            with response["Body"] as body:
                return body.read()

    def lines(self, key: str, *, etag: str | None = None, offset: int = 0) -> Iterator[bytes]:
        condition: Any = {} if etag is None else {"IfMatch": etag}
        if offset:
            # From the byte before: S3 refuses a range that begins at the end of the object.
            condition["Range"] = f"bytes={offset - 1}-"
        with translated("read", self._name(key)):
            body: Any = self._client.get_object(Bucket=self._bucket, Key=key, **condition)["Body"]
        with body:
            stream = io.BufferedReader(body, _STREAM_CHUNK_BYTES)
            if offset:
                with translated("read", self._name(key)):
                    stream.read(1)
            while True:
                with translated("read", self._name(key)):
                    line = stream.readline(LINE_MAX_BYTES + 2)
                if not line:
                    return
                if len(line) > LINE_MAX_BYTES:
                    content = line.removesuffix(b"\n").removesuffix(b"\r")
                    if len(content) > LINE_MAX_BYTES:
                        raise TooLarge(
                            f"{self._name(key)} has a line of over {LINE_MAX_BYTES} bytes"
                        )
                yield line

    def etag(self, key: str) -> str | None:
        try:
            with translated("read the etag of", self._name(key)):
                return self._client.head_object(Bucket=self._bucket, Key=key)["ETag"]
        except NotFound:
            return None

    def url(self, key: str, *, expires_s: int) -> str:
        with translated("sign a URL of", self._name(key)):
            return self._client.generate_presigned_url(
                "get_object", Params={"Bucket": self._bucket, "Key": key}, ExpiresIn=expires_s
            )

    def upload_form(
        self, key: str, *, max_bytes: int, expires_s: int
    ) -> tuple[str, dict[str, str]]:
        with translated("sign an upload of", self._name(key)):
            form = self._client.generate_presigned_post(
                self._bucket,
                key,
                Conditions=[["content-length-range", 0, max_bytes]],
                ExpiresIn=expires_s,
            )
        return form["url"], form["fields"]

    def delete(self, key: str) -> None:
        with translated("delete", self._name(key)):
            self._client.delete_object(Bucket=self._bucket, Key=key)

    def _name(self, key: str) -> str:
        return f"object {key} in bucket {self._bucket}"
