"""Inputs for the fuzzers: texts and JSON values that are valid, nearly valid, or neither. Owns how
they are made and how often they are tried; not what they are thrown at."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.configuration
from hypothesis import strategies as st

# What Hypothesis keeps between runs belongs into no checkout.
hypothesis.configuration.set_hypothesis_home_dir(Path(tempfile.gettempdir()) / "hypothesis")

SEED = 20_250_117
"""Seed of the slice in `make test`."""

TROUBLE = [
    "", " ", "\x00", "\ufeff", "\ufffe", "\u2028", "\ud800", "\x85", "\r", "\n", "🎬", "e\u0301",
    "0", "-1", "1e400", "NaN", "null", "[]", "{}", '"', "\\", "../..", "~", "~nobody-has-this/x",
    "9" * 400, "2" * 5_000, "x" * 70_000, "%00", "\u0661", "1_0", "__proto__",
]  # fmt: skip
"""Texts with which programs have trouble."""

TEXTS = st.one_of(st.sampled_from(TROUBLE), st.text(max_size=40))
"""Texts, with lone surrogates too."""
SENDABLE = TEXTS.filter(lambda text: text.isascii() or not _has_surrogate(text))
"""Texts that can be sent in UTF-8."""
NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**30, -(2**63), 10**400, 1e308, -0.0, 5e-324]),
    st.floats(allow_nan=False, allow_infinity=False),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, SENDABLE)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(SENDABLE, inner, max_size=4)
    ),
    max_leaves=12,
)
"""Any JSON value."""


def _has_surrogate(text: str) -> bool:
    return any("\ud800" <= char <= "\udfff" for char in text)


@st.composite
def bent(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value that differs from `value` at one place or a few: something else stands there, or
    nothing, or it stands there twice."""
    for _ in range(draw(st.integers(1, 3))):
        value = _bend(draw, value)
    return value


def _bend(draw: st.DrawFn, value: Any) -> Any:
    inside = isinstance(value, dict | list) and value and draw(st.integers(0, 5))
    if not inside:
        return draw(JSON)
    at = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    changed = dict(value) if isinstance(value, dict) else list(value)
    how = draw(st.sampled_from(["deeper", "deeper", "deeper", "drop", "more"]))
    if how == "deeper":
        changed[at] = _bend(draw, value[at])
    elif how == "drop":
        del changed[at]
    elif isinstance(changed, dict):
        changed[draw(SENDABLE)] = draw(SCALARS)
    else:
        changed.append(changed[at])
    return changed


@st.composite
def torn(draw: st.DrawFn, text: str) -> str:
    """A text that differs from `text` by cuts, by characters that were put in, or by parts that
    stand twice."""
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from([0, 0, 1, 2, 10, 1_000])))
        put = draw(st.one_of(SENDABLE, st.just(text[start:end] * 2)))
        text = text[:start] + put + text[end:]
    return text


def near(value: Any) -> st.SearchStrategy[str]:
    """JSON texts near that of `value`, texts that are not, and `value` itself now and then."""
    text = json.dumps(value)
    return st.one_of(
        bent(value).map(_dumped), torn(text), st.just(text), JSON.map(_dumped), SENDABLE
    )


def _dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def tried(
    inputs: st.SearchStrategy[Any], check: Callable[[Any], None], *, examples: int, seed: int
) -> int:
    """Call `check` with so many inputs. Returns how many it was. An input at which it fails is made
    smaller and shown, with the seed that finds it again."""
    count = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        print_blob=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(inputs)
    def run(value: Any) -> None:
        nonlocal count
        count += 1
        check(value)

    try:
        run()
    except Exception as error:
        error.add_note(f"seed {seed}")
        raise
    return count
