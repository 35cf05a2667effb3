"""What people hand to the command line: task files and durations. Owns reading them and saying
where they are wrong; not what a line means (`taskfleet.wire.taskfile`)."""

from __future__ import annotations

import os
import re
import stat
from array import array
from collections.abc import Iterator
from typing import IO, Any, TextIO

import click

from taskfleet.client import (
    ApiError,
)
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.wire.http import (
    BODY_MAX_BYTES,
)
from taskfleet.wire.taskfile import read_tasks

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class TaskFile:
    """The tasks of a file, read once and as they are asked for; remembers each one's line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        name = str(getattr(file, "name", "<stdin>"))
        self._name = "standard input" if name == "<stdin>" else name
        self._lines = array("L")

    @property
    def large(self) -> IO[bytes] | None:
        """The file itself when it is too large for one request, whatever its tasks."""
        try:
            found = os.fstat(self._file.fileno())
            if stat.S_ISREG(found.st_mode) and found.st_size > BODY_MAX_BYTES:
                return self._file.buffer
        except (OSError, ValueError):  # no file behind it
            pass
        return None

    def __iter__(self) -> Iterator[Any]:
        for number, task in read_tasks(self._file):
            self._lines.append(number)
            yield task

    def fault(self, error: InvalidTask | ApiError | UnicodeDecodeError | OSError) -> TaskfleetError:
        """The same, said of the file and, when it is about one task, of its line."""
        if isinstance(error, UnicodeDecodeError):
            return TaskfleetError(f"{self._name} is not UTF-8: {error}")
        if isinstance(error, OSError):
            return TaskfleetError(f"{self._name} cannot be read: {error.strerror or error}")
        if error.index is None:  # it names the line itself
            return TaskfleetError(f"{self._name}, {error}")
        return TaskfleetError(f"{self._name}, line {self._lines[error.index]}: {error.reason}")

    def refusal(self, error: str) -> TaskfleetError:
        """What is wrong with the file, as its batch tells it: lines are those of the file when it
        was sent as it is, else there was one for each task."""
        found = re.fullmatch(r"line (\d+): (.*)", error, re.DOTALL)
        if found and self._lines:
            error = f"line {self._lines[int(found[1]) - 1]}: {found[2]}"
        return TaskfleetError(f"{self._name}, {error}")


def duration_s(_ctx: click.Context, _option: click.Parameter, value: str) -> float:
    """Callback of an option: a number of seconds, or with a unit, as in `15m`, `12h`, `30d`."""
    found = re.fullmatch(r"(\d{1,9})([smhd]?)", value)
    if not found or not int(found[1]):
        raise click.BadParameter(f"{value!r} is not a duration; write 90, 15m, 12h or 30d.")
    return float(int(found[1]) * _UNITS_S[found[2]])
