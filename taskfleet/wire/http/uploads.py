"""Answers about uploads of task files and of content."""

from __future__ import annotations

import msgspec


class UploadForm(msgspec.Struct, frozen=True):
    """A form with which to send a file: POST it to `url` as multipart/form-data, all `fields` first
    and the file last, as the field `file`. `upload_id` then stands for the file in
    `POST /batches`."""

    upload_id: str
    url: str
    fields: dict[str, str]


class Stored(msgspec.Struct, frozen=True):
    """The content is stored: `upload_id` stands for it, and `stored` is true."""

    upload_id: str
    stored: bool = True


class UploadAnswer(msgspec.Struct, frozen=True):
    """An answer to `POST /uploads` as the client reads it: a form, or that nothing is to be
    sent."""

    upload_id: str
    stored: bool = False
    url: str = ""
    fields: dict[str, str] = {}
