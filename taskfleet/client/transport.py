"""HTTP for the client: one call with its time-outs and retries. Owns the sending and reading; not
the errors and which of them are retried (`taskfleet.client.answers`), nor which calls there are
(`taskfleet.client.client`).
"""

from __future__ import annotations

import html
import math
import random
import re
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import msgspec
import requests
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase
from urllib3.util.retry import Retry

from taskfleet import __version__
from taskfleet.client.answers import (
    ApiError,
    ClientError,
    Unreachable,
    pause_s,
    refusal,
    retries,
)
from taskfleet.client.body import FormBody
from taskfleet.clock import SystemClock
from taskfleet.ports import Clock

CONNECT_TIMEOUT_S = 5.0
"""Longest time to connect, in seconds."""
READ_TIMEOUT_S = 35.0
"""Longest time without a byte of an answer, in seconds. API Gateway answers within 29 s, so this
also covers an answer that is held with `wait`."""
BACKOFF_S = 0.3
"""Factor of the growing pause between retries, in seconds."""
CONNECT_RETRIES = 3
"""Retries after a lost connection."""
_JSON = {"Content-Type": "application/json"}

_LOOPBACK = ("127.0.0.1", "localhost", "::1")

T = TypeVar("T")


def new_session(url: str) -> requests.Session:
    """Returns a session for the host of `url`, which sends no token and tries nothing again."""
    session = requests.Session()
    # No proxy for this machine: to a proxy, loopback addresses mean the proxy's own machine.
    session.trust_env = urlsplit(url).hostname not in _LOOPBACK
    session.headers["User-Agent"] = f"taskfleet/{__version__}"
    return session


class Transport:
    """Calls the API at `url` as the client that `token` names. For one thread at a time.

    Lost connections are retried, and answers that `taskfleet.client.answers.retries` names, after
    `Retry-After` or a growing pause. Every call may arrive twice: one that makes something names it
    by an idempotency key.

    backoff_s, read_timeout_s: as `BACKOFF_S` and `READ_TIMEOUT_S`.
    clock: its `sleep` makes the pauses after an answer; the system's clock unless given.
    rng: draws their random part.

    Raises ValueError if the URL or the token is malformed.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        backoff_s: float = BACKOFF_S,
        read_timeout_s: float = READ_TIMEOUT_S,
        clock: Clock | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.url = url.strip().rstrip("/")
        if not re.fullmatch(r"https?://[^/\s?#]+(/[^\s?#]*)?", self.url):
            raise ValueError(f"{url!r} is not the URL of an API, such as http://127.0.0.1:8000")
        token = token.strip()
        if not re.fullmatch(r"[!-~]+", token):
            raise ValueError("the token is empty, or has characters that no token can have")
        self._read_timeout_s = read_timeout_s
        self._backoff_s = backoff_s
        self._clock = clock or SystemClock()
        self._rng = rng or random.Random()
        self._session = self._make_session(self.url)
        self._session.auth = Bearer(token)

    def _make_session(self, url: str) -> requests.Session:
        session = new_session(url)
        retry = Retry(
            total=None,
            connect=CONNECT_RETRIES,
            read=CONNECT_RETRIES,
            other=0,
            status=0,  # `_request` tries again after an answer
            # Every method is retried: a POST may arrive twice, since it has an idempotency key.
            allowed_methods=None,
            backoff_factor=self._backoff_s,
            backoff_jitter=self._backoff_s / 2,
            raise_on_status=False,
            respect_retry_after_header=False,
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
        headers: Mapping[str, str] | None = None,
        until: float | None = None,
    ) -> T:
        """Make one call. Returns the answer's body as an `answer`. Raises ApiError or Unreachable.

        headers: further headers of the request.
        until: time of the clock, in epoch seconds, after which no retry begins.
        """
        response = self._answer(
            method,
            path,
            until,
            params=params,
            data=body,
            headers={**(headers or {}), **(_JSON if body is not None else {})},
        )
        try:
            return msgspec.json.decode(response.content, type=answer)
        except msgspec.DecodeError as error:
            raise ApiError(
                response.status_code,
                f"{self.url} does not answer as Taskfleet does: {error}; is that URL the API's?",
            ) from None

    def call_text(self, path: str, params: Mapping[str, str]) -> tuple[str, Mapping[str, str]]:
        """GET a text. Returns it and the headers of the answer, whose names are found in upper and
        lower case. Raises ApiError or Unreachable."""
        response = self._answer("GET", path, None, params=params)
        return response.content.decode(errors="replace"), response.headers

    def _answer(
        self, method: str, path: str, until: float | None, **options: Any
    ) -> requests.Response:
        """Returns the answer of the API. Raises ApiError unless it is a success."""
        response = self._request(self._session, method, self.url + path, until, **options)
        if not 200 <= response.status_code < 300:
            raise refusal(response)
        return response

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
            session.auth = no_auth
            response = self._request(
                session, "POST", url, data=form, headers={"Content-Type": form.content_type}
            )
        if not 200 <= response.status_code < 300:
            match = re.search(r"<Message>(.*?)</Message>", response.text, re.DOTALL)
            reason = html.unescape(match[1]) if match else response.reason
            raise ApiError(response.status_code, f"the file was refused: {reason}")

    def _request(
        self,
        session: requests.Session,
        method: str,
        url: str,
        until: float | None = None,
        **options: Any,
    ) -> requests.Response:
        """Returns the first answer that is not to be retried, or the last one."""
        attempt = 0
        while True:
            response = self._request_once(session, method, url, **options)
            if attempt >= retries(response):
                return response
            wait_s = pause_s(response, attempt, self._backoff_s, self._rng.random())
            left_s = math.inf if until is None else max(0.0, until - self._clock.now())
            self._clock.sleep(min(wait_s, left_s))
            if wait_s >= left_s:
                return response
            attempt += 1

    def _request_once(
        self, session: requests.Session, method: str, url: str, **options: Any
    ) -> requests.Response:
        if isinstance(options.get("data"), FormBody):
            options["data"].seek(0)
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
                f"cannot reach {where}: {root_cause(error)}; is it running, and is the URL right?"
            ) from error
        except requests.RequestException as error:
            raise ClientError(f"cannot call {url}: {error}") from error


def no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Send no credentials, not even from ~/.netrc."""
    return request


class Bearer(AuthBase):
    """Sends the bearer token. If it were a plain header, `requests` would replace it by a password
    from ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def root_cause(error: Exception) -> str:
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
