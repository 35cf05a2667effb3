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
