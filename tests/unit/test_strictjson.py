import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskfleet.wire import strictjson

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def nested(depth):
    return "[" * depth + "]" * depth


@given(PLAIN, st.booleans())
def test_json_with_one_meaning_is_read_as_python_reads_it(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert strictjson.loads(text) == value
    assert strictjson.loads(text.encode()) == value
    written = msgspec.json.encode(value)
    assert strictjson.loads(written) == strictjson.loads(written.decode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "malformed JSON: Expecting value at line 1, column 1"),
        ("{\n 'a': 1}", "at line 2, column 2"),
        ('{"a": 1} {}', "malformed JSON: Extra data"),
        ("NaN", "NaN is not JSON"),
        ("[-Infinity]", "-Infinity is not JSON"),
        ("[1e400]", "the number 1e400 is too large"),
        ("-1e400", "the number -1e400 is too large"),
        ("9" * 21, "too many digits"),
        ('{"a":[1,' + "9" * 21 + "]}", "too many digits"),
        ('{"a":1,"a":2}', "the key 'a' occurs twice"),
        ("-" + "9" * 5000, "too many digits"),
        ('{"a": 1, "b": 2, "a": 1}', "the key 'a' occurs twice"),
        ('{"x": [{"a": 1, "\\u0061": 2}]}', "the key 'a' occurs twice"),
        ('"\\ud800"', "half a character"),
        ('{"\\udc00": 1}', "half a character"),
        (b'"\xff"', "not UTF-8: byte 1"),
        (b"[1, \xc3\x28]", "not UTF-8: byte 4"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        ("[" * 100_000, "nested more than 64 levels deep"),
        (nested(100_000), "nested more than 64 levels deep"),
        ('{"a":' * 100_000, "nested more than 64 levels deep"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_another_reader_could_take_otherwise_is_refused_with_the_place(text, reason):
    for form in {text, text.encode() if isinstance(text, str) else text}:
        with pytest.raises(ValueError, match=reason) as caught:
            strictjson.loads(form)
        assert len(str(caught.value)) < 150


def test_both_halves_of_an_escaped_character_are_one_character():
    assert strictjson.loads('"\\ud83d\\ude00"') == "\N{GRINNING FACE}"


@pytest.mark.parametrize("opener", ["[", '{"a":'])
def test_the_depth_taken_does_not_hang_on_how_deep_the_caller_stands(opener):
    closer = "]" if opener == "[" else "}"

    def text(depth):
        return opener * depth + "1" + closer * depth

    def call_from(frames, depth):
        return strictjson.loads(text(depth)) if not frames else call_from(frames - 1, depth)

    for frames in (0, 300):
        call_from(frames, strictjson.MAX_DEPTH)
        with pytest.raises(ValueError, match="nested more than 64 levels deep"):
            call_from(frames, strictjson.MAX_DEPTH + 1)


def test_many_brackets_side_by_side_are_not_deep():
    assert strictjson.loads("[" + ",".join([nested(2)] * 1000) + "]") == [[[]]] * 1000


@pytest.mark.timeout(10)
def test_finding_a_key_that_stands_twice_takes_time_in_proportion_to_the_object():
    keys = ",".join(f'"k{i}":1' for i in range(200_000))
    with pytest.raises(ValueError, match="'k199999' occurs twice"):
        strictjson.loads("{" + keys + ',"k199999":1}')
