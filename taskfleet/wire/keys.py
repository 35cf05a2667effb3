"""The keys that sign bearer tokens, and the clients whose tokens are revoked. Owns the text in
which `TASKFLEET_TOKEN_SECRET` or the SSM parameter holds them, and the rules of rotating and
revoking; not where the text is kept (`taskfleet.aws.ssm`) nor the tokens (`taskfleet.wire.token`).

The text is either one plain secret, or, if it begins with a brace, a JSON document:

    {"keys": ["<secret>", "<secret>"], "since": 1700000000, "revoked": {"<client>": 1700000000}}
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Annotated, Any

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from taskfleet.batch import is_client_id
from taskfleet.errors import SettingsError
from taskfleet.settings import SECRET_MIN_BYTES
from taskfleet.wire import strictjson

DOCUMENT_MAX_BYTES = 4_096
"""Most bytes of a standard parameter of SSM ("Managing parameter tiers", AWS Systems Manager User
Guide). Beside two new keys it has room for 150 revoked clients with ids of 12 characters, for 78
with ids of 36, for 27 with ids of 128."""
KEY_CHARS = 64
"""Characters of a new key: 384 random bits in base 64."""
REREAD_S = 60.0
"""Seconds after which a process that checks tokens reads the keys again."""
_EpochSeconds = Annotated[int, Meta(ge=0, le=2**53)]


def new_key() -> str:
    """Returns a new random key."""
    return secrets.token_urlsafe(KEY_CHARS * 3 // 4)


class Keys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Keys and revocations.

    keys: the secrets whose tokens are accepted. The first signs new tokens.
    since: when the first key came, in epoch seconds, while an older one lives beside it; else 0.
    revoked: by client id, the epoch second up to which the client's tokens are refused. Those that
        were made later are accepted.
    """

    keys: Annotated[list[str], Meta(min_length=1)]
    since: _EpochSeconds = 0
    revoked: dict[str, _EpochSeconds] = {}

    @classmethod
    def parse(cls, text: str) -> Keys:
        """Returns the keys that a text holds. Raises SettingsError, which says what is wrong and
        quotes no secret."""
        if not text.lstrip().startswith("{"):
            return cls([text])._checked()
        try:
            value = strictjson.loads(text)
        except ValueError:  # its message may quote the text
            raise SettingsError(
                "the token secret begins with a brace, so it must be strict JSON without doubled "
                "keys, and it is not"
            ) from None
        try:
            return msgspec.convert(value, cls)._checked()
        except msgspec.ValidationError as error:
            raise SettingsError(f"the document of the token secret: {error}") from None

    def dump(self) -> str:
        """Returns the text that holds these keys: the plain secret if there is nothing else, since
        versions before this form read only that. Raises SettingsError if the text is too large."""
        if len(self.keys) == 1 and not self.revoked:
            return self.keys[0]
        text = msgspec.json.encode(self).decode()
        if len(text.encode()) > DOCUMENT_MAX_BYTES:
            raise SettingsError(
                f"{len(self.revoked)} revoked clients take more than the parameter's "
                f"{DOCUMENT_MAX_BYTES} bytes; nothing was changed: to forget them, run taskfleet "
                "keys rotate, hand out new tokens, run taskfleet keys retire"
            )
        return text

    @property
    def kids(self) -> list[str]:
        """The ids of the keys, in their order. A token names its key by it (RFC 7515, 4.1.4)."""
        return [_kid(key) for key in self.keys]

    def named(self, kid: str | None) -> list[str]:
        """Returns the keys that may have signed a token: the one of this id, if it is here, or all
        for a token without an id, as earlier versions made them."""
        return [key for key in self.keys if kid is None or _kid(key) == kid]

    def revokes(self, client_id: str, issued: Any) -> bool:
        """Returns whether a token of the client is revoked that claims to be made at `issued`. It
        is if the client is revoked and `issued` is no number."""
        until = self.revoked.get(client_id)
        if until is None:
            return False
        is_number = isinstance(issued, int | float) and not isinstance(issued, bool)
        return not (is_number and issued > until)

    def rotated(self, new: str, now: float) -> Keys:
        """Returns these keys with `new` as the one that signs. The one that signed before stays
        accepted. Raises SettingsError if two keys live already."""
        if len(self.keys) > 1:
            raise SettingsError(
                "two keys live already; taskfleet keys retire ends the older one, and all tokens "
                "that it signed"
            )
        return replace(self, keys=[new, *self.keys], since=int(now))._checked()

    def retired(self) -> Keys:
        """Returns these keys with the first only, and without the revocations from before it came:
        all tokens that those refuse end with the older key."""
        needed = {client: until for client, until in self.revoked.items() if until >= self.since}
        return Keys(self.keys[:1], 0, needed)

    def revoking(self, client_id: str, now: float) -> Keys:
        """Returns these keys with all tokens of the client refused that were made by now, in epoch
        seconds. Raises SettingsError if the id is malformed, or if it no longer fits while there
        must stay room for a second key."""
        until = max(int(now), self.revoked.get(client_id, 0))
        revoking = replace(self, revoked={**self.revoked, client_id: until})._checked()
        if len(self.keys) > 1:
            revoking.dump()
        else:
            revoking.rotated("-" * KEY_CHARS, now).dump()
        return revoking

    def _checked(self) -> Keys:
        """Returns itself. Raises SettingsError if a value cannot be: with an empty secret, for
        example, anybody could sign tokens."""
        if any(len(key.encode()) < SECRET_MIN_BYTES for key in self.keys):
            raise SettingsError(f"the token secret must have at least {SECRET_MIN_BYTES} bytes")
        if len(set(self.keys)) < len(self.keys):
            raise SettingsError("the document of the token secret: the same key is there twice")
        for client_id in self.revoked:
            if not is_client_id(client_id):
                raise SettingsError(f"revoked: {client_id!r:.60} is not a client id")
        return self

    def __repr__(self) -> str:
        """Returns a text without secrets, which a log or a traceback may show."""
        return f"Keys(kids={self.kids}, since={self.since}, revoked={len(self.revoked)})"


def _kid(key: str) -> str:
    """Returns the id of a key: 64 bits of an HMAC by the key itself, so it tells no more about the
    key than each of its tokens does."""
    return hmac.new(key.encode(), b"kid", hashlib.sha256).hexdigest()[:16]
