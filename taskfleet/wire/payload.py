"""How large a text is on its way through Lambda, where a request's body and an answer's body are
strings inside a JSON document: quotes, backslashes and control characters grow. Owns Lambda's
limits and the measuring; not the caps that follow from them (`taskfleet.wire.http.caps`).

Sources: "Lambda quotas", AWS Lambda Developer Guide; the numbers are those of Lambda's own error
messages. Lambda's runtime for Python 3.11 writes an answer with `json.dumps`, which escapes every
character that is not ASCII; later runtimes do not.
"""

from __future__ import annotations

import json

EVENT_MAX_BYTES = 6_291_456
"""Most bytes of the JSON document that a function is called with, if the caller waits for it. API
Gateway answers 413 for a larger one."""
ANSWER_MAX_BYTES = 6_291_556
"""Most bytes of the JSON document that a function answers with. API Gateway answers 502 for a
larger one."""
_TWO_BYTES = b'"\\\b\t\n\f\r'
_ESCAPED = b'"\\'
_PLAIN = bytes(byte for byte in range(32, 127) if byte not in _ESCAPED)
_SIX_BYTES = bytes(byte for byte in range(32) if byte not in _TWO_BYTES)


def event_bytes(body: bytes) -> int:
    """Returns the bytes of a request's body, in UTF-8, as a string of the event: two for each
    quote, backslash and line end, six for any other control character."""
    two = len(body) - len(body.translate(None, _TWO_BYTES))
    six = len(body) - len(body.translate(None, _SIX_BYTES))
    return len(body) + two + 5 * six + len('""')


def answer_bytes(body: bytes) -> int:
    """Returns the bytes of an answer's body, in UTF-8, as a string of the answer: two for each
    quote and backslash, six for each character that is not printable ASCII, twelve for one outside
    the Basic Multilingual Plane, such as an emoji."""
    special = body.translate(None, _PLAIN)
    if not special.translate(None, _ESCAPED):  # as nearly always, and then this is faster
        return len(body) + len(special) + len('""')
    return len(json.dumps(body.decode()))
