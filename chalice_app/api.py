"""The parts that all routes of the HTTP API share: the authorizer in front of them, and how a view
reads its request. Owns no path (`chalice_app.routes`, `chalice_app.stage_routes`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from chalice.app import Chalice, ChaliceAuthorizer, Request

from chalice_app.errors import Unprocessable
from chalice_app.services import Services
from taskfleet.wire.http.results import PREFER, RETURN_MINIMAL
from taskfleet.wire.http.service import Me
from taskfleet.wire.token import Role

T = TypeVar("T")


class Api:
    """Adds routes to an app, and reads the request that is being answered.

    services: returns the services, the same at each call.
    """

    def __init__(
        self, app: Chalice, services: Callable[[], Services], authorizer: ChaliceAuthorizer
    ) -> None:
        self._app = app
        self._authorizer = authorizer
        self.services = services

    def route(
        self, path: str, method: str = "GET", *, content_types: Sequence[str] = ()
    ) -> Callable[..., Any]:
        """Returns the decorator of a view that needs a token. A body of any other than these
        content types is refused; without any, all are taken."""
        decorator: Callable[..., Any] = self._app.route(
            path,
            methods=[method],
            authorizer=self._authorizer,
            content_types=list(content_types),
        )
        return decorator

    def public(self, path: str) -> Callable[..., Any]:
        """Returns the decorator of a view for GET that needs no token."""
        decorator: Callable[..., Any] = self._app.route(path, content_types=[])
        return decorator

    @property
    def request(self) -> Request:
        current = self._app.current_request
        if current is None:
            raise RuntimeError("a view was called outside a request")
        return current

    @property
    def raw(self) -> bytes:
        """The body of the request."""
        body = self.request.raw_body
        return body if isinstance(body, bytes) else body.encode()

    @property
    def query(self) -> Mapping[str, list[str]] | None:
        event: Mapping[str, Any] = self.request.to_original_event()
        parameters: Mapping[str, list[str]] | None = event["multiValueQueryStringParameters"]
        return parameters

    @property
    def wants_brief(self) -> bool:
        """Returns whether the client prefers a small answer (RFC 7240, `return=minimal`)."""
        found = self.request.headers.get(PREFER, "")
        return any(each.strip().lower() == RETURN_MINIMAL for each in found.split(","))

    @property
    def client_id(self) -> str:
        return str(self.request.context["authorizer"]["principalId"])

    @property
    def me(self) -> Me:
        """Who calls."""
        context = self.request.context["authorizer"]
        # An answer of the authorizer's earlier version may be cached for a minute.
        reads_only = context.get("role") == Role.READER
        return Me(self.client_id, "reader" if reads_only else "writer", context.get("expires_at"))


def with_cursor(cursor: str | None, read: Callable[[], T]) -> T:
    """Calls `read`. Its ValueError becomes Unprocessable if there is a cursor: the methods of the
    core raise ValueError for a malformed cursor only."""
    try:
        return read()
    except ValueError:
        if cursor is None:
            raise
        raise Unprocessable(
            f"the query: cursor {cursor!r:.60} is not one that this API gave"
        ) from None
