"""Log lines of any record: each is one bounded line, which no value can forge or blow up.

CloudWatch Logs took at most 256 KB an event for long, and takes 1 MB now ("CloudWatch Logs
quotas"). A longer line is split or lost."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from taskfleet.log import LINE_MAX_BYTES, JsonFormatter, PlainFormatter, fields

EVENT_MAX_BYTES = 262_144

TEXTS = st.builds(
    lambda text, times: text * times,
    st.text(st.characters(), max_size=8),  # surrogates and control characters too
    st.sampled_from([1, 1, 1, 100, 50_000]),
)
VALUES = st.recursive(
    TEXTS | st.integers() | st.floats() | st.none() | st.booleans() | st.binary(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=4)
        | st.tuples(inner)
    ),
    max_leaves=8,
)


class Mute:
    def __str__(self) -> str:
        raise ValueError("no text for you")

    def __repr__(self) -> str:
        return "Mute()"


class Silent(Mute):
    def __repr__(self) -> str:
        raise ValueError("no text for you")


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


def endless() -> Any:
    value: dict[str, Any] = {}
    value["self"] = value
    return value


def raised(error: ValueError) -> Any:
    try:
        try:
            raise KeyError("x" * 400_000)
        except KeyError:
            raise error from None
    except ValueError as caught:
        return type(caught), caught, caught.__traceback__


def record(message: str, values: dict[str, Any], exc_info: Any = None) -> logging.LogRecord:
    made = logging.LogRecord("fleet", logging.ERROR, __file__, 1, message, (), exc_info)
    made.__dict__.update(fields("told", **values))
    return made


def assert_bounded(made: logging.LogRecord) -> None:
    line = JsonFormatter().format(made)
    assert "\n" not in line
    assert len(line.encode()) <= LINE_MAX_BYTES < EVENT_MAX_BYTES
    entry = json.loads(line)
    assert (entry["action"], entry["level"], entry["logger"]) == ("told", "ERROR", "fleet")
    plain = PlainFormatter().format(made)
    assert len(plain.encode("utf-8", "surrogatepass")) <= LINE_MAX_BYTES
    first, *rest = plain.split("\n")
    assert first.isprintable()
    assert made.exc_info or not rest
    assert all(line.isprintable() for line in rest)


@settings(max_examples=80, deadline=None)
@given(TEXTS, st.dictionaries(st.sampled_from("abcdefgh"), VALUES, max_size=8), st.none() | TEXTS)
@example("m", {"a": "x" * 2_000_000}, None)
@example("\N{GRINNING FACE}" * 1_000_000, {"a": "\x00" * 900_000}, "\n" * 900_000)
@example("m", {"a": {(1, 2): 3}, "c": ["x" * 100] * 50_000}, None)
@example("m", {f"v{n}": "\N{GRINNING FACE}" * 5_000 for n in range(300)}, None)
@example("m", {"k" * 300_000: 1}, None)
@example("\x1b[2J\x1b]0;title\x07", {"a": "x\n12:00:00 error forged"}, "\x1b[2J\u2028")
def test_a_line_is_bounded_whatever_is_in_the_record(
    message: str, values: dict[str, Any], error: str | None
) -> None:
    assert_bounded(record(message, values, None if error is None else raised(ValueError(error))))


@pytest.mark.parametrize(
    "value",
    [10**5_000, -(10**400), Mute(), [Mute()], endless(), nested(100_000)],
    ids=["digits", "number", "mute", "inside", "endless", "nested"],
)
def test_odd_values_make_a_line_too(value: Any) -> None:
    assert_bounded(record("m", {"a": value}))


def test_a_value_that_cannot_be_shown_is_named() -> None:
    made = record("m", {"a": Silent(), "b": [Silent()], "c": {1: (Silent(),)}})
    assert_bounded(made)
    shown = json.loads(JsonFormatter().format(made))
    assert shown["a"] == "a Silent that cannot be shown: ValueError"


def test_what_is_cut_says_so_and_keeps_both_ends() -> None:
    line = json.loads(JsonFormatter().format(record("m", {"a": "b" * 50_000 + "the end"})))
    assert line["a"].startswith("bbbb")
    assert line["a"].endswith("the end")
    assert "characters left out" in line["a"]


def test_the_cause_of_a_long_traceback_stays() -> None:
    error = raised(ValueError("y" * 500_000 + " the cause"))
    line = json.loads(JsonFormatter().format(record("m", {}, error)))
    assert line["traceback"].startswith("Traceback")
    assert line["traceback"].endswith("the cause")


@pytest.mark.parametrize("value", [0, -1.5, True, None, "short", ["a", {"b": 1}], {"k": [1]}])
def test_ordinary_values_stay_what_they_are(value: Any) -> None:
    assert json.loads(JsonFormatter().format(record("m", {"a": value})))["a"] == value
