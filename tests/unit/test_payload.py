"""What a body measures on its way through Lambda."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.wire.payload import answer_bytes, event_bytes


@given(st.text())
def test_an_event_s_body_is_measured_as_json_writes_it(text: str) -> None:
    assert event_bytes(text.encode()) == len(json.dumps(text, ensure_ascii=False).encode())


@given(st.text() | st.text(st.characters(max_codepoint=0x80)))
def test_an_answer_s_body_is_measured_as_json_writes_it(text: str) -> None:
    assert answer_bytes(text.encode()) == len(json.dumps(text))


@pytest.mark.parametrize(
    ("text", "in_event", "in_answer"),
    [
        ("x", 1, 1),
        ('"', 2, 2),
        ("\\", 2, 2),
        ("\n", 2, 2),
        ("\0", 6, 6),
        ("\x7f", 1, 6),
        ("я", 2, 6),
        ("中", 3, 6),
        ("😀", 4, 12),
    ],
)
def test_each_character_has_its_size(text: str, in_event: int, in_answer: int) -> None:
    assert event_bytes(text.encode() * 1000) == 1000 * in_event + 2
    assert answer_bytes(text.encode() * 1000) == 1000 * in_answer + 2
