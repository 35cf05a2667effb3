"""Bearer tokens: signed JSON Web Tokens that name a client. Owns what such a token holds and when
it is good; not the HTTP header around it (`chalice_app.auth`) nor where the secret comes from
(`taskfleet.settings`)."""

from __future__ import annotations

import math

import jwt

from taskfleet.errors import SettingsError, TaskfleetError

ALGORITHM = "HS256"
PARTY = "taskfleet"
"""Issuer and audience alike."""
SECRET_MIN_BYTES = 32
"""As many as HS256 digests have: a shorter secret is easier to guess than the signature."""


class InvalidToken(TaskfleetError):
    """Not a token to trust; the message says why and holds nothing of the secret."""


def make(secret: str, client_id: str, ttl_s: float, now: float) -> str:
    """A token for `client_id`, good from `now` (epoch seconds) for `ttl_s` seconds. SettingsError
    for a secret that is missing or too short."""
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
    """The `client_id` that a token names. InvalidToken when it is not one of ours, altered, or
    expired at `now` (epoch seconds); SettingsError for a secret that is missing or too short."""
    try:
        claims = jwt.decode(
            token,
            _checked(secret),
            algorithms=[ALGORITHM],
            audience=PARTY,
            issuer=PARTY,
            # The moment is the caller's; the library would take the machine's.
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
    """An empty secret would let anybody sign."""
    if len(secret.encode()) < SECRET_MIN_BYTES:
        raise SettingsError(f"the token secret must have at least {SECRET_MIN_BYTES} characters")
    return secret
