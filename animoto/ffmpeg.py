"""Runs ffmpeg: finds it, starts it, feeds it, limits it and kills it. Owns the process and how
its exit is judged; not its arguments (`animoto.command`)."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from taskfleet.errors import PermanentError, TaskfleetError, TransientError

_REQUIRED = ("libx264", "aac", "framerate", "setts")
"""The encoders and filters that movies need."""
_INHERITED = ("PATH", "LD_LIBRARY_PATH")
"""The environment variables that ffmpeg inherits."""
_CPU_GRACE_S = 5
"""CPU seconds between the signal at the soft limit, which ffmpeg catches, and the kill."""
_LOG_TAIL_BYTES = 600
"""Bytes of ffmpeg's last messages that an error quotes."""
_SIGNAL_EXIT_CODE = 255
"""ffmpeg's exit code after a signal that it catches, such as SIGTERM."""


class Stoppable(Protocol):
    """The part of a task's context (`taskfleet.registry.TaskContext`) that ffmpeg needs."""

    def check_stopped(self) -> None: ...

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]: ...


@dataclass(frozen=True)
class EncodeLimits:
    """Limits on one ffmpeg process."""

    wall_s: float
    """Longest running time, in seconds."""
    cpu_s: int
    """Most CPU time, in seconds."""
    file_bytes: int = 4_000_000_000
    """Largest file that it may write."""


def find() -> str:
    """Returns the path of ffmpeg: the environment variable IMAGEIO_FFMPEG_EXE, else the program
    that imageio-ffmpeg ships, else the system's. Raises PermanentError that says what to
    install."""
    chosen = os.environ.get("IMAGEIO_FFMPEG_EXE")
    if chosen:
        return chosen
    # imageio-ffmpeg's own function does the same, but starts ffmpeg with the whole environment.
    try:
        folder = importlib.resources.files("imageio_ffmpeg.binaries")
    except ImportError:
        raise PermanentError(
            "movies need ffmpeg: pip install imageio-ffmpeg (part of taskfleet[animoto])"
        ) from None
    shipped = sorted(str(path) for path in folder.iterdir() if path.name.startswith("ffmpeg-"))
    exe = shipped[0] if shipped else shutil.which("ffmpeg")
    if exe is None:
        raise PermanentError(
            "imageio-ffmpeg ships no ffmpeg for this machine: install ffmpeg, or set "
            "IMAGEIO_FFMPEG_EXE to one"
        )
    return exe


def _environment() -> dict[str, str]:
    """Returns the environment of each ffmpeg process: where programs and libraries lie, and nothing
    else. The worker's own has credentials and secrets."""
    return {name: os.environ[name] for name in _INHERITED if name in os.environ}


