"""Who calls: the authorizer in front of every route but `/health`. Owns the header and the answer
to API Gateway; what a token holds is `taskfleet.wire.token`'s."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from chalice.app import AuthRequest, AuthResponse, Chalice, ChaliceAuthorizer

from chalice_app.services import Services
from taskfleet.log import fields
from taskfleet.wire import token

_log = logging.getLogger(__name__)

CACHE_S = 60
"""How long API Gateway remembers an answer: at most so long does an expired token still work."""


def add_authorizer(app: Chalice, services: Callable[[], Services]) -> ChaliceAuthorizer:
    @app.authorizer(ttl_seconds=CACHE_S)
    def authorize(request: AuthRequest) -> AuthResponse | dict[str, Any]:
        scheme, _, credential = request.token.strip().partition(" ")
        secret = services().token_secret()
        try:
            if scheme.lower() != "bearer":
                raise token.InvalidToken("the scheme is not Bearer")
            client_id = token.read(credential.strip(), secret, services().clock.now())
        except token.InvalidToken as error:
            _log.info("a token was refused", extra=fields("token_refused", reason=str(error)))
            return _denied()
        # The answer is remembered for the token, whatever route it came with: hence all routes.
        return AuthResponse(routes=["*"], principal_id=client_id)

    authorizer: ChaliceAuthorizer = authorize
    return authorizer


def _denied() -> dict[str, Any]:
    """Said outright: an Allow of nothing is not a policy that IAM would take."""
    statement = {"Effect": "Deny", "Action": "execute-api:Invoke", "Resource": ["*"]}
    return {
        "principalId": "nobody",
        "context": {},
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    }
