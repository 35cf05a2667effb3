"""Picture lists, as in `images.txt`: what people write to say which pictures make which movie.
Owns that form and where in it a fault is; not what a movie may be (`animoto.spec`).

UTF-8; one picture a line, a URL or the path of a file, in the order of play. Blank lines and lines
that begin with `#` are skipped. Behind the picture, separated by tabs, may stand `duration=4`
(seconds) and `caption=...` (`\\n` in it begins a new line). A line `---` ends one movie and begins
the next.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from taskfleet.errors import InvalidTask

END = "---"


@dataclass(frozen=True)
class Entry:
    """One line. `source` is a URL or, with `path`, a file's path."""

    line: int
    source: str
    path: Path | None
    options: dict[str, Any]

    def image(self, url: str) -> str | dict[str, Any]:
        """As the task's params want it, found at `url`."""
        return {"url": url, **self.options} if self.options else url


def read(lines: Iterable[str], folder: Path) -> list[list[Entry]]:
    """The movies of a list, each with at least one picture; paths are relative to `folder`, where
    the list lies. InvalidTask names the line at fault."""
    movies: list[list[Entry]] = [[]]
    for number, line in enumerate(lines, start=1):
        text = line.lstrip("\ufeff").strip(" \r\n") if number == 1 else line.strip(" \r\n")
        if text == END:
            movies.append([])
        elif text.strip() and not text.startswith("#"):
            movies[-1].append(_entry(number, text, folder))
    found = [movie for movie in movies if movie]
    if not found:
        raise InvalidTask("the list names no picture")
    return found


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
            raise InvalidTask(f"line {number}: {name} stands twice")
        options[name] = _seconds(number, value) if name == "duration" else _text(value)
    if not source:
        raise InvalidTask(f"line {number}: begins with a tab; the picture must come first")
    if "://" in source:
        return Entry(number, source, None, options)
    path = folder / Path(source).expanduser()
    if not path.is_file():
        raise InvalidTask(f"line {number}: no file {source!r}, and it is no URL")
    return Entry(number, source, path, options)


def _seconds(number: int, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InvalidTask(
            f"line {number}: duration={value!r:.40} is no number of seconds"
        ) from None


def _text(value: str) -> str:
    return value.replace("\\n", "\n")
