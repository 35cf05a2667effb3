"""Answers about the service, the caller, and errors."""

from __future__ import annotations

from typing import Literal

import msgspec


class Me(msgspec.Struct, frozen=True):
    """Whose token the request has.

    `role` is `reader` for a token that sees what the client has and changes nothing, and `writer`
    for any other. `expires_at` is the time in ISO 8601, UTC, from which the token is refused; it is
    null for a minute after an upgrade of the service.
    """

    client_id: str
    role: Literal["reader", "writer"]
    expires_at: str | None


class Health(msgspec.Struct, frozen=True):
    """The service answers: `status` is `ok`, `version` that of Taskfleet."""

    status: str
    version: str


class Error(msgspec.Struct, frozen=True):
    """The body of an error. `Code` names the kind of error; `Message` says what is wrong, where,
    and what to do."""

    # The names of the fields are those of Chalice's own errors.
    Code: str
    Message: str
