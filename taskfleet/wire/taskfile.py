"""Task files: one task a line, the form in which people write batches. Owns that form, for the
command line, the HTTP API and the local worker alike.

A line is a task as `taskfleet.registry.split` reads it, such as `sleep 1000`; a line that begins
with `{` is a task as a JSON object. Blank lines, lines that begin with `#`, and the mark that
editors on Windows put before the first line are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from taskfleet.errors import InvalidTask
from taskfleet.wire import strictjson


def read_tasks(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """(line number from 1, task as submitted) of each task. InvalidTask names the line."""
    for number, line in enumerate(lines, start=1):
        task = read_line(line, number)
        if task is not None:
            yield number, task


def read_line(line: str, number: int) -> Any:
    """The task on a line, as submitted, or None when the line is skipped. InvalidTask names the
    line."""
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
    """Whether `read_line` finds a task on the line, which is UTF-8, or a fault; quicker than that,
    for skipping lines that were read before."""
    start = line.lstrip()[:1]
    if b"!" <= start <= b"~":
        return start != b"#"
    text = _content(line.decode(), number)
    return bool(text) and not text.startswith("#")


def _content(line: str, number: int) -> str:
    return (line.removeprefix("\ufeff") if number == 1 else line).strip()


def kind_and_params(raw: Any) -> tuple[str, Any]:
    """The kind and the params of a task as it was submitted, neither validated: `"sleep 1000"` is
    `("sleep", "1000")`, and a bare name has params None. Raises InvalidTask."""
    if isinstance(raw, str):
        words = raw.strip().split(maxsplit=1)
        if not words:
            raise InvalidTask("is empty")
        return words[0], words[1] if len(words) > 1 else None
    if not isinstance(raw, dict):
        raise InvalidTask(f'must be text like "sleep 1000" or an object, not {raw!r:.40}')
    unknown = sorted(set(raw) - {"kind", "params"})
    if unknown:
        raise InvalidTask(f"has an unknown field {unknown[0]!r:.60}; known: kind, params")
    kind = raw.get("kind")
    if not isinstance(kind, str) or not kind:
        raise InvalidTask("needs a kind, as text")
    return kind, raw.get("params")
