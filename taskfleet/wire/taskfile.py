"""Reads task files, which have one task a line: the form in which people write batches. Owns that
form for the command line, the HTTP API and the local worker.

A line is a kind and its params, such as `sleep 1000`. A line that begins with `{` is a task as a
JSON object, `{"kind": "sleep", "params": 1000}`, which may also have options
(`taskfleet.options`). Blank lines, lines that begin with `#`, and a byte
order mark at the beginning of the file are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from taskfleet import options
from taskfleet.errors import InvalidTask
from taskfleet.options import Options
from taskfleet.wire import strictjson

_FIELDS = {"kind", "params", *options.NAMES}
"""The fields of a task object."""


def read_tasks(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """Yields the line number, from 1, and the task of each line that holds one. The task is text or
    an object, not yet validated. Raises InvalidTask, which names the line by its number."""
    for number, line in enumerate(lines, start=1):
        task = read_line(line, number)
        if task is not None:
            yield number, task


def read_line(line: str, number: int) -> Any:
    """Returns the task on the line, text or an object, not yet validated; None for a blank line or
    a comment. Raises InvalidTask, which names the line by its number."""
    text = _content(line, number)
    if not text or text.startswith("#"):
        return None
    if not text.startswith("{"):
        return text
    try:
        return strictjson.loads(text)
    except ValueError as error:
        raise InvalidTask(f"line {number}: {error}") from None


def holds_task(line: bytes, number: int) -> bool:
    """Returns whether `read_line` would return a task or raise an error. The line must be UTF-8.
    This is faster than `read_line`, for skipping lines that were read before."""
    start = line.lstrip()[:1]
    if b"!" <= start <= b"~":  # a visible ASCII character
        return start != b"#"
    text = _content(line.decode(), number)
    return bool(text) and not text.startswith("#")


def _content(line: str, number: int) -> str:
    """Returns the line without a byte order mark and surrounding white space."""
    return (line.removeprefix("\ufeff") if number == 1 else line).strip()


def kind_and_params(raw: Any) -> tuple[str, Any]:
    """Returns the kind and the params of a task as it was submitted, neither validated:
    `"sleep 1000"` gives `("sleep", "1000")`. The params are None when there are none. Raises
    InvalidTask."""
    if isinstance(raw, str):
        words = raw.strip().split(maxsplit=1)
        if not words:
            raise InvalidTask("is empty")
        return words[0], words[1] if len(words) > 1 else None
    if not isinstance(raw, dict):
        raise InvalidTask(f'must be text like "sleep 1000" or an object, not {raw!r:.40}')
    unknown = sorted(set(raw) - _FIELDS)
    if unknown:
        known = ", ".join(("kind", "params", *options.NAMES))
        raise InvalidTask(f"has an unknown field {unknown[0]!r:.40}; known: {known}")
    kind = raw.get("kind")
    if not isinstance(kind, str) or not kind:
        raise InvalidTask("needs a kind, as text")
    return kind, raw.get("params")


def own_options(raw: Any) -> Options | None:
    """Returns the options of a task as it was submitted; None if it has none. Raises InvalidTask,
    which names the option at fault."""
    if not isinstance(raw, dict):
        return None
    given = {name: raw[name] for name in options.NAMES if name in raw}
    if not given:
        return None
    try:
        return options.read(given)
    except ValueError as error:
        raise InvalidTask(str(error)) from None
