"""Bearer tokens: when one is valid, and every way in which one is not."""

from __future__ import annotations

import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.errors import SettingsError
from taskfleet.wire import token

SECRET = "a secret of more than thirty-two characters"
OTHER = "another one of more than thirty-two characters"
NOW = 1_700_000_000.25
GOOD = {"iss": "taskfleet", "aud": "taskfleet", "client_id": "ann", "exp": NOW + 60}

NESTED = base64.urlsafe_b64encode(b"[" * 30_000).decode()


def signed(claims: dict[str, Any], secret: str = SECRET, algorithm: str = "HS256") -> str:
    return jwt.encode(claims, secret, algorithm=algorithm)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@given(
    st.text(
        st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=128
    ),
    st.floats(1, 1e8),
)
def test_a_token_names_its_client_until_it_expires(client_id: str, ttl_s: float) -> None:
    made = token.make(SECRET, client_id, ttl_s, NOW)
    assert token.read(made, SECRET, NOW + ttl_s - 0.5).client_id == client_id
    with pytest.raises(token.InvalidToken, match="expired"):
        token.read(made, SECRET, NOW + ttl_s + 1)


def test_the_moment_is_the_callers_and_not_the_machines() -> None:
    long_ago = token.make(SECRET, "ann", 60, 1000.0)
    assert token.read(long_ago, SECRET, 1059.0).client_id == "ann"
    far_ahead = token.make(SECRET, "ann", 60, 4e9)
    assert token.read(far_ahead, SECRET, 4e9 + 59).client_id == "ann"


def test_a_token_of_the_promised_form_is_read() -> None:
    assert token.read(signed(GOOD), SECRET, NOW).client_id == "ann"


def test_a_token_carries_its_role() -> None:
    made = token.make(SECRET, "ann", 60, NOW, role=token.Role.READER)
    assert token.read(made, SECRET, NOW).role is token.Role.READER
    assert token.read(token.make(SECRET, "ann", 60, NOW), SECRET, NOW).role is token.Role.WRITER
    assert token.read(signed(GOOD), SECRET, NOW).role is token.Role.WRITER  # of earlier versions
    assert token.read(made, SECRET, NOW).expires_at == token.valid_until(made)


@pytest.mark.parametrize("role", ["admin", "", "READER", None, 1, ["reader"], {}])
def test_a_role_that_is_none_is_refused(role: Any) -> None:
    with pytest.raises(token.InvalidToken, match="role is neither reader nor writer"):
        token.read(signed({**GOOD, "role": role}), SECRET, NOW)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "not a valid token", id="empty"),
        pytest.param("ann", "not a valid token", id="no token at all"),
        pytest.param("a.b.c", "not a valid token", id="three parts of nothing"),
        pytest.param("\ud800", "not a valid token", id="not even text"),
        pytest.param(NESTED + ".e30.AAAA", "recursion", id="bottomless header"),
        pytest.param(signed(GOOD, OTHER), "Signature", id="signed with another secret"),
        pytest.param(signed(GOOD)[:-4] + "AAAA", "Signature", id="altered signature"),
        pytest.param(signed(GOOD, SECRET * 2, "HS512"), "alg", id="another of the HMACs"),
        pytest.param(signed(GOOD, "", "none"), "alg", id="not signed"),
        pytest.param(signed(without("exp")), '"exp"', id="never expires"),
        pytest.param(signed(without("client_id")), '"client_id"', id="names nobody"),
        pytest.param(signed(without("aud")), '"aud"', id="no audience"),
        pytest.param(signed(without("iss")), '"iss"', id="no issuer"),
        pytest.param(signed({**GOOD, "aud": "another"}), "(?i)audience", id="another's audience"),
        pytest.param(signed({**GOOD, "iss": "another"}), "(?i)issuer", id="another's issuer"),
        pytest.param(signed({**GOOD, "exp": NOW}), "expired", id="expires this moment"),
        pytest.param(signed({**GOOD, "exp": True}), "exp", id="expiry is a truth"),
        pytest.param(signed({**GOOD, "exp": "9999999999"}), "exp", id="expiry is text"),
        pytest.param(signed({**GOOD, "exp": float("nan")}), "expired", id="expiry is NaN"),
        pytest.param(signed({**GOOD, "exp": 10**12}), "exp lies after", id="expires in 33658"),
        pytest.param(signed({**GOOD, "exp": 10**400}), "exp lies after", id="expires never"),
        pytest.param(signed({**GOOD, "exp": float("inf")}), "exp lies after", id="infinite"),
        pytest.param(signed({**GOOD, "client_id": ""}), "client_id", id="client is empty"),
        pytest.param(signed({**GOOD, "client_id": 7}), "client_id", id="client is a number"),
    ],
)
def test_anything_else_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(token.InvalidToken, match=why) as caught:
        token.read(text, SECRET, NOW)
    assert SECRET not in str(caught.value)


def test_claims_swapped_under_a_good_signature_are_refused() -> None:
    header, _, signature = signed(GOOD).split(".")
    claims = json.dumps({**GOOD, "client_id": "eve"}).encode()
    forged = base64.urlsafe_b64encode(claims).rstrip(b"=").decode()
    with pytest.raises(token.InvalidToken, match="Signature"):
        token.read(f"{header}.{forged}.{signature}", SECRET, NOW)


@pytest.mark.parametrize("secret", ["", "x" * 31])
def test_a_missing_or_short_secret_neither_makes_nor_reads_tokens(secret: str) -> None:
    with pytest.raises(SettingsError, match="at least 32"):
        token.make(secret, "ann", 60, NOW)
    with pytest.raises(SettingsError, match="at least 32"):
        token.read(signed(GOOD), secret, NOW)


@pytest.mark.parametrize("exp", [10**12, 10**400, -(10**400), float("inf"), float("nan")])
def test_no_date_is_told_of_a_token_that_none_can_end(exp: float) -> None:
    assert token.valid_until(signed({**GOOD, "exp": exp})) is None


def test_a_token_that_no_date_can_end_is_not_made() -> None:
    with pytest.raises(ValueError, match="expire after the year 9999"):
        token.make(SECRET, "ann", 1e12, NOW)


NO_CLIENTS = ["", "\nworkers", "a\nb", "a b", "\ud800", "é", "x" * 129, "\x7f"]
"""Texts that cannot be the id of a client."""


@pytest.mark.parametrize("client_id", NO_CLIENTS, ids=ascii)
def test_a_token_for_a_malformed_client_is_not_made(client_id: str) -> None:
    with pytest.raises(ValueError, match="is not a client id"):
        token.make(SECRET, client_id, 60, NOW)


@pytest.mark.parametrize("client_id", [text for text in NO_CLIENTS if text.isprintable()])
def test_a_signed_token_for_a_malformed_client_is_refused(client_id: str) -> None:
    with pytest.raises(token.InvalidToken, match="client_id"):
        token.read(signed({**GOOD, "client_id": client_id}), SECRET, NOW)
