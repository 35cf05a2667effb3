"""Reading what a task printed."""

import pytest

from taskfleet import output
from taskfleet.errors import NotFound
from taskfleet.memory import MemoryStore
from taskfleet.output import PAGE_BYTES, TAIL_BYTES, LogPage
from taskfleet.wire.payload import ANSWER_MAX_BYTES, answer_bytes

KEY = "logs/b/0/w-1-abc"


def stored(data, before=b"before", after=b"after", dropped=0):
    store = MemoryStore()
    store.put(KEY, before + data + after, content_type="text/plain")
    return store, (KEY, len(before), len(data), dropped)


def pages(data, limit):
    store, ref = stored(data)
    texts, offset = [], 0
    while True:
        page = output.page(store, "b", ref, offset, limit)
        texts.append(page.text)
        offset = page.end
        if page.is_last:
            return texts


def test_a_page_is_the_tasks_own_part_of_the_object():
    store, ref = stored(b"line\n", dropped=7)
    assert output.page(store, "b", ref, 0) == LogPage("line\n", 5, 5, 7)
    assert output.page(store, "b", ref, 2) == LogPage("ne\n", 5, 5, 7)


@pytest.mark.parametrize("offset", [5, 6, 10**9])
def test_at_the_end_there_is_nothing_more(offset):
    store, ref = stored(b"line\n")
    assert output.page(store, "b", ref, offset) == LogPage("", offset, 5, 0)


def test_pages_together_are_the_whole_and_none_ends_within_a_character():
    text = "aü€😀" * 20
    for limit in (4, 5, 6, 7, 11, 1000):
        parts = pages(text.encode(), limit)
        assert "".join(parts) == text
        assert all("\ufffd" not in part for part in parts)


def test_what_is_not_utf_8_is_replaced_and_holds_up_no_page():
    assert pages(b"\xff\xfe" * 5, 4) == ["\ufffd" * 4, "\ufffd" * 4, "\ufffd" * 2]
    assert pages(b"a\xf0\x9f", 1000) == ["a\ufffd"]
    assert "".join(pages(b"\xf0\x9f\xf0\x9f\xf0\x9fabc", 4)).endswith("abc")


@pytest.mark.parametrize("byte", [b"\x00", b"\xff", b"\x1b", b'"'])
def test_the_worst_page_fits_an_answer_of_lambda(byte):
    store, ref = stored(byte * PAGE_BYTES, b"", b"")
    text = output.page(store, "b", ref, 0).text
    assert answer_bytes(text.encode()) <= ANSWER_MAX_BYTES - 16 * 1024


def test_the_tail_is_the_end_and_begins_with_a_whole_character():
    store, ref = stored(b"short")
    assert output.tail(store, "b", ref) == "short"
    for shift in range(4):
        data = b"x" * shift + "😀".encode() * 5000
        tail = output.tail(*(*stored(data)[:1], "b", stored(data)[1]))
        assert set(tail) == {"😀"}
        assert TAIL_BYTES - 4 < len(tail.encode()) <= TAIL_BYTES


@pytest.mark.parametrize(
    "ref",
    [
        ("logs/other/0/x", 0, 5, 0),
        ("uploads/bob/secret", 0, 5, 0),
        ("logs/b/../../x", -3, 5, 0),
        (KEY, -1, 5, 0),
        ("logs/b/0/gone", 0, 5, 0),
        (KEY, 10**6, 5, 0),
    ],
)
def test_a_forged_or_expired_reference_reads_nothing(ref):
    store, _ = stored(b"line\n")
    store.put("logs/other/0/x", b"secret", content_type="text/plain")
    store.put("uploads/bob/secret", b"secret", content_type="text/plain")
    with pytest.raises(NotFound):
        output.page(store, "b", ref, 0)
    with pytest.raises(NotFound):
        output.tail(store, "b", ref)


def test_a_negative_length_reads_nothing():
    store, _ = stored(b"line\n")
    assert output.page(store, "b", (KEY, 0, -5, 0), 0).text == ""
    assert output.tail(store, "b", (KEY, 0, -5, 0)) == ""
