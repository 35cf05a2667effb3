"""HTTP as the client needs it: one call, its time-outs, its retries, and what can go wrong. Owns
those errors; not which calls there are (`taskfleet.client.client`)."""

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
from urllib3.util.retry import Retry

from taskfleet import __version__
from taskfleet.client.body import FormBody
from taskfleet.errors import TaskfleetError

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 35.0
"""Above the 29 s that API Gateway gives an answer, and so above every `wait`."""
BACKOFF_S = 0.3
RETRY_AFTER_MAX_S = 60
CONNECT_RETRIES = 3
STATUS_RETRIES = 6
RETRIED_STATUS = frozenset({429, 502, 503, 504})

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_TASK_AT = re.compile(r"task (\d+): (.*)", re.DOTALL)

T = TypeVar("T")


class ClientError(TaskfleetError):
    """Base of what the client raises by itself."""

    @property
    def passing(self) -> bool:
        """Whether the same call may work later."""
        return False


class ApiError(ClientError):
    """The API refused. `status` is HTTP's, `message` the API's own; `index` is the place, in what
    was submitted, of the task at fault, from 0, and `reason` what is wrong with it, or the
    message when it is about no single task."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{message} (HTTP {status})")
        found = _TASK_AT.fullmatch(message) if status == 422 else None
        self.status = status
        self.message = message
        self.index = int(found[1]) if found else None
        self.reason = found[2] if found else message

    @property
    def passing(self) -> bool:
        return self.status == 429 or self.status >= 500


class Unreachable(ClientError):
    """No answer came: nobody listens, the name is not known, the connection broke."""

    @property
    def passing(self) -> bool:
        return True


class Transport:
    """Calls to the API at `url`, as the client that `token` names; ValueError for either that
    is none. Retried on 429, 502, 503, 504 and lost connections, after `Retry-After` or with backoff
    (`backoff_s` is urllib3's factor). Not to be shared between threads."""

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
            raise ValueError("the token is empty, or has characters that no token has")
        self._read_timeout_s = read_timeout_s
        self._backoff_s = backoff_s
        self._session = self._make_session(self.url)
        self._session.auth = _Bearer(token)

    def _make_session(self, url: str) -> requests.Session:
        session = requests.Session()
        # A proxy's loopback is not this machine's.
        session.trust_env = urlsplit(url).hostname not in _LOOPBACK
        session.headers["User-Agent"] = f"taskfleet/{__version__}"
        retry = _Retry(
            total=None,
            connect=CONNECT_RETRIES,
            read=CONNECT_RETRIES,
            other=0,
            status=STATUS_RETRIES,
            status_forcelist=RETRIED_STATUS,
            # Every call may come twice: a POST carries its idempotency key.
            allowed_methods=None,
            backoff_factor=self._backoff_s,
            backoff_jitter=self._backoff_s / 2,
            raise_on_status=False,
        )
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=retry))
        return session

    def close(self) -> None:
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
        """The answer's body as an `answer`; ApiError or Unreachable when there is none."""
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
        """POST a file in a form that the API made; ApiError or Unreachable when it was not taken.
        The form is its own permission: no token goes there."""
        form = FormBody(fields, file, on_sent)
        with self._make_session(url) as session:
            session.auth = _no_auth
            response = self._request(
                session, "POST", url, data=form, headers={"Content-Type": form.content_type}
            )
        if not 200 <= response.status_code < 300:
            found = re.search(r"<Message>(.*?)</Message>", response.text, re.DOTALL)
            said = html.unescape(found[1]) if found else response.reason
            raise ApiError(response.status_code, f"the file was not taken: {said}")

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
                f"cannot reach {where}: {_root(error)}; is it running, and the URL right?"
            ) from error
        except requests.RequestException as error:
            raise ClientError(f"cannot call {url}: {error}") from error


def _no_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Nor a password of `~/.netrc`."""
    return request


class _Bearer(AuthBase):
    """As a header alone the token would give way to a password in `~/.netrc`."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Retry(Retry):
    """With a cap on what a server may ask for."""

    def get_retry_after(self, response: Any) -> float | None:
        seconds = super().get_retry_after(response)
        return None if seconds is None else min(seconds, RETRY_AFTER_MAX_S)


def _refusal(response: requests.Response) -> ApiError:
    """In the API's words (`{"Code", "Message"}`), or API Gateway's (`{"message"}`)."""
    status = response.status_code
    try:
        body = msgspec.json.decode(response.content, type=dict[str, Any])
        said = body.get("Message") or body.get("message")
    except msgspec.DecodeError:
        said = None
    message = said if isinstance(said, str) else response.reason or "no reason given"
    if status in (401, 403):
        message += "; the token may be wrong or expired"
    if 300 <= status < 400:
        message += f"; the API moved to {response.headers.get('Location')}"
    return ApiError(status, message)


def _root(error: Exception) -> str:
    """The innermost reason that requests and urllib3 have wrapped."""
    reason: Any = error
    while True:
        inner = getattr(reason, "reason", None) or next(
            (arg for arg in reversed(getattr(reason, "args", ())) if isinstance(arg, Exception)),
            None,
        )
        if not isinstance(inner, Exception):
            return str(reason).rpartition("): ")[2] or type(reason).__name__
        reason = inner
