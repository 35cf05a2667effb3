"""The header `traceparent` by the rules of "Trace Context", W3C Recommendation, section 3.2."""

from __future__ import annotations

import random

import msgspec
import pytest

from taskfleet import trace

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PLAIN = f"00-{TRACE}-{PARENT}-01"


@pytest.mark.parametrize(
    ("header", "kept"),
    [
        (PLAIN, PLAIN),
        (f"00-{TRACE}-{PARENT}-00", f"00-{TRACE}-{PARENT}-00"),
        (f"00-{TRACE}-{PARENT}-ff", PLAIN),  # of the flags, only `sampled` is known
        (f"00-{TRACE}-{PARENT}-fe", f"00-{TRACE}-{PARENT}-00"),
        (f" {PLAIN}\t", PLAIN),  # optional white space around a header's value (RFC 9110, 5.5)
        (f"cc-{TRACE}-{PARENT}-01", PLAIN),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-brings", PLAIN),
    ],
)
def test_a_valid_header_is_handed_on_in_version_00(header: str, kept: str) -> None:
    assert trace.read(header) == kept
    assert trace.trace_id(kept) == TRACE
    assert msgspec.convert(kept, trace.Traceparent) == kept


@pytest.mark.parametrize(
    "header",
    [
        "",
        "hello",
        TRACE,
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-01-",
        f"cc-{TRACE}-{PARENT}-01.more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-0x",
        f"{PLAIN},{PLAIN}",
        f"{PLAIN}\n{PLAIN}",
        f"{PLAIN}\n",
        f"00-{TRACE[:-1]}１-{PARENT}-01",
    ],
)
def test_an_invalid_header_is_none(header: str) -> None:
    assert trace.read(header) is None


def test_a_trace_that_begins_here_is_valid_and_sampled() -> None:
    made = trace.make(random.Random(0).randbytes)
    assert trace.read(made) == made
    assert made.endswith("-01")
    assert made != trace.make(random.Random(1).randbytes)
    assert trace.trace_id(None) is None


@pytest.mark.parametrize(
    "text", [f"01-{TRACE}-{PARENT}-01", f"{PLAIN}\n", f"00-{TRACE}-{PARENT}-02"]
)
def test_a_message_has_no_other_form(text: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(text, trace.Traceparent)
