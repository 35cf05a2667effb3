"""Looks at an API as one of its clients: is it there, does it take the token, and do clocks and
versions agree? Each call is made once, so that the answer is that of now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime

import msgspec
import requests

from taskfleet import __version__
from taskfleet.checkup import api
from taskfleet.checkup.clock import clock
from taskfleet.checkup.finding import Finding, fault, ok
from taskfleet.client.endpoint import Endpoint
from taskfleet.client.transport import Bearer, new_session, no_auth, root_cause
from taskfleet.wire import token
from taskfleet.wire.http.service import Health

TIMEOUT_S = (5.0, 30.0)
"""Longest time to connect, and between two bytes of an answer, in seconds."""


def look_at_api(endpoint: Endpoint, now: Callable[[], float]) -> Iterator[Finding]:
    """Yields what there is to say of the API and the token.

    now: returns the time, in epoch seconds.
    """
    url = endpoint.url.strip().rstrip("/")
    yield api.token(token.valid_until(endpoint.token.strip()), now())
    try:
        with new_session(url) as session:
            health = session.get(
                f"{url}/health", timeout=TIMEOUT_S, allow_redirects=False, auth=no_auth
            )
            listed = session.get(
                f"{url}/batches",
                params={"limit": "1"},
                timeout=TIMEOUT_S,
                allow_redirects=False,
                auth=Bearer(endpoint.token.strip()),
            )
    except requests.RequestException as error:
        again = "it has ended? start it again: python -m localcloud"
        advice = again if endpoint.local else "is the URL right?"
        yield fault("API", f"cannot reach {url}: {root_cause(error)}", advice)
        return
    yield from _health(url, health)
    yield clock(_skew_s(health, now()), "the API")
    yield api.accepted(listed.status_code)


def _health(url: str, answer: requests.Response) -> Iterator[Finding]:
    try:
        known = msgspec.json.decode(answer.content, type=Health)
    except msgspec.DecodeError:
        found = f"{url} does not answer as Taskfleet does (status {answer.status_code})"
        yield fault("API", found, "is the URL right?")
        return
    yield ok("API", f"{url} is {known.status}")
    yield api.version(known.version, __version__)


def _skew_s(answer: requests.Response, now: float) -> float | None:
    """Returns the seconds by which this computer is ahead of the API's, to a second."""
    try:
        return now - parsedate_to_datetime(answer.headers.get("Date", "")).timestamp()
    except ValueError:
        return None
