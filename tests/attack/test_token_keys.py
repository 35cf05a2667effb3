"""Tokens against two live keys and a list of revoked clients: which are accepted, and every way
around it that we could think of."""

from __future__ import annotations

import json
from typing import Any

import jwt
import pytest

from taskfleet.wire import token
from taskfleet.wire.keys import Keys

NEW, OLD, GONE = "n" * 64, "o" * 64, "g" * 64
NOW = 1_700_000_000.25
BOTH = json.dumps({"keys": [NEW, OLD]})
CLAIMS = {
    "iss": "taskfleet",
    "aud": "taskfleet",
    "client_id": "ann",
    "iat": int(NOW),
    "exp": NOW + 600,
}


def kid(secret: str) -> str:
    return Keys([secret]).kids[0]


def signed(secret: str, header: dict[str, Any], algorithm: str = "HS256", **claims: Any) -> str:
    return jwt.encode({**CLAIMS, **claims}, secret, algorithm=algorithm, headers=header)


def without_kid(secret: str) -> str:
    """A token of an earlier version."""
    return jwt.encode(CLAIMS, secret, algorithm="HS256")


@pytest.mark.parametrize("secret", [NEW, OLD])
def test_tokens_of_both_keys_are_read_with_a_kid_and_without(secret: str) -> None:
    made = token.make(secret, "ann", 600, NOW)
    assert jwt.get_unverified_header(made)["kid"] == kid(secret)
    assert token.read(made, BOTH, NOW).client_id == "ann"
    assert token.read(without_kid(secret), BOTH, NOW).client_id == "ann"


def test_new_tokens_are_of_the_first_key() -> None:
    made = token.make(BOTH, "ann", 600, NOW)
    assert token.read(made, NEW, NOW).client_id == "ann"
    with pytest.raises(token.InvalidToken):
        token.read(made, OLD, NOW)


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(token.make(GONE, "ann", 600, NOW), id="of a removed key"),
        pytest.param(without_kid(GONE), id="of a removed key, without kid"),
        pytest.param(signed(GONE, {"kid": kid(NEW)}), id="of a removed key, as of a live one"),
        pytest.param(signed(OLD, {"kid": kid(NEW)}), id="of one live key, as of the other"),
        pytest.param(signed(NEW, {"kid": kid(NEW)}, "HS512"), id="another HMAC"),
        pytest.param(signed("", {"kid": kid(NEW)}, "none"), id="not signed"),
        pytest.param(signed(kid(NEW) * 4, {"kid": kid(NEW)}), id="the kid as the key"),
        pytest.param(signed(NEW, {"kid": "k" * 10_000}), id="a kid of 10 kB"),
        pytest.param(signed(NEW, {"kid": "../../dev/null"}), id="a kid that is a path"),
        pytest.param(signed(NEW, {"kid": "' OR 1=1 --"}), id="a kid that is SQL"),
        pytest.param(signed(NEW, {"kid": ""}), id="an empty kid"),
        pytest.param(signed(NEW, {"kid": kid(NEW).upper()}), id="a kid in capitals"),
        pytest.param(signed(NEW, {"jwk": {"kty": "oct", "k": "eA"}, "kid": "x"}), id="a jwk"),
    ],
)
def test_no_other_token_is_accepted_and_the_reason_is_short(made: str) -> None:
    with pytest.raises(token.InvalidToken) as caught:
        token.read(made, BOTH, NOW)
    assert len(str(caught.value)) < 200
    assert not any(secret in str(caught.value) for secret in (NEW, OLD, GONE))


@pytest.mark.parametrize("odd", [7, None, ["a"], {"a": 1}, True])
def test_a_kid_that_is_no_text_is_refused(odd: Any) -> None:
    # PyJWT makes no such token, so the header is put together by hand.
    header = jwt.utils.base64url_encode(json.dumps({"alg": "HS256", "kid": odd}).encode()).decode()
    _, payload, _ = without_kid(NEW).split(".")
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        f"{header}.{payload}".encode(), NEW.encode()
    )
    made = f"{header}.{payload}.{jwt.utils.base64url_encode(signature).decode()}"
    with pytest.raises(token.InvalidToken):
        token.read(made, BOTH, NOW)


class TestRevoked:
    REVOKED = Keys([NEW, OLD]).revoking("ann", NOW).dump()

    @pytest.mark.parametrize("secret", [NEW, OLD])
    def test_a_revoked_client_is_refused_whichever_key_signed(self, secret: str) -> None:
        made = token.make(secret, "ann", 600, NOW)
        with pytest.raises(token.InvalidToken, match="revoked"):
            token.read(made, self.REVOKED, NOW + 1)

    def test_others_are_not(self) -> None:
        for client_id in ("ann2", "an", "ANN", "bob"):
            made = token.make(NEW, client_id, 600, NOW)
            assert token.read(made, self.REVOKED, NOW + 1).client_id == client_id

    def test_a_token_made_later_works_again(self) -> None:
        made = token.make(self.REVOKED, "ann", 600, NOW + 1)
        assert token.read(made, self.REVOKED, NOW + 2).client_id == "ann"

    @pytest.mark.parametrize("iat", [None, True, "9999999999", float("nan"), int(NOW), [1]])
    def test_a_token_that_does_not_say_since_when_is_refused(self, iat: Any) -> None:
        claims = {**CLAIMS, "iat": iat}
        if iat is None:
            del claims["iat"]
        made = jwt.encode(claims, NEW, algorithm="HS256", headers={"kid": kid(NEW)})
        with pytest.raises(token.InvalidToken, match="revoked"):
            token.read(made, self.REVOKED, NOW)
