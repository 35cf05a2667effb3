"""Which HTTP answer each error becomes. Owns the table and the form of an error's body,
`{"Code", "Message"}`, which is Chalice's; not the errors of the core (`taskfleet.errors`).

400 is for what cannot be read, 422 for what can be read and cannot be done.
"""

from __future__ import annotations

import functools
import logging
import math
from collections.abc import Callable
from typing import Any

import msgspec
from chalice.app import Response

from taskfleet.errors import (
    Conflict,
    InvalidTask,
    NotFound,
    TaskfleetError,
    TooLarge,
    TransientError,
)
from taskfleet.log import fields
from taskfleet.wire.http import Error

_log = logging.getLogger(__name__)

JSON_HEADERS = {"Content-Type": "application/json"}
RETRY_AFTER_S = 2.0
"""Told to a client when the error itself knows no better."""
MESSAGE_MAX_CHARS = 500
"""Messages quote what the client sent, which may be long."""


class Unreadable(TaskfleetError):
    """Bytes that are not what their media type says."""


class UnsupportedMedia(TaskfleetError):
    """A media type, charset or encoding that this API does not take."""


class Unprocessable(TaskfleetError):
    """A body or query that can be read and does not make a request."""


_TABLE: dict[type[TaskfleetError], tuple[int, str]] = {
    Unreadable: (400, "BadRequestError"),
    NotFound: (404, "NotFoundError"),
    Conflict: (409, "ConflictError"),
    TooLarge: (413, "PayloadTooLargeError"),
    UnsupportedMedia: (415, "UnsupportedMediaType"),
    Unprocessable: (422, "UnprocessableEntityError"),
    InvalidTask: (422, "UnprocessableEntityError"),
}


def answer(status: int = 200) -> Callable[[Callable[..., Any]], Callable[..., Response]]:
    """Decorator of a view: what it returns becomes the JSON body of an answer with this status,
    what it raises becomes the error's answer. Nothing else leaves a view."""

    def decorate(view: Callable[..., Any]) -> Callable[..., Response]:
        @functools.wraps(view)
        def answered(**arguments: str) -> Response:
            try:
                body = msgspec.json.encode(view(**arguments)).decode()
            except Exception as error:  # noqa: BLE001 - the last line before the client
                known = _answer_to(error)
                if known is None:
                    _log.exception("a request failed", extra=fields("request_failed", view=name))
                    return _error(500, "InternalServerError", "An internal server error occurred.")
                return known
            return Response(body, headers=dict(JSON_HEADERS), status_code=status)

        name = view.__name__
        return answered

    return decorate


def _answer_to(error: Exception) -> Response | None:
    """None for what no client can do anything about."""
    if isinstance(error, TransientError):
        _log.warning("a request was turned away", extra=fields("turned_away", reason=str(error)))
        wait_s = max(1, math.ceil(error.retry_after_s or RETRY_AFTER_S))
        return _error(
            503,
            "ServiceUnavailableError",
            f"The queue or the table is busy; send the same again in {wait_s} s.",
            {"Retry-After": str(wait_s)},
        )
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _error(*_TABLE[kind], str(error))
    return None


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    if len(message) > MESSAGE_MAX_CHARS:
        message = message[:MESSAGE_MAX_CHARS] + "..."
    body = msgspec.json.encode(Error(code, message)).decode()
    return Response(body, headers={**JSON_HEADERS, **(headers or {})}, status_code=status)
