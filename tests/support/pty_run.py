"""Runs a program in a terminal (a pseudo-terminal), for tests of what a person sees."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|\r")


@dataclass
class Terminal:
    """A program that runs in a terminal. `raw` is all that it has printed so far."""

    process: subprocess.Popen[bytes]
    fd: int
    raw: str = ""
    _decoder: codecs.IncrementalDecoder = field(
        default_factory=lambda: codecs.getincrementaldecoder("utf-8")(), repr=False
    )

    @property
    def text(self) -> str:
        """What it printed, without control sequences."""
        return _CONTROL.sub("", self.raw)

    def read_until(self, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
        """Read until the condition holds or the program has ended. Raises AssertionError after
        `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {timeout_s:g} s; printed: {self.raw!r}"
            if not select.select([self.fd], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self.fd, 65_536)
            except OSError:  # the program has ended and closed the terminal
                return
            if not data:
                return
            self.raw += self._decoder.decode(data)

    def type(self, keys: bytes) -> None:
        """Send keys; b"\\x03" is Ctrl-C."""
        os.write(self.fd, keys)

    def end(self) -> int:
        """Read until the program ends. Returns its exit code."""
        self.read_until(lambda: False)
        return self.process.wait(30)


@contextmanager
def in_terminal(
    command: Sequence[str], environ: dict[str, str], *, columns: int = 120, rows: int = 40
) -> Iterator[Terminal]:
    """Run the command in a terminal of this size for the time of the `with` block."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environ = {k: v for k, v in environ.items() if k not in ("COLUMNS", "LINES")}

    def take_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # so that Ctrl-C reaches the program as a signal

    process = subprocess.Popen(
        command,
        env={"TERM": "xterm", **environ},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=take_terminal,
        restore_signals=True,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait(30)
        os.close(ours)
