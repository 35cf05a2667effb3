"""JSON that means one thing only. Python's own reader takes NaN, 1e400, duplicate keys and lone
surrogates, which the next program in the chain may read otherwise, and gives up on deep nesting
with RecursionError. Owns what is refused; not what the values mean."""

from __future__ import annotations

import json
import math
from typing import Any


def loads(text: str | bytes) -> Any:
    """The value; ValueError says what is wrong and where."""
    if isinstance(text, bytes):
        try:
            text = text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8: byte {error.start} cannot be read") from None
    try:
        value = _decoder.decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(
            f"malformed JSON: {error.msg} at line {error.lineno}, column {error.colno}"
        ) from None
    except UnicodeEncodeError:
        raise ValueError("a \\u escape stands for half a character") from None
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r:.60} stands twice in one object")
    return value


def _constant(name: str) -> Any:
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
    object_pairs_hook=_pairs, parse_constant=_constant, parse_float=_float, parse_int=_int
)
