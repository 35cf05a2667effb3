"""The authorizer in front of every route but the public ones: finds out which client calls, and
whether it may change anything. Owns the header and the answer to API Gateway; not the token itself
(`taskfleet.wire.token`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from chalice.app import AuthRequest, AuthResponse, AuthRoute, Chalice, ChaliceAuthorizer

from chalice_app.services import Services
from taskfleet.log import fields
from taskfleet.wire import token
from taskfleet.wire.http.times import iso_time

_log = logging.getLogger(__name__)

CACHE_S = 60
"""Seconds for which API Gateway caches an answer. An expired token may work for so much longer."""

READER_METHOD = "GET"
"""The only method that a reader may call. No view of it changes what belongs to a client."""


def add_authorizer(app: Chalice, services: Callable[[], Services]) -> ChaliceAuthorizer:
    """Adds the authorizer to the app. Returns it, for the routes."""

    @app.authorizer(ttl_seconds=CACHE_S)
    def authorize(request: AuthRequest) -> AuthResponse | dict[str, Any]:
        scheme, _, credential = request.token.strip().partition(" ")
        secret = services().token_secret()
        try:
            if scheme.lower() != "bearer":
                raise token.InvalidToken("the scheme is not Bearer")
            bearer = token.read(credential.strip(), secret, services().clock.now())
        except token.InvalidToken as error:
            _log.info("a token was refused", extra=fields("token_refused", reason=str(error)))
            return _denied()
        # API Gateway caches the answer by token, for every route: it must allow all that the token
        # may call.
        routes = [AuthRoute("*", [READER_METHOD] if bearer.role is token.Role.READER else ["*"])]
        context = {"role": bearer.role.value, "expires_at": iso_time(bearer.expires_at)}
        return AuthResponse(routes=[*routes], principal_id=bearer.client_id, context=context)

    authorizer: ChaliceAuthorizer = authorize
    return authorizer


def _denied() -> dict[str, Any]:
    """Returns an explicit denial. Chalice's own, which allows no resource, is not a valid IAM
    policy."""
    statement = {"Effect": "Deny", "Action": "execute-api:Invoke", "Resource": ["*"]}
    return {
        "principalId": "nobody",
        "context": {},
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
