"""The secret of the tokens as the authorizer knows it, so that a rotated key or a revoked client
takes effect without a restart. Owns when it is read again and for how long an old value serves; not
what it holds (`taskfleet.wire.keys`) nor where it is kept (`taskfleet.aws.ssm`)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from taskfleet.errors import TaskfleetError
from taskfleet.log import fields
from taskfleet.ports import Clock
from taskfleet.wire.keys import REREAD_S, Keys

_log = logging.getLogger(__name__)

KEPT_S = 900.0
"""Seconds for which the last known secret serves while it cannot be read: long enough for a
throttle or a slip in an edit, short enough that a revoked client does not stay for hours."""


class FreshSecret:
    """Returns the secret when it is called.

    read: reads its text, which may be malformed.
    """

    def __init__(self, read: Callable[[], str], clock: Clock) -> None:
        self._read = read
        self._clock = clock
        self._known: tuple[str, float] | None = None
        """The last good text and when it was read."""
        self._next_at = 0.0

    def __call__(self) -> str:
        """Returns the text, read at most `REREAD_S` seconds ago. If it cannot be read, or what is
        read is malformed, returns the last good one until it is `KEPT_S` seconds old, and then
        raises what reading raised. Tries again after another `REREAD_S` seconds."""
        now = self._clock.now()
        if self._known is not None and now < self._next_at:
            return self._known[0]
        try:
            text = self._read()
            Keys.parse(text)
        except TaskfleetError as error:
            if self._known is None or now - self._known[1] >= KEPT_S:
                raise
            text, read_at = self._known
            _log.warning(
                "the token secret could not be read; the last one serves",
                extra=fields("token_secret_kept", reason=str(error), age_s=round(now - read_at)),
            )
        else:
            self._known = text, now
        self._next_at = now + REREAD_S
        return text
