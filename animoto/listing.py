"""Reads picture lists such as `examples/images.txt`, which name the pictures of one or more movies.
Owns their format and the line numbers in messages; not what a movie may be (`animoto.spec`).

A list is UTF-8 text. Each line names one picture, a URL or the path of a file, in the order of
play. Blank lines and lines that begin with `#` are skipped. `duration=4` (seconds) and
`caption=TEXT` (with `\\n` for a line break) may follow the picture, separated by tabs. A line
`---` separates two movies.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.errors import InvalidTask

SEPARATOR = "---"
"""The line between two movies."""


@dataclass(frozen=True)
class Entry:
    """One picture of a list.

    line: its line number, from 1.
    source: the URL or path as written.
    path: the file, if `source` is a path.
    options: `duration` and `caption`, as given.
    """

    line: int
    source: str
    path: Path | None
    options: dict[str, Any]

    def image(self, url: str) -> str | dict[str, Any]:
        """Returns the picture in the form of the task's params, with `url` as its source."""
        return {"url": url, **self.options} if self.options else url


def read(lines: Iterable[str], folder: Path) -> list[list[Entry]]:
    """Returns the movies of a list, each with at least one picture.

    folder: the list's folder; paths in the list are relative to it.

    Raises InvalidTask that names the faulty line.
    """
    movies: list[list[Entry]] = [[]]
    for number, line in enumerate(lines, start=1):
        text = (line.lstrip("\ufeff") if number == 1 else line).strip(" \r\n")
        if text == SEPARATOR:
            movies.append([])
        elif text.strip() and not text.startswith("#"):
            movies[-1].append(_entry(number, text, folder))
    movies = [movie for movie in movies if movie]
    if not movies:
        raise InvalidTask("the list names no picture")
    return movies


def is_url(source: str) -> bool:
    """Returns whether `source` is meant as a URL rather than as the path of a file."""
    return "://" in source


def _entry(number: int, text: str, folder: Path) -> Entry:
    source, *fields = text.split("\t")
    source = source.strip()
    options: dict[str, Any] = {}
    for field in filter(None, (field.strip() for field in fields)):
        name, equals, value = field.partition("=")
        if not equals or name not in ("duration", "caption"):
            raise InvalidTask(
                f"line {number}: {field!r:.60} is neither duration=SECONDS nor caption=TEXT"
            )
        if name in options:
            raise InvalidTask(f"line {number}: {name} is given twice")
        options[name] = _seconds(number, value) if name == "duration" else _text(value)
    if not source:
        raise InvalidTask(f"line {number}: begins with a tab; the picture must come first")
    if is_url(source):
        return Entry(number, source, None, options)
    return Entry(number, source, _file(number, source, folder), options)


def _file(number: int, source: str, folder: Path) -> Path:
    try:
        path = folder / Path(source).expanduser()
        found = path.is_file()
    except (OSError, RuntimeError):  # a name that is too long; `~` and a user who does not exist
        found = False
    if not found:
        raise InvalidTask(f"line {number}: no file {source!r:.200}, and it is not a URL")
    return path


def _seconds(number: int, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidTask(
            f"line {number}: duration={value!r:.40} is not a number of seconds"
        ) from None


def _text(value: str) -> str:
    return value.replace("\\n", "\n")
