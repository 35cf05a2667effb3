"""Reads JSON (RFC 8259) strictly: refuses whatever two readers may understand differently, much as
I-JSON does (RFC 7493). Python's own reader accepts NaN, 1e400, duplicate keys and lone surrogates,
and fails on deep nesting with RecursionError. Owns what is refused; not what the values mean.
"""

from __future__ import annotations

import json
import math
from typing import Any

MAX_DEPTH = 64
"""Deepest nesting that is accepted. Every other JSON reader in Taskfleet accepts it too."""


def loads(text: str | bytes) -> Any:
    """Returns the value. Raises ValueError, which says what is wrong and where."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: byte {error.start} cannot be read") from None
    try:
        value = _decoder.decode(text)
        if text.count("[") + text.count("{") > MAX_DEPTH:  # otherwise it cannot be too deep
            _check_depth(value)
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


def _check_depth(value: Any) -> None:
    """Raises ValueError when the value is nested too deeply. Goes level by level, so that its own
    stack stays flat."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for node in level:
            if isinstance(node, list):
                inner += node
            elif isinstance(node, dict):
                inner += node.values()
        level = [node for node in inner if isinstance(node, list | dict)]
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
    if len(text) > 20:
        raise ValueError(f"the number {text:.20}... has too many digits")
    return int(text)


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_refuse_constant, parse_float=_float, parse_int=_int
)
