"""The items of `taskfleet map`: files or words, from the command line or one a line. Owns reading
them, and the name of a file in its task's folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from taskfleet.errors import TaskfleetError
from taskfleet.wire.filenames import name_fault


@dataclass(frozen=True)
class Item:
    """One item of a command line, for which `taskfleet map` makes a task.

    text: what the placeholders stand for: an item, or the name of a file in the task's folder.
    path: the file that is sent; None for an item that is no file.
    """

    text: str
    path: Path | None = None


def read_items(files: Sequence[str], arg_file: TextIO | None, no_files: bool) -> Iterator[Item]:
    """Yields the items: `files`, then the lines of `arg_file`, or of standard input if there is
    neither. Raises TaskfleetError, which names the item at fault.

    no_files: whether the items are words, not names of files.
    """
    words: Iterable[str] = files
    if arg_file is not None or not files:
        source: TextIO = arg_file or sys.stdin
        try:
            lines = [line.removesuffix("\n").removesuffix("\r") for line in source]
        except UnicodeDecodeError as error:
            raise TaskfleetError(f"the items are not UTF-8: {error}") from error
        words = [*files, *(line for line in lines if line)]
    for word in words:
        yield Item(word) if no_files else _file(word)


def _file(word: str) -> Item:
    """Returns the item of a file. Its name in the task's folder is as it was given, if that leads
    nowhere else, otherwise without folders."""
    path = Path(word)
    if not os.path.isfile(word):  # Path.is_file raises where a name is too long
        reason = "is a folder" if os.path.isdir(word) else "is no file here"
        raise TaskfleetError(f"{word!r:.200} {reason}; for items that are no files, add --no-files")
    name = os.path.normpath(word)
    if name.startswith(("/", "../")):
        name = path.name
    fault = name_fault(name)
    if fault is not None:
        raise TaskfleetError(f"the name {word!r} {fault}")
    return Item("./" + name if name.startswith("-") else name, path)
