"""Bearer tokens: signed JSON Web Tokens (RFC 7519) that name a client and its role. Owns a token's
claims and when it is valid; not the HTTP header around it (`chalice_app.auth`), the keys that sign
it (`taskfleet.wire.keys`) nor their source (`chalice_app.secret`).

A `secret` is the text in which `TASKFLEET_TOKEN_SECRET` or the SSM parameter holds the keys.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any

import jwt
import msgspec

from taskfleet.batch import is_client_id
from taskfleet.errors import TaskfleetError
from taskfleet.wire.keys import Keys

ALGORITHM = "HS256"
"""The only signature algorithm that is accepted (HMAC with SHA-256, RFC 7518)."""
PARTY = "taskfleet"
"""Both the issuer and the audience of every token."""

EXPIRES_MAX = 253_402_300_799
"""Latest end of a token, in epoch seconds: that of the year 9999, the last that a date can have."""


class InvalidToken(TaskfleetError):
    """The token cannot be trusted. The message says why and contains nothing of the secret."""


class Role(StrEnum):
    """The rights of who bears a token."""

    READER = "reader"
    """See what the client has, and change nothing."""
    WRITER = "writer"
    """Everything that the client may do."""


class Bearer(msgspec.Struct, frozen=True):
    """Whom a token names, with what role, and when it expires, in epoch seconds."""

    client_id: str
    role: Role
    expires_at: float


def make(secret: str, client_id: str, ttl_s: float, now: float, role: Role = Role.WRITER) -> str:
    """Returns a token for `client_id` that is valid for `ttl_s` seconds from `now` (epoch seconds),
    signed with the first key of the secret. The token of a writer has no claim about its role, as
    those of earlier versions.

    Raises ValueError when `client_id` is malformed or the token would expire after the year 9999,
    SettingsError when the secret is missing, too short or malformed.
    """
    if not is_client_id(client_id):
        raise ValueError(
            f"{client_id!r:.60} is not a client id: 1 to 128 printable ASCII characters, no blanks"
        )
    if now + ttl_s > EXPIRES_MAX:
        raise ValueError("the token would expire after the year 9999")
    keys = Keys.parse(secret)
    issued = int(now)
    claims: dict[str, Any] = {
        "iss": PARTY,
        "aud": PARTY,
        "client_id": client_id,
        "iat": issued,
        "exp": math.ceil(now + ttl_s),
    }
    if role is not Role.WRITER:
        claims["role"] = role
    return jwt.encode(claims, keys.keys[0], algorithm=ALGORITHM, headers={"kid": keys.kids[0]})


def read(token: str, secret: str, now: float) -> Bearer:
    """Returns whom the token names, and with what role.

    Raises InvalidToken when the token was not made with a key of this secret, was altered, has
    expired at `now` (epoch seconds), is revoked or has a role that is none; SettingsError when the
    secret is missing, too short or malformed.
    """
    keys = Keys.parse(secret)
    claims = _verified(token, keys)
    expires, client_id = claims["exp"], claims["client_id"]
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise InvalidToken("not a valid token: exp is not a number")
    if expires > EXPIRES_MAX:
        raise InvalidToken("not a valid token: exp lies after the year 9999")
    if not now < expires:
        raise InvalidToken("the token has expired")
    if not isinstance(client_id, str) or not is_client_id(client_id):
        raise InvalidToken("not a valid token: client_id is not a name")
    if keys.revokes(client_id, claims.get("iat")):
        raise InvalidToken("the token is revoked")
    role = claims.get("role", Role.WRITER)
    if role not in tuple(Role):
        raise InvalidToken("not a valid token: role is neither reader nor writer")
    return Bearer(client_id, Role(role), float(expires))


def _verified(token: str, keys: Keys) -> dict[str, Any]:
    """Returns the claims of a token that one of the keys signed. Raises InvalidToken."""
    failure: Exception | None = None
    try:
        header = jwt.get_unverified_header(token)
        if "kid" in header and not isinstance(header["kid"], str):
            raise InvalidToken("not a valid token: kid is not text")
        for key in keys.named(header.get("kid")):
            try:
                return _decoded(token, key)
            except jwt.InvalidSignatureError as error:
                failure = error
    except (jwt.InvalidTokenError, UnicodeEncodeError) as error:
        failure = error
    raise InvalidToken(f"not a valid token: {failure or 'its key is none of the live keys'}")


def _decoded(token: str, key: str) -> dict[str, Any]:
    """Returns the claims of a token that the key signed. Raises an error of PyJWT."""
    claims: dict[str, Any] = jwt.decode(
        token,
        key,
        algorithms=[ALGORITHM],
        audience=PARTY,
        issuer=PARTY,
        # Expiry is checked against the caller's time; the library would use the machine's clock.
        options={
            "require": ["exp", "iss", "aud", "client_id"],
            "verify_exp": False,
            "verify_iat": False,
            "verify_nbf": False,
        },
    )
    return claims


def valid_until(token: str) -> float | None:
    """Returns when a token expires by its own word, in epoch seconds; None when it is no token of
    Taskfleet. Nothing is verified, so this is for the holder's eyes only."""
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except (jwt.InvalidTokenError, UnicodeEncodeError):
        return None
    expires: Any = claims.get("exp")
    is_date = isinstance(expires, int | float) and 0 <= expires <= EXPIRES_MAX
    ours = claims.get("iss") == PARTY and is_date
    return float(expires) if ours else None