def check(exe: str) -> None:
    """Raises PermanentError if `exe` does not run or lacks an encoder or filter that movies
    need."""
    listed = ""
    for listing in ("-encoders", "-filters", "-bsfs"):
        try:
            done = subprocess.run(
                [exe, "-hide_banner", "-v", "error", listing],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=30,
                check=True,
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise PermanentError(
                f"ffmpeg does not run ({error}): install it, or set IMAGEIO_FFMPEG_EXE to one"
            ) from error
        listed += done.stdout.decode(errors="replace")
    missing = sorted(set(_REQUIRED) - set(listed.split()))
    if missing:
        raise PermanentError(
            f"{exe} lacks {', '.join(missing)}: install a full ffmpeg (5.1 or later), or set "
            "IMAGEIO_FFMPEG_EXE to one"
        )


class Process:
    """A running ffmpeg in a process group of its own; made by `running`."""

    def __init__(
        self, child: subprocess.Popen[bytes], stderr: Path, limits: EncodeLimits, context: Stoppable
    ) -> None:
        self._child = child
        self._stderr = stderr
        self._limits = limits
        self._context = context
        self._timed_out = False
        self._cpu_s = 0.0
        self._reaping = threading.Lock()

    def write(self, data: bytes) -> None:
        """Writes to ffmpeg's standard input. Raises as `finish` does if ffmpeg has ended."""
        stdin = self._child.stdin
        remaining = memoryview(data)
        try:
            while remaining and stdin is not None:
                remaining = remaining[stdin.write(remaining) :]
        except BrokenPipeError:
            self.finish()
            raise PermanentError("ffmpeg ended before it had received all frames") from None

    def finish(self) -> bytes:
        """Closes ffmpeg's input, waits for its end, and returns its standard output. Raises
        TaskStopped if the task was stopped, TransientError or PermanentError if ffmpeg failed."""
        with contextlib.suppress(BrokenPipeError):
            self.close_input()
        output = self._child.stdout.read() if self._child.stdout else b""
        code = self._wait()
        if code != 0:
            self._context.check_stopped()
            log = self._stderr.read_bytes()[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()
            cpu_exceeded = self._cpu_s >= self._limits.cpu_s
            raise exit_error(code, log, timed_out=self._timed_out, cpu_exceeded=cpu_exceeded)
        return output

    def close_input(self) -> None:
        """Ends ffmpeg's standard input. Raises BrokenPipeError if ffmpeg has ended."""
        if self._child.stdin is not None and not self._child.stdin.closed:
            self._child.stdin.close()

    def time_out(self) -> None:
        """Kills ffmpeg because its time is up; `finish` then raises TransientError."""
        self._timed_out = True
        self.kill()

    def kill(self) -> None:
        """Kills ffmpeg's process group, if it still runs; callable from any thread."""
        # After a child is reaped, its process id may belong to another process.
        with self._reaping, contextlib.suppress(ProcessLookupError):
            if self._child.returncode is None:
                os.killpg(self._child.pid, signal.SIGKILL)

    def reap(self) -> None:
        """Kills ffmpeg, waits for its end, and closes its pipes."""
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self.close_input()
        if self._child.stdout:
            self._child.stdout.close()
        self._wait()

    def _wait(self) -> int:
        """Waits for the end of ffmpeg, notes its CPU time, and returns its exit code (negative: the
        signal that killed it)."""
        if self._child.returncode is None:
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
            with self._reaping:
                _, status, usage = os.wait4(self._child.pid, 0)
                self._child.returncode = os.waitstatus_to_exitcode(status)
            self._cpu_s = usage.ru_utime + usage.ru_stime
        return self._child.returncode


@contextlib.contextmanager
def running(
    exe: str, arguments: Sequence[str], *, folder: str, limits: EncodeLimits, context: Stoppable
) -> Iterator[Process]:
    """Context with a running ffmpeg, which has ended when the context ends, whatever happens.

    ffmpeg is killed when the task is stopped or `limits.wall_s` is over. `folder` is its working
    directory and takes the file of its messages. Raises TransientError if it cannot be started.
    """
    stderr = Path(folder, "ffmpeg.log")
    with open(stderr, "wb") as log:
        child = _start(exe, arguments, folder, log)
    process = Process(child, stderr, limits, context)
    try:
        _limit(child.pid, limits)
        timer = threading.Timer(limits.wall_s, process.time_out)
        timer.daemon = True
        timer.start()
        unregister = context.on_stop(process.kill)
        try:
            yield process
        finally:
            unregister()
            timer.cancel()
    finally:
        process.reap()


def _start(
    exe: str, arguments: Sequence[str], folder: str, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            [exe, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            cwd=folder,
            env=_environment(),
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise TransientError(f"cannot start {exe}: {error.strerror}") from error


def _limit(pid: int, limits: EncodeLimits) -> None:
    """Sets the resource limits of the running process `pid`."""
    # Not in a preexec function: code between fork and exec is unsafe in a process with threads.
    if not hasattr(resource, "prlimit"):  # other systems than Linux have the wall clock only
        return
    with contextlib.suppress(ProcessLookupError):
        cpu = (limits.cpu_s, limits.cpu_s + _CPU_GRACE_S)
        resource.prlimit(pid, resource.RLIMIT_CPU, cpu)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def exit_error(code: int, log: str, *, timed_out: bool, cpu_exceeded: bool) -> TaskfleetError:
    """Returns the error for an ffmpeg that failed.

    code: its exit code; negative: the signal that killed it.
    log: the end of its messages.
    timed_out: it was killed because its time was up.
    cpu_exceeded: it used all its CPU time. The signal sent then is one that ffmpeg catches, so
        `code` alone does not show it.
    """
    log = log or "no message"
    if timed_out:
        return TransientError("ffmpeg took too long and was killed")
    if code == -signal.SIGXFSZ or "File too large" in log:
        return PermanentError("the movie grew over the cap on its size")
    if cpu_exceeded:
        return PermanentError("ffmpeg used more CPU time than a movie may")
    if code < 0:
        return TransientError(f"ffmpeg was killed by {signal.Signals(-code).name}: {log}")
    if code == _SIGNAL_EXIT_CODE:
        return TransientError(f"ffmpeg was ended by a signal: {log}")
    if "No space left on device" in log or "Cannot allocate memory" in log:
        return TransientError(f"ffmpeg ran out of disk or memory: {log}")
    return PermanentError(f"ffmpeg failed with exit code {code}: {log}")
