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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import IO, cast

from rich.console import Console

from taskfleet.client.terminal import can_redraw, console_of

FILE_WIDTH = 160
"""Width in characters of a table that goes into a file or a pipe."""
LESS = "FRX"
"""Options of `less` when the variable LESS is not set."""


def stdout_console() -> Console:
    """Returns a console for standard output: as wide as the terminal, or `FILE_WIDTH`."""
    return console_of(sys.stdout, None if sys.stdout.isatty() else FILE_WIDTH)


class _ToPager(io.TextIOWrapper):
    """Standard output while a pager shows it: what is behind it is a terminal."""

    def isatty(self) -> bool:
        return True


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
    environ = {**os.environ, "LESS": os.environ.get("LESS", LESS)}
    process = subprocess.Popen(words, stdin=subprocess.PIPE, env=environ)
    before, to = sys.stdout, cast(IO[bytes], process.stdin)
    sys.stdout = _ToPager(to, encoding=before.encoding, errors="replace", write_through=True)
    try:
        yield
    except BrokenPipeError:
        pass
    finally:
        with suppress(BrokenPipeError):
            sys.stdout.close()
        sys.stdout = before
        _await(process)


def pager(environ: Mapping[str, str]) -> list[str] | None:
    """Returns the words of the pager's command, None for no pager."""
    words = shlex.split(environ.get("PAGER", "less"))
    if not words or words == ["cat"] or shutil.which(words[0], path=environ.get("PATH")) is None:
        return None
    return words


def _await(process: subprocess.Popen[bytes]) -> None:
    """Wait for the pager. Ctrl-C is for the pager, which decides by itself what it means."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process.wait()
    finally:
        signal.signal(signal.SIGINT, before)
