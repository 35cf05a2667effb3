"""Standard output of the command line: its width, and the pager for long output. Owns both; not
colour (`taskfleet.client.terminal`) nor what is printed.

PAGER names the pager, `less` unless set; an empty one or `cat` means none. LESS is `FRX` unless
set: what fits on one screen stays on it, and colours are shown.
"""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, TextIO, cast

from rich.console import Console

from taskfleet.client.terminal import can_redraw, console_of

FILE_WIDTH = 160
"""Width in characters of a table that goes into a file or a pipe."""
LESS = "FRX"
"""Options of `less` when the variable LESS is not set."""


def stdout_console() -> Console:
    """Returns a console for standard output: as wide as the terminal, or `FILE_WIDTH`."""
    return console_of(sys.stdout, None if sys.stdout.isatty() else FILE_WIDTH)


class _Pager(io.TextIOBase):
    """Standard output that a pager shows. The pager starts with the first text, so that an error
    before it is printed as without a pager."""

    def __init__(self, words: Sequence[str], encoding: str) -> None:
        super().__init__()
        self._words = words
        self._encoding = encoding
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding

    def isatty(self) -> bool:
        """Returns True: what is behind the pager is a terminal."""
        return True

    def write(self, text: str) -> int:
        if self._process is None:
            environ = {**os.environ, "LESS": os.environ.get("LESS", LESS)}
            self._process = subprocess.Popen(self._words, stdin=subprocess.PIPE, env=environ)
        cast(IO[bytes], self._process.stdin).write(text.encode(self._encoding, "replace"))
        return len(text)

    def flush(self) -> None:
        if self._process is not None:
            cast(IO[bytes], self._process.stdin).flush()

    def end(self) -> None:
        """Wait until the pager is left. Ctrl-C is for the pager, which decides what it means."""
        if self._process is None:
            return
        with suppress(BrokenPipeError):
            cast(IO[bytes], self._process.stdin).close()
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._process.wait()
        finally:
            signal.signal(signal.SIGINT, before)


@contextmanager
def paged(wanted: bool = True) -> Iterator[None]:
    """Has standard output shown by the pager for the time of the `with` block, if it is a terminal.
    A pager that is left early ends the block, and nothing more is printed.

    wanted: False for no pager.
    """
    words = pager(os.environ) if wanted and can_redraw(sys.stdout, os.environ) else None
    if words is None:
        yield
        return
    sys.stdout.flush()
    before, shown = sys.stdout, _Pager(words, sys.stdout.encoding)
    sys.stdout = cast(TextIO, shown)
    try:
        yield
    except BrokenPipeError:
        pass
    finally:
        sys.stdout = before
        shown.end()


def pager(environ: Mapping[str, str]) -> list[str] | None:
    """Returns the words of the pager's command, None for no pager."""
    words = shlex.split(environ.get("PAGER", "less"))
    if not words or words == ["cat"] or shutil.which(words[0], path=environ.get("PATH")) is None:
        return None
    return words
