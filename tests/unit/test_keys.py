"""Keys of tokens: the document that holds them, and how rotating and revoking change it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from taskfleet.errors import SettingsError
from taskfleet.wire.keys import DOCUMENT_MAX_BYTES, KEY_CHARS, Keys, new_key

NEW, OLD = "n" * 48, "o" * 48
NOW = 1_700_000_000


def document(**fields: Any) -> str:
    return json.dumps({"keys": [NEW, OLD], **fields})


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        pytest.param(NEW, Keys([NEW]), id="a plain secret"),
        pytest.param(" [not JSON, but thirty-two bytes] ", None, id="any text without a brace"),
        pytest.param(document(), Keys([NEW, OLD]), id="two keys"),
        pytest.param(" \n" + document(), Keys([NEW, OLD]), id="blanks before the document"),
        pytest.param(
            document(since=NOW, revoked={"ann": NOW}), Keys([NEW, OLD], NOW, {"ann": NOW}), id="all"
        ),
    ],
)
def test_a_secret_or_a_document_is_read(text: str, keys: Keys | None) -> None:
    assert Keys.parse(text) == (keys or Keys([text]))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("", "at least 32 bytes", id="nothing"),
        pytest.param("x" * 31, "at least 32 bytes", id="a short secret"),
        pytest.param("{" + NEW, "strict JSON", id="no JSON"),
        pytest.param(document()[:-1], "strict JSON", id="cut off"),
        pytest.param(document()[:-1] + f', "keys": ["{OLD}"]}}', "strict JSON", id="key twice"),
        pytest.param("{" * 5_000, "strict JSON", id="bottomless"),
        pytest.param("{}", "keys", id="no keys"),
        pytest.param(document(keys=[]), r"\$.keys", id="an empty list of keys"),
        pytest.param(document(keys={"k": NEW}), r"\$.keys", id="keys with names"),
        pytest.param(document(keys=[NEW, 7]), r"\$.keys\[1\]|\$.keys\[...\]", id="key is a number"),
        pytest.param(document(keys=[NEW, "short"]), "at least 32 bytes", id="a short key"),
        pytest.param(document(keys=[NEW, NEW]), "twice", id="the same key again"),
        pytest.param(document(revokd={}), "revokd", id="an unknown field"),
        pytest.param(document(revoked=["ann"]), r"\$.revoked", id="revoked without times"),
        pytest.param(document(revoked={"ann": "now"}), r"\$.revoked", id="a time that is text"),
        pytest.param(document(revoked={"ann": True}), r"\$.revoked", id="a time that is a truth"),
        pytest.param(document(revoked={"ann": -1}), r"\$.revoked", id="a time before 1970"),
        pytest.param(document(revoked={"a b": NOW}), "'a b' is not a client id", id="no client"),
        pytest.param(document(since="x"), r"\$.since", id="since is text"),
    ],
)
def test_anything_else_is_refused_with_the_reason_and_without_the_value(
    text: str, why: str
) -> None:
    with pytest.raises(SettingsError, match=why) as caught:
        Keys.parse(text)
    assert NEW not in str(caught.value)
    assert OLD not in str(caught.value)
    assert caught.value.__cause__ is None


def test_keys_are_shown_by_their_kids_only() -> None:
    shown = repr(Keys([NEW, OLD], NOW, {"ann": NOW}))
    assert NEW not in shown
    assert OLD not in shown
    assert Keys([NEW]).kids[0] in shown


def test_a_kid_is_short_text_that_follows_from_the_key() -> None:
    kids = Keys([NEW, OLD]).kids
    assert kids == Keys([NEW, OLD]).kids
    assert kids == [*Keys([NEW]).kids, *Keys([OLD]).kids]
    assert len(set(kids)) == 2
    assert all(len(kid) == 16 and set(kid) <= set("0123456789abcdef") for kid in kids)


def test_rotating_signs_with_the_new_key_and_keeps_the_old_one() -> None:
    rotated = Keys.parse(Keys([OLD]).rotated(NEW, NOW).dump())
    assert rotated == Keys([NEW, OLD], NOW)
    with pytest.raises(SettingsError, match="keys retire"):
        rotated.rotated("t" * 48, NOW)


def test_retiring_ends_the_old_key_and_the_revocations_that_no_token_needs_any_more() -> None:
    before = {"gone": NOW - 1, "at-once": NOW, "later": NOW + 9}
    retired = Keys([NEW, OLD], NOW, before).retired()
    assert retired == Keys([NEW], 0, {"at-once": NOW, "later": NOW + 9})
    assert retired.retired() == retired


def test_a_lone_key_without_revocations_is_written_as_earlier_versions_read_it() -> None:
    assert Keys([NEW]).dump() == NEW
    assert Keys([NEW, OLD], NOW).retired().dump() == NEW


def test_revoking_again_moves_the_time_forward_and_never_back() -> None:
    once = Keys([NEW]).revoking("ann", NOW + 0.9)
    assert Keys.parse(once.dump()).revoked == {"ann": NOW}
    assert once.revoking("ann", NOW + 5).revoked == {"ann": NOW + 5}
    assert once.revoking("ann", NOW - 5).revoked == {"ann": NOW}
    with pytest.raises(SettingsError, match="not a client id"):
        once.revoking("a b", NOW)


@pytest.mark.parametrize("live", [["n" * KEY_CHARS], ["n" * KEY_CHARS, "o" * KEY_CHARS]])
@pytest.mark.parametrize(("length", "count"), [(12, 150), (36, 78), (128, 27)])
def test_the_document_holds_so_many_revoked_clients_and_can_be_rotated_when_it_is_full(
    length: int, count: int, live: list[str]
) -> None:
    keys = Keys(live, NOW)
    for number in range(count):
        keys = keys.revoking(f"{number:0{length}}", NOW)
    with pytest.raises(SettingsError, match="keys rotate"):
        keys.revoking("x" * length, NOW)
    if len(live) == 1:
        keys = keys.rotated(new_key(), NOW)
    assert len(keys.dump()) <= DOCUMENT_MAX_BYTES
    assert Keys.parse(keys.retired().dump()).keys == keys.keys[:1]


def test_a_new_key_is_random_text_of_a_known_length() -> None:
    assert len(new_key()) == KEY_CHARS
    assert new_key() != new_key()
