"""Task files: one task a line, the form in which people write batches. Owns that form, for the
command line, the HTTP API and the local worker alike.

A line is a task as `taskfleet.registry.split` reads it, such as `sleep 1000`; a line that begins
with `{` is a task as a JSON object. Blank lines, lines that begin with `#`, and the mark that
editors on Windows put before the first line are skipped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from taskfleet import strictjson
from taskfleet.errors import InvalidTask


def read_tasks(lines: Iterable[str]) -> Iterator[tuple[int, Any]]:
    """(line number from 1, task as submitted) of each task. InvalidTask names the line."""
    for number, line in enumerate(lines, start=1):
        text = (line.removeprefix("\ufeff") if number == 1 else line).strip()
        if not text or text.startswith("#"):
            continue
        if not text.startswith("{"):
            yield number, text
            continue
        try:
            yield number, strictjson.loads(text)
        except ValueError as error:
            raise InvalidTask(f"line {number}: {error}") from None
