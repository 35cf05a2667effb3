"""Bearer tokens: signed JSON Web Tokens (RFC 7519) that name a client. Owns a token's claims and
when it is valid; not the HTTP header around it (`chalice_app.auth`) nor the secret's source
(`taskfleet.settings`, `chalice_app.wiring`).
"""

from __future__ import annotations

import math

import jwt

from taskfleet.errors import SettingsError, TaskfleetError
from taskfleet.settings import SECRET_MIN_BYTES

ALGORITHM = "HS256"
"""The only signature algorithm that is accepted (HMAC with SHA-256, RFC 7518)."""
PARTY = "taskfleet"
"""Both the issuer and the audience of every token."""


class InvalidToken(TaskfleetError):
    """The token cannot be trusted. The message says why and contains nothing of the secret."""


def make(secret: str, client_id: str, ttl_s: float, now: float) -> str:
    """Returns a token for `client_id` that is valid for `ttl_s` seconds from `now` (epoch seconds).

    Raises ValueError when `client_id` is empty, SettingsError when the secret is missing or too
    short.
    """
    if not client_id:
        raise ValueError("a token needs a client_id")
    issued = int(now)
    claims = {
        "iss": PARTY,
        "aud": PARTY,
        "client_id": client_id,
        "iat": issued,
        "exp": math.ceil(now + ttl_s),
    }
    return jwt.encode(claims, _checked(secret), algorithm=ALGORITHM)


def read(token: str, secret: str, now: float) -> str:
    """Returns the `client_id` that the token names.

    Raises InvalidToken when the token was not made with this secret, was altered, or has expired at
    `now` (epoch seconds); SettingsError when the secret is missing or too short.
    """
    try:
        claims = jwt.decode(
            token,
            _checked(secret),
            algorithms=[ALGORITHM],
            audience=PARTY,
            issuer=PARTY,
            # Expiry is checked below against `now`; the library would use the machine's clock.
            options={
                "require": ["exp", "iss", "aud", "client_id"],
                "verify_exp": False,
                "verify_iat": False,
                "verify_nbf": False,
            },
        )
    except (jwt.InvalidTokenError, UnicodeEncodeError) as error:
        raise InvalidToken(f"not a valid token: {error}") from None
    expires, client_id = claims["exp"], claims["client_id"]
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise InvalidToken("not a valid token: exp is not a number")
    if not now < expires:
        raise InvalidToken("the token has expired")
    if not isinstance(client_id, str) or not client_id:
        raise InvalidToken("not a valid token: client_id is not a name")
    return client_id


def _checked(secret: str) -> str:
    """Returns the secret. Raises SettingsError when it is too short: with an empty secret anybody
    could sign tokens."""
    if len(secret.encode()) < SECRET_MIN_BYTES:
        raise SettingsError(f"the token secret must have at least {SECRET_MIN_BYTES} bytes")
    return secret
