"""Trace context: the ids by which the lines and spans of one batch are found, from the POST to the
result. Owns the header `traceparent` of "Trace Context", W3C Recommendation
(https://www.w3.org/TR/trace-context/); not where it is bound (`taskfleet.log.bound`), nor spans
(`ec2_worker.otel`).

A client may send the header; otherwise the API makes one. It is handed on unchanged, in version 00
and with no other flag than `sampled`, as the recommendation allows to those who make no spans. The
header `tracestate` is not handed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated

from msgspec import Meta

HEADER = "traceparent"
"""Name of the HTTP header, in lower case."""
_SAMPLED = 1
"""The flag by which a caller says that it may have recorded its part of the trace."""
_HEADER = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<parent>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
    r"(?P<rest>-.*)?"
)
_PATTERN = r"^00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]$"
Traceparent = Annotated[str, Meta(pattern=_PATTERN, max_length=55)]
"""The form in which a trace context is recorded and put into messages."""


def read(header: str) -> str | None:
    """Returns the value of a `traceparent` header in the form that is handed on, or None if it is
    invalid, so that a new trace begins (section 3.2 of the recommendation). A header of a later
    version is read as far as version 00 goes (section 3.2.4)."""
    match = _HEADER.fullmatch(header.strip(" \t"))
    if match is None or match["version"] == "ff":
        return None
    if match["version"] == "00" and match["rest"] is not None:
        return None
    if not int(match["trace"], 16) or not int(match["parent"], 16):
        return None
    return f"00-{match['trace']}-{match['parent']}-{int(match['flags'], 16) & _SAMPLED:02x}"


def make(random_bytes: Callable[[int], bytes]) -> str:
    """Returns the beginning of a new trace, which is sampled, from 24 random bytes."""
    text = random_bytes(24).hex()
    return f"00-{text[:32]}-{text[32:]}-{_SAMPLED:02x}"


def trace_id(traceparent: str | None) -> str | None:
    """Returns the id of the trace, 32 hexadecimal digits; None for None."""
    return None if traceparent is None else traceparent[3:35]
