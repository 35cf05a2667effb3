"""The form of a time in answers and messages."""

from __future__ import annotations

import functools
from datetime import UTC, datetime


def iso_time(moment: float) -> str:
    """Returns `moment` (epoch seconds) as ISO 8601 in UTC, such as `2026-11-24T12:00:00.000Z`."""
    return _iso_ms(round(moment * 1000))


@functools.lru_cache(8192)
def _iso_ms(ms: int) -> str:
    """Returns the text of a time in milliseconds. Cached, as is its first part, since the thousands
    of times in a page of results lie within a few seconds."""
    second, ms = divmod(ms, 1000)
    return f"{_iso_second(second)}.{ms:03d}Z"


@functools.lru_cache(4096)
def _iso_second(second: int) -> str:
    """Returns the part before the milliseconds."""
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%S")
