"""HTTP for the client: one call with its time-outs and retries. Owns the errors of a call; not
which calls there are (`taskfleet.client.client`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from taskfleet import __version__
from taskfleet.client.body import FormBody
from taskfleet.errors import TaskfleetError

CONNECT_TIMEOUT_S = 5.0
"""Longest time to connect, in seconds."""
READ_TIMEOUT_S = 35.0
"""Longest time without a byte of an answer, in seconds. API Gateway answers within 29 s, so this
also covers an answer that is held with `wait`."""
BACKOFF_S = 0.3
"""Factor of the growing pause between retries, in seconds (`backoff_factor` of urllib3)."""
RETRY_AFTER_MAX_S = 60
"""Longest pause that a server can ask for with `Retry-After`, in seconds."""
MESSAGE_MAX_CHARS = 1_000
"""Longest message of an answer that an error quotes, in characters. The API's are shorter."""
CONNECT_RETRIES = 3
"""Retries after a lost connection."""
STATUS_RETRIES = 6
"""Retries after an answer with a status of `RETRIED_STATUS`."""
RETRIED_STATUS = frozenset({429, 502, 503, 504})
"""HTTP statuses of answers that are retried."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TASK_AT = re.compile(r"task (\d+): (.*)", re.DOTALL)

T = TypeVar("T")


class ClientError(TaskfleetError):
    """Base of the errors that the client raises."""

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

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (HTTP {status})")
        match = _TASK_AT.fullmatch(message) if status == 422 else None
        self.status = status
        self.message = message
        self.index = int(match[1]) if match else None
        self.reason = match[2] if match else message

    @property
    def passing(self) -> bool:
        return self.status == 429 or self.status >= 500


class Unreachable(ClientError):
    """No answer came: nothing listens there, the host is unknown, or the connection broke."""

    @property
    def passing(self) -> bool:
        return True


class Transport:
    """Calls the API at `url` as the client that `token` names. For one thread at a time.

    Lost connections and answers of `RETRIED_STATUS` are retried, after `Retry-After` or a growing
    pause.

    backoff_s, read_timeout_s: as `BACKOFF_S` and `READ_TIMEOUT_S`.

    Raises ValueError if the URL or the token is malformed.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        backoff_s: float = BACKOFF_S,
        read_timeout_s: float = READ_TIMEOUT_S,
    ) -> None:
        self.url = url.strip().rstrip("/")
        if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", self.url):
            raise ValueError(f"{url!r} is not the URL of an API, such as http://127.0.0.1:8000")
        token = token.strip()
        if not re.fullmatch(r"[!-~]+", token):
            raise ValueError("the token is empty, or has characters that no token can have")
        self._read_timeout_s = read_timeout_s
        self._backoff_s = backoff_s
        self._session = self._make_session(self.url)
        self._session.auth = _Bearer(token)

    def _make_session(self, url: str) -> requests.Session:
        session = requests.Session()
        # No proxy for this machine: to a proxy, loopback addresses mean the proxy's own machine.
        session.trust_env = urlsplit(url).hostname not in _LOOPBACK
        session.headers["User-Agent"] = f"taskfleet/{__version__}"
        retry = _Retry(
            total=None,
            connect=CONNECT_RETRIES,
            read=CONNECT_RETRIES,
            other=0,
            status=STATUS_RETRIES,
            status_forcelist=RETRIED_STATUS,
            # Every method is retried: a POST may arrive twice, since it has an idempotency key.
            allowed_methods=None,
            backoff_factor=self._backoff_s,
            backoff_jitter=self._backoff_s / 2,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        return session

    def close(self) -> None:
        """Close all connections."""
        self._session.close()

    def call(
        self,
        method: str,
        path: str,
        answer: type[T],
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> T:
        """Make one call. Returns the answer's body as an `answer`. Raises ApiError or
        Unreachable."""
        response = self._request(
            self._session,
            method,
            self.url + path,
            params=params,
            data=body,
            headers={"Content-Type": "application/json"} if body is not None else None,
        )
        if not 200 <= response.status_code < 300:
            raise _refusal(response)
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.DecodeError as error:
            raise ApiError(
                response.status_code,
                f"{self.url} does not answer as Taskfleet does: {error}; is that URL the API's?",
            ) from None

    def send_form(
        self,
        url: str,
        fields: Mapping[str, str],
        file: IO[bytes],
        on_sent: Callable[[int, int], None],
    ) -> None:
        """POST a file in a form that the API made. The form contains the permission, so no token is
        sent. Raises ApiError or Unreachable.

        on_sent: called with the bytes that were sent so far and their total.
        """
        form = FormBody(fields, file, on_sent)
        with self._make_session(url) as session:
            session.auth = _no_auth
            response = self._request(
                session, "POST", url, data=form, headers={"Content-Type": form.content_type}
            )
        if not 200 <= response.status_code < 300:
            match = re.search(r"<Message>(.*?)</Message>", response.text, re.DOTALL)
            reason = html.unescape(match[1]) if match else response.reason
            raise ApiError(response.status_code, f"the file was refused: {reason}")

    def _request(
        self, session: requests.Session, method: str, url: str, **options: Any
    ) -> requests.Response:
        try:
            return session.request(
                method,
                url,
                timeout=(CONNECT_TIMEOUT_S, self._read_timeout_s),
                allow_redirects=False,
                **options,
            )
        except (
            requests.ConnectionError,
            requests.Timeout,
            requests.exceptions.ChunkedEncodingError,
        ) as error:
            where = "{0.scheme}://{0.netloc}".format(urlsplit(url))
            raise Unreachable(
                f"cannot reach {where}: {_root_cause(error)}; is it running, and is the URL right?"
            ) from error
        except requests.RequestException as error:
            raise ClientError(f"cannot call {url}: {error}") from error


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send no credentials, not even from ~/.netrc."""
    return request


class _Bearer(AuthBase):
    """Sends the bearer token. If it were a plain header, `requests` would replace it by a password
    from ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Retry(Retry):
    """Retries that wait at most `RETRY_AFTER_MAX_S`, whatever a server asks for. What it asks for
    counts as nothing if it is no time."""

    def get_retry_after(self, response: Any) -> float | None:
        try:
            seconds = super().get_retry_after(response)
        except (InvalidHeader, ValueError, OverflowError):  # words, endless digits, the year 99999
            return None
        return None if seconds is None else min(seconds, RETRY_AFTER_MAX_S)


def _refusal(response: requests.Response) -> ApiError:
    """Returns the error for an answer that is not a success, with the message of the API
    (`{"Code", "Message"}`) or of API Gateway (`{"message"}`)."""
    status = response.status_code
    try:
        body = msgspec.json.decode(response.content, type=dict[str, Any])
        given = body.get("Message") or body.get("message")
    except msgspec.DecodeError:
        given = None
    message = given if isinstance(given, str) else response.reason or "no reason given"
    message = message[:MESSAGE_MAX_CHARS]
    if status in (401, 403):
        message += "; the token may be wrong or expired"
    if 300 <= status < 400:
        message += f"; the API moved to {response.headers.get('Location', 'an unknown place'):.200}"
    return ApiError(status, message)


def _root_cause(error: Exception) -> str:
    """Returns the message of the innermost error that requests and urllib3 have wrapped."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None) or next(
            (arg for arg in reversed(getattr(reason, "args", ())) if isinstance(arg, Exception)),
            None,
        )
        if not isinstance(inner, Exception):
            # urllib3 puts the repr of a connection in front: "HTTPConnection(...): refused".
            return str(reason).rpartition("): ")[2] or type(reason).__name__
        reason = inner
