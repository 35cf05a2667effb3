"""The input of the command line: task files and durations. Owns reading them and naming the place
of a fault; not what a line means (`taskfleet.wire.taskfile`).
"""

from __future__ import annotations

import os
import re
import stat
from array import array
from collections.abc import Iterator
from typing import IO, Any, TextIO

import click

from taskfleet.client import ApiError
from taskfleet.errors import InvalidTask, TaskfleetError
from taskfleet.wire.http.caps import BODY_MAX_BYTES
from taskfleet.wire.taskfile import read_tasks

_UNITS_S = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class TaskFile:
    """The tasks of a file. Iterating reads them once, as they are needed, and keeps the line number
    of each."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        name = str(getattr(file, "name", "<stdin>"))
        self._name = "standard input" if name == "<stdin>" else name
        self._lines = array("L")

    @property
    def large(self) -> IO[bytes] | None:
        """The file itself when it is larger than one request may be, otherwise None."""
        try:
            status = os.fstat(self._file.fileno())
            if stat.S_ISREG(status.st_mode) and status.st_size > BODY_MAX_BYTES:
                return self._file.buffer
        except (OSError, ValueError):  # such as a pipe or a string, which has no file descriptor
            pass
        return None

    def __iter__(self) -> Iterator[Any]:
        for number, task in read_tasks(self._file):
            self._lines.append(number)
            yield task

    def fault(self, error: InvalidTask | ApiError | UnicodeDecodeError | OSError) -> TaskfleetError:
        """Returns the error with the file's name and, when it is about one task, the task's
        line."""
        if isinstance(error, UnicodeDecodeError):
            return TaskfleetError(f"{self._name} is not UTF-8: {error}")
        if isinstance(error, OSError):
            return TaskfleetError(f"{self._name} cannot be read: {error.strerror or error}")
        if error.index is None:  # the message names the line
            return TaskfleetError(f"{self._name}, {error}")
        return TaskfleetError(f"{self._name}, line {self._lines[error.index]}: {error.reason}")

    def refusal(self, error: str) -> TaskfleetError:
        """Returns the `error` of the batch that was made of this file, with the file's name unless
        the error is about another batch.

        The error counts lines of the file that was sent. That is this file when it was `large`;
        otherwise it was a temporary file with one line for each task.
        """
        if error.startswith("batch "):  # one for which it waited
            return TaskfleetError(error)
        match = re.fullmatch(r"line (\d+): (.*)", error, re.DOTALL)
        if match and self._lines:
            error = f"line {self._lines[int(match[1]) - 1]}: {match[2]}"
        return TaskfleetError(f"{self._name}, {error}")


def duration_s(_ctx: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Callback of a click option. Returns the seconds in a duration such as `90`, `15m`, `12h` or
    `30d`; a number without a unit counts seconds. Returns None for None."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,9})([smhd]?)", value)
    if not match or not int(match[1]):
        raise click.BadParameter(f"{value!r} is not a duration; write 90, 15m, 12h or 30d.")
    return float(int(match[1]) * _UNITS_S[match[2]])
