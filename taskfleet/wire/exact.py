"""The values that JSON gives back exactly, with their types and bits, to every reader. Owns the
rule; not what becomes of other values (`taskfleet.wire.calls`)."""

from __future__ import annotations

import json
from typing import Any

EXACT_MAX_DEPTH = 32
"""Deepest nesting of a value that travels as JSON. Readers take 64 levels, with what is around."""
EXACT_MAX_INT = 2**53
"""Largest integer that travels as JSON: readers that keep numbers as doubles know no larger one."""
_NOT_EXACT = 1 << 60
"""Weight of a value that JSON would not give back exactly."""
_GROWTH = 10
"""Most bytes of JSON for each byte of a value's weight: an integer weighs 2 and takes up to 18."""
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def is_exact(value: Any) -> bool:
    """Returns whether JSON gives the value back exactly: None, booleans, integers within ±2^53,
    finite floats, text, and lists and dicts of such, no deeper than `EXACT_MAX_DEPTH`. Subclasses,
    tuples, and a list or dict that occurs twice do not count."""
    return _weight(value, 1, set(), _NOT_EXACT - 1) < _NOT_EXACT


def fits(value: Any, max_bytes: int) -> bool:
    """Returns whether JSON gives the value back exactly and takes at most `max_bytes` bytes. A
    large value costs no more than one of that size."""
    weight = _weight(value, 1, set(), max_bytes)
    if weight * _GROWTH <= max_bytes:
        return True
    return weight <= max_bytes and len(_encode(value).encode()) <= max_bytes


def _weight(value: Any, depth: int, seen: set[int], most: int) -> int:
    """Returns the least bytes of JSON of a value, or `_NOT_EXACT` or more. Stops above `most`.
    `seen` has the containers met so far: one that
    occurs twice is one object for the function, and would be two after JSON."""
    kind = type(value)
    if kind is int:
        return 2 if -EXACT_MAX_INT <= value <= EXACT_MAX_INT else _NOT_EXACT
    if kind is str:
        return _text_weight(value, most)
    if kind is float:
        return 4 if value - value == 0.0 else _NOT_EXACT  # not nan, not infinite
    if value is None or kind is bool:
        return 4
    if kind is not list and kind is not dict:
        return _NOT_EXACT
    if depth > EXACT_MAX_DEPTH or id(value) in seen:
        return _NOT_EXACT
    seen.add(id(value))
    weight = 2
    if kind is list:
        for each in value:
            weight += _weight(each, depth + 1, seen, most)
            if weight > most:
                return weight
        return weight
    for key, each in value.items():
        if type(key) is not str:
            return _NOT_EXACT
        weight += 1 + _text_weight(key, most) + _weight(each, depth + 1, seen, most)
        if weight > most:
            return weight
    return weight


def _text_weight(text: str, most: int) -> int:
    if text.isascii():
        return len(text) + 2
    if len(text) > most:
        return len(text)
    try:
        return len(text.encode()) + 2
    except UnicodeEncodeError:  # half a character, which UTF-8 cannot write
        return _NOT_EXACT
