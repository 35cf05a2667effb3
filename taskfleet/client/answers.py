"""What an answer of the API, or its lack, means to the client: the errors of a call, and which
answers are retried, how often and when. Pure functions; `taskfleet.client.transport` does the
calling.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
import requests
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from taskfleet.errors import TaskfleetError

THROTTLED_RETRIES = 40
"""Retries after an answer with the status 429. API Gateway gives it to whoever calls while the
stage's limit of calls is used up: nothing is wrong, and the limit frees itself. With the pauses up
to `BACKOFF_MAX_S` they take about ten minutes."""
STATUS_RETRIES = 6
"""Retries after any other answer that may differ soon."""
PASSING_STATUS = frozenset({502, 503, 504})
"""HTTP statuses of such answers, besides 429 and the 500 of `_is_of_gateway`."""
BACKOFF_MAX_S = 20.0
"""Longest pause between two tries without `Retry-After`, in seconds."""
RETRY_AFTER_MAX_S = 60.0
"""Longest pause that a server can ask for with `Retry-After`, in seconds."""

MESSAGE_MAX_CHARS = 1_000
"""Longest message of an answer that an error quotes, in characters. The API's are shorter."""

_TASK_AT = re.compile(r"task (\d+): (.*)", re.DOTALL)


class ClientError(TaskfleetError):
    """Base of the errors that the client raises."""

    retried = False
    """True when the call was made again, and gave up after some times."""

    @property
    def passing(self) -> bool:
        """True when the same call may succeed later."""
        return False


class ApiError(ClientError):
    """The API refused a call.

    status: the HTTP status.
    message: the API's message.
    index: place of the faulty task among those submitted, from 0; None when no task is named.
    reason: what is wrong with that task; the message when no task is named.
    """

    def __init__(self, status: int, message: str, *, retried: bool = False) -> None:
        super().__init__(f"{message} (HTTP {status})")
        match = _TASK_AT.fullmatch(message) if status == 422 else None
        self.status = status
        self.retried = retried
        self.message = message
        self.index = int(match[1]) if match else None
        self.reason = match[2] if match else message

    @property
    def passing(self) -> bool:
        return self.status == 429 or self.status >= 500


class Unreachable(ClientError):
    """No answer came: nothing listens there, the host is unknown, or the connection broke."""

    retried = True

    @property
    def passing(self) -> bool:
        return True


def retries(response: requests.Response) -> int:
    """Returns how many times a call with this answer is made again, 0 if never."""
    status = response.status_code
    if status == 429:
        return THROTTLED_RETRIES
    if status in PASSING_STATUS or (status == 500 and _is_of_gateway(response)):
        return STATUS_RETRIES
    return 0


def _is_of_gateway(response: requests.Response) -> bool:
    """Tells whether API Gateway made the answer, and not the API, whose errors have a `Code`. API
    Gateway answers 500 when the authorizer fails, and when Lambda has no function free."""
    body = _body(response)
    return "message" in body and "Code" not in body


def pause_s(response: requests.Response, attempt: int, backoff_s: float, draw: float) -> float:
    """Returns the seconds until a call with this answer is made again: those that the header
    `Retry-After` asks for, else a pause that doubles with each attempt.

    attempt: number of retries so far.
    backoff_s: longest pause before the first retry.
    draw: random number from 0 to 1; the pause is between its half and all of it.
    """
    try:
        asked = Retry().parse_retry_after(response.headers["Retry-After"])
        return min(asked, RETRY_AFTER_MAX_S)
    except (KeyError, InvalidHeader, ValueError, OverflowError):  # none, or no time
        return min(backoff_s * 2.0**attempt, BACKOFF_MAX_S) * (1 + draw) / 2


def _body(response: requests.Response) -> dict[str, Any]:
    """Returns the body of an answer if it is a JSON object, else an empty one."""
    try:
        return msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.DecodeError:
        return {}


def refusal(response: requests.Response) -> ApiError:
    """Returns the error for an answer that is not a success, with the message of the API
    (`{"Code", "Message"}`) or of API Gateway (`{"message"}`)."""
    status = response.status_code
    body = _body(response)
    given = body.get("Message") or body.get("message")
    message = given if isinstance(given, str) else response.reason or "no reason given"
    message = message[:MESSAGE_MAX_CHARS]
    if status in (401, 403):
        message += "; the token may be wrong or expired"
    if 300 <= status < 400:
        message += f"; the API moved to {response.headers.get('Location', 'an unknown place'):.200}"
    return ApiError(status, message, retried=retries(response) > 0)
