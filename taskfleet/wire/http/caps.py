"""The caps of requests, and why a body is too large for one."""

from __future__ import annotations

from taskfleet.wire.payload import EVENT_MAX_BYTES, event_bytes

BODY_MAX_BYTES = 5 * 1024 * 1024
"""Largest body of one request, in bytes. A larger batch is sent as an upload."""
ESCAPED_BODY_MAX_BYTES = EVENT_MAX_BYTES - 64 * 1024
"""Largest body of one request as Lambda gets it (`taskfleet.wire.payload.event_bytes`), in bytes.
A body of ordinary text reaches `BODY_MAX_BYTES` first; one with very many quotes or short lines
reaches this. The rest of the event has room in 64 KiB: API Gateway takes headers of up to 10,240
bytes, and they stand in the event twice."""
MAX_TASKS = 250_000
"""Most tasks in one request."""
NAME_MAX_CHARS = 200
"""Longest name of a batch, in characters."""
KEY_MAX_CHARS = 200
"""Longest idempotency key, in characters."""


def body_fault(body: bytes) -> str | None:
    """Returns why one request cannot take this body, which must then be sent as an upload; None
    when it can."""
    if len(body) > BODY_MAX_BYTES:
        return f"has {len(body)} bytes, over the cap of {BODY_MAX_BYTES} bytes (5 MiB)"
    if (escaped := event_bytes(body)) > ESCAPED_BODY_MAX_BYTES:
        return (
            f"has {escaped} bytes with its quotes and line ends escaped, over the cap of "
            f"{ESCAPED_BODY_MAX_BYTES} bytes"
        )
    return None
