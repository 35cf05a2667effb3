"""Reads JSON (RFC 8259) strictly: refuses whatever two readers may understand differently, much as
I-JSON does (RFC 7493). Python's own reader accepts NaN, 1e400, duplicate keys and lone surrogates,
and fails on deep nesting with RecursionError. Owns what is refused; not what the values mean.
"""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec

MAX_DEPTH = 64
"""Deepest nesting that is accepted. Every other JSON reader in Taskfleet accepts it too."""


def loads(text: str | bytes) -> Any:
    """Returns the value. Raises ValueError, which says what is wrong and where."""
    if isinstance(text, bytes):
        found, value = _as_written(text)
        if found:
            _check_depth_of(value, text.count(b"[") + text.count(b"{"))
            return value
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: byte {error.start} cannot be read") from None
    try:
        value = _decoder.decode(text)
        _check_depth_of(value, text.count("[") + text.count("{"))
        if "\\u" in text:  # only an escape can make a lone surrogate
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"malformed JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except UnicodeEncodeError:
        raise ValueError("a \\u escape stands for half a character: a lone surrogate") from None
    return value


def _as_written(text: bytes) -> tuple[bool, Any]:
    """Returns whether msgspec writes the value in these very bytes, and the value if so. Such a
    text has one meaning: a key that occurs twice, NaN, or a float that is not kept exactly would be
    written differently. Integers are kept whatever their size, so a text with a long one is left to
    the reader below, which is several times slower."""
    if _LONG_NUMBER in text.translate(_DIGITS):
        return False, None
    try:
        value = _read(text)
        return _write(value) == text, value
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError, RecursionError):
        return False, None


def _check_depth_of(value: Any, brackets: int) -> None:
    if brackets > MAX_DEPTH:  # otherwise it cannot be too deep
        check_depth(value)


def check_depth(value: Any) -> None:
    """Raises ValueError when a value that was read from JSON is nested too deeply. Goes level by
    level, so that its own stack stays flat."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(MAX_DEPTH):
        level = [
            node
            for each in level
            for node in (each.values() if type(each) is dict else each)
            if type(node) in _CONTAINERS
        ]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {name!r:.60} occurs twice in one object")
            seen.add(name)
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text:.20} is too large")
    return value


def _int(text: str) -> int:
    if len(text) > _INT_MAX_CHARS:
        raise ValueError(f"the number {text:.20}... has too many digits")
    return int(text)


_CONTAINERS = {list, dict}
_INT_MAX_CHARS = 20
"""Most characters of an integer: those of the largest that 64 bits hold."""
_DIGITS = bytes.maketrans(b"123456789", b"0" * 9)
_LONG_NUMBER = b"0" * _INT_MAX_CHARS
_read = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode
_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int
)
