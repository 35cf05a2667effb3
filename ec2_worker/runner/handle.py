"""The worker's end of one runner process: its pipe, its note, its output, and the news of its end.
Owns the descriptors; not what is sent (`ec2_worker.runner.chunk`)."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import dataclass
from typing import Any, Protocol

from ec2_worker.runner.forkserver import STATUS
from ec2_worker.runner.frames import BrokenFrames, Pipe, Sent
from ec2_worker.runner.note import Note

GRACE_S = 2.0
"""Seconds from the request that a runner end to its being killed."""


class Ender(Protocol):
    """What ends runners: `ec2_worker.runner.forks.ForkServer`."""

    def end(self, pid: int, grace_s: float) -> bool: ...

    def limit(self, pid: int, memory_mb: int | None) -> None: ...


@dataclass(frozen=True)
class Exit:
    """How a runner ended.

    code: its exit status, or, negative, the signal that ended it; None when nobody knows.
    used_mb, limit_mb: its memory when it was killed for that, and what it might use; else 0.
    """

    code: int | None
    used_mb: int = 0
    limit_mb: int = 0


class Runner:
    """One runner process. It is used by one thread at a time, but for `end`.

    owner: the client whose code it runs; empty for none.
    free_since: when it last got free, on the monotonic clock.
    """

    def __init__(self, pipe: Pipe, status: int, note: Note, output: int, ender: Ender) -> None:
        self.pid = 0
        self.owner = ""
        self.free_since = 0.0
        self.pipe = pipe
        self.note = note
        self.output = output
        self.tasks_run = 0
        self.resident_mb = 0
        self.exit: Exit | None = None
        self._status = status
        self._ender = ender
        self._limit_mb: int | None = None
        self._poll = select.poll()
        self._poll.register(pipe.sock, select.POLLIN)
        self._poll.register(status, select.POLLIN)
        self._pipe_open = True
        self._server_gone = False

    def await_exit(self) -> None:
        """Wait for the end of a runner whose messages count no more."""
        with contextlib.suppress(KeyError):
            self._poll.unregister(self.pipe.sock)
        self._pipe_open = False
        while self.exit is None and not self._server_gone:
            self._poll.poll()
            self.exit = self._read_exit()

    def send(self, message: Any) -> None:
        """Send a message. Raises OSError when the runner takes none."""
        self.pipe.send(message)

    def wait(self, timeout_s: float | None) -> list[Sent]:
        """Returns the messages that came, waiting for the first up to `timeout_s` seconds; none
        also when the runner ended, which `exit` then tells. Raises BrokenFrames."""
        messages: list[Sent] = []
        if self.pipe.broken:
            raise BrokenFrames
        ready = dict(self._poll.poll(None if timeout_s is None else max(timeout_s, 0) * 1000 + 1))
        if self._status in ready:
            self.exit = self._read_exit()
        if self._pipe_open and self.pipe.sock.fileno() in ready:
            messages += self._read()
        if self.exit is not None:
            self.pipe.sock.settimeout(0)
            with contextlib.suppress(BlockingIOError, BrokenFrames):
                while self._pipe_open:
                    messages += self._read()
        return messages

    def _read(self) -> list[Sent]:
        try:
            return self.pipe.received()
        except (EOFError, ConnectionError):
            # The news of its end come by the other way; it may also have closed this one only.
            self._pipe_open = False
            self._poll.unregister(self.pipe.sock)
            self.end()
            if self._server_gone:
                self.exit = Exit(None)
            return []

    def _read_exit(self) -> Exit | None:
        told = os.read(self._status, STATUS.size)
        if len(told) == STATUS.size:
            status, used_mb, limit_mb = STATUS.unpack(told)
            return Exit(os.waitstatus_to_exitcode(status), used_mb, limit_mb if used_mb else 0)
        # The fork server is gone. The runner may live, and its pipe tells when it does not.
        self._poll.unregister(self._status)
        self._server_gone = True
        return None if self._pipe_open else Exit(None)

    def limit_memory(self, memory_mb: int | None) -> None:
        """Have the runner killed when it uses more than this."""
        if memory_mb != self._limit_mb:
            self._limit_mb = memory_mb
            self._ender.limit(self.pid, memory_mb)

    def end(self, grace_s: float | None = None) -> None:
        """Have the runner ended, and killed after `grace_s` seconds (default: `GRACE_S`). May be
        called from any thread, more than once."""
        grace_s = GRACE_S if grace_s is None else grace_s
        if self.exit is None and not self._ender.end(self.pid, grace_s):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    @property
    def fit(self) -> bool:
        """Returns whether an idle runner still lives."""
        return not self._poll.poll(0)

    def close(self) -> None:
        """Close the descriptors; a runner that lives then ends."""
        self.pipe.close()
        os.close(self._status)
        os.close(self.output)
        self.note.close()
