"""Turns errors into HTTP answers. Owns the table of statuses; not the errors of the core
(`taskfleet.errors`) nor the form of an error's body (`taskfleet.wire.http.service.Error`).

The status is 400 for a request that cannot be read, 422 for one that can be read and not executed.
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
    LimitReached,
    NotFound,
    TaskfleetError,
    TooLarge,
    TransientError,
)
from taskfleet.log import fields, printable
from taskfleet.wire.http.service import Error

_log = logging.getLogger(__name__)

JSON_HEADERS = {"Content-Type": "application/json"}
TEXT_HEADERS = {
    "Content-Type": "text/plain; charset=utf-8",
    "X-Content-Type-Options": "nosniff",  # what a task printed must not run in a browser
}
RETRY_AFTER_S = 2.0
"""Seconds after which a client should try again, unless the error says."""
MESSAGE_MAX_CHARS = 500
"""Longest message in characters. Messages quote the request, which may be long."""


class Unreadable(TaskfleetError):
    """The body is not what its media type says."""


class UnsupportedMedia(TaskfleetError):
    """The body has a media type, charset or encoding that this API does not read."""


class Unprocessable(TaskfleetError):
    """The body or the query can be read, but is not a valid request."""


_TABLE: dict[type[TaskfleetError], tuple[int, str]] = {
    Unreadable: (400, "BadRequestError"),
    NotFound: (404, "NotFoundError"),
    Conflict: (409, "ConflictError"),
    TooLarge: (413, "PayloadTooLargeError"),
    UnsupportedMedia: (415, "UnsupportedMediaType"),
    Unprocessable: (422, "UnprocessableEntityError"),
    InvalidTask: (422, "UnprocessableEntityError"),
}


class Text(msgspec.Struct, frozen=True):
    """What a view returns for an answer that is text: the body, and headers of its own."""

    body: str
    headers: dict[str, str]


class Answered(msgspec.Struct, frozen=True):
    """What a view returns for an answer whose status is not its usual one."""

    status: int
    body: msgspec.Struct


def answer(status: int = 200) -> Callable[[Callable[..., Any]], Callable[..., Response]]:
    """Decorator of a view: its result becomes the JSON body of an answer with this status, or a
    `Text` its text, a `Response` stays what it is, and every exception becomes the answer for that
    error."""

    def decorate(view: Callable[..., Any]) -> Callable[..., Response]:
        @functools.wraps(view)
        def answered(**arguments: str) -> Response:
            try:
                result = view(**arguments)
                if isinstance(result, Response):
                    return result
                if isinstance(result, Text):
                    headers: dict[str, str | list[str]] = {**TEXT_HEADERS, **result.headers}
                    return Response(result.body, headers=headers, status_code=status)
                given = status
                if isinstance(result, Answered):
                    given, result = result.status, result.body
                body = msgspec.json.encode(result).decode()
            except Exception as error:  # noqa: BLE001 - nothing may reach the client unchecked
                response = _error_response(error)
                if response is None:
                    _log.exception("a request failed", extra=fields("request_failed", view=name))
                    return _error(500, "InternalServerError", "An internal server error occurred.")
                return response
            return Response(body, headers=dict(JSON_HEADERS), status_code=given)

        name = view.__name__
        return answered

    return decorate


def _error_response(error: Exception) -> Response | None:
    """Returns the answer for an expected error, None for any other."""
    if isinstance(error, TransientError | LimitReached):
        _log.warning(
            "a request was refused for now", extra=fields("turned_away", reason=str(error))
        )
        wait_s = max(1, math.ceil(error.retry_after_s or RETRY_AFTER_S))
        if isinstance(error, LimitReached):
            return _error(429, "TooManyRequestsError", str(error), {"Retry-After": str(wait_s)})
        return _error(
            503,
            "ServiceUnavailableError",
            f"The queue or the table is busy; send the same request again in {wait_s} s.",
            {"Retry-After": str(wait_s)},
        )
    for kind in type(error).__mro__:
        if kind in _TABLE:
            return _error(*_TABLE[kind], str(error))
    return None


def _error(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> Response:
    if len(message) > MESSAGE_MAX_CHARS:
        message = message[:MESSAGE_MAX_CHARS] + "..."
    # It quotes the request, and people read it in a terminal.
    body = msgspec.json.encode(Error(code, printable(message))).decode()
    return Response(body, headers={**JSON_HEADERS, **(headers or {})}, status_code=status)
