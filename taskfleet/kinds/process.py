"""One command as a process: starting it, reading what it prints, and ending it with all that it
started. Owns the process; not its folder (`taskfleet.kinds.folder`), what is kept of its streams
(`taskfleet.kinds.streams`) nor what its end means (`taskfleet.kinds.command`).

The command has a session of its own. In a runner, which adopts the orphans among its descendants,
whatever the command left behind is found and killed when the command ends.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from taskfleet import procfs
from taskfleet.errors import TaskFailed
from taskfleet.kinds.streams import Passed, Tail
from taskfleet.registry import TaskContext

STOP_S = 1.0
"""Seconds from SIGTERM to SIGKILL. A runner that must end is itself killed after two."""
LOOK_S = 1.0
"""Least seconds between two calls of `watch`."""
LOOK_SHARE = 20
"""A call of `watch` is followed by at least this many times its own duration without one."""
REST_S = 2.0
"""Longest time in seconds to read what is left in the pipes, and to see what was killed end."""
_READ_BYTES = 1 << 16


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    code: its exit status, or, negative, the signal that ended it.
    stdout, stderr: the last bytes of each stream.
    fault: why it was killed, in words; None if it was not.
    """

    code: int
    stdout: bytes
    stderr: bytes
    fault: str | None = None


def run(
    words: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: str,
    stdin: str,
    context: TaskContext,
    watch: Callable[[], str | None],
    before: Callable[[], None] | None = None,
) -> Ended:
    """Run a command to its end. When it returns, nothing that the command started runs any more.

    watch: called from time to time; returns why the command must be killed, or None.
    before: called in the new process before the program starts.

    Raises TaskFailed if there is no such program, and TaskStopped if the task must end.
    """
    context.check_stopped()
    process = _start(words, env, cwd, stdin, before)
    running = _Running(process, context, watch)
    stop = context.on_stop(running.stop)
    try:
        running.follow()
    finally:
        stop()
        running.close()
    context.check_stopped()
    return Ended(process.returncode, *running.tails(), running.fault)


def _start(
    words: Sequence[str],
    env: Mapping[str, str],
    cwd: str,
    stdin: str,
    before: Callable[[], None] | None,
) -> subprocess.Popen[bytes]:
    with _as_file(stdin) as source:
        try:
            process = subprocess.Popen(
                words,
                stdin=source,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=cwd,
                env=env,
                start_new_session=True,
                preexec_fn=before,
            )
        except OSError as error:
            raise _no_start(words[0], env, error) from error
    with contextlib.suppress(OSError):  # a core would fill the folder
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    return process


@contextlib.contextmanager
def _as_file(text: str) -> Iterator[IO[bytes] | int]:
    """Yields what Popen takes as standard input: a file that holds the text, or nothing."""
    if not text:
        yield subprocess.DEVNULL
        return
    with os.fdopen(os.memfd_create("stdin"), "w+b") as file:
        file.write(text.encode())
        file.seek(0)
        yield file


def _no_start(program: str, env: Mapping[str, str], error: OSError) -> TaskFailed:
    shown = repr(program)[:200]
    if isinstance(error, FileNotFoundError):
        where = "in the task's folder" if "/" in program else f"on PATH={env.get('PATH', '')[:300]}"
        return TaskFailed(f"no program {shown} on the worker; looked for it {where}")
    if isinstance(error, PermissionError):
        return TaskFailed(f"the program {shown} cannot be executed: {error.strerror}")
    return TaskFailed(f"the program {shown} does not start: {error.strerror}")


class _Running:
    """A command that runs. `stop` may be called from any thread, the rest from one."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        context: TaskContext,
        watch: Callable[[], str | None],
    ) -> None:
        self._process = process
        self._context = context
        self._watch = watch
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._waking = threading.Lock()
        self._closed = False
        self._ended = os.pidfd_open(process.pid)
        self._tails = {stream.fileno(): Tail() for stream in _streams(process)}
        self._passed = Passed()
        self._poll = select.poll()
        for fd in self._tails:
            os.set_blocking(fd, False)
            self._poll.register(fd, select.POLLIN)
        self._poll.register(self._ended, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        self._open = set(self._tails)
        self._look_at = time.monotonic() + LOOK_S
        self._kill_at: float | None = None
        self.fault: str | None = None

    def stop(self) -> None:
        """Have the command ended."""
        with self._waking:
            if not self._closed:
                os.eventfd_write(self._wake, 1)

    def tails(self) -> tuple[bytes, bytes]:
        """Returns the last bytes of standard output and standard error."""
        stdout, stderr = self._tails.values()
        return stdout.read(), stderr.read()

    def follow(self) -> None:
        """Read what the command prints until it has ended, then kill what it left behind and read
        the rest."""
        while not self._step():
            pass

    def _step(self) -> bool:
        """Wait for the next thing that happens, and take it in. Returns whether the command has
        ended."""
        ready = {fd for fd, _ in self._poll.poll(self._patience_ms())}
        for fd in ready & self._open:
            self._read(fd)
        if self._ended in ready:
            return True
        now = time.monotonic()
        if self._wake in ready:
            self._poll.unregister(self._wake)
            self._end(now)
        if self._kill_at is not None and now >= self._kill_at:
            self._signal(signal.SIGKILL)
            self._kill_at = now + STOP_S
        if now >= self._look_at and self._kill_at is None:
            self.fault = self._watch()
            took_s = time.monotonic() - now
            self._look_at = now + max(LOOK_S, LOOK_SHARE * took_s)
            if self.fault is not None:
                self._end(now)
        return False

    def _patience_ms(self) -> float:
        until = self._look_at if self._kill_at is None else self._kill_at
        return max(0.0, until - time.monotonic()) * 1000 + 1

    def _end(self, now: float) -> None:
        if self._kill_at is None:
            self._signal(signal.SIGTERM)
            self._kill_at = now + STOP_S

    def _signal(self, number: signal.Signals) -> None:
        # The process is not waited for before `close`, so its number is no other's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _read(self, fd: int) -> bool:
        """Read once. Returns whether there was anything."""
        try:
            data = os.read(fd, _READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._poll.unregister(fd)
            self._open.discard(fd)
            return False
        self._tails[fd].add(data)
        self._passed.write(data)
        return True

    def close(self) -> None:
        """Kill the command, if it has not ended, and all that it left; then read what is left in
        the pipes."""
        self._signal(signal.SIGKILL)
        self._process.wait()
        give_up_at = time.monotonic() + REST_S
        end_leftovers(give_up_at)
        for fd in self._open.copy():
            while self._read(fd):
                if time.monotonic() > give_up_at:  # something that writes on escaped
                    break
        self._passed.close()
        for stream in _streams(self._process):
            stream.close()
        os.close(self._ended)
        with self._waking:
            self._closed = True
            os.close(self._wake)


def _streams(process: subprocess.Popen[bytes]) -> list[IO[bytes]]:
    """Returns the ends of the pipes that a command prints to."""
    return [stream for stream in (process.stdout, process.stderr) if stream is not None]


def end_leftovers(give_up_at: float) -> None:
    """Kill all children of this process and their descendants, if it is a runner, and wait for
    their end until `give_up_at` on the monotonic clock. A runner runs one task at a time, so they
    are this task's."""
    if not procfs.adopts_orphans():
        return
    while time.monotonic() < give_up_at:
        left = procfs.children(os.getpid())
        if not left:
            return
        for pid in left:
            procfs.kill_tree(pid)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if procfs.children(os.getpid()):
            time.sleep(0.001)
