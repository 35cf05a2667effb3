"""ffmpeg as a process: found, started, fed, limited, killed. Owns the process and the meaning of
its end; not its arguments (`animoto.command`)."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from taskfleet.errors import PermanentError, TaskfleetError, TransientError

_NEEDS = ("libx264", "aac", "framerate", "setts")
_GRACE_S = 5
_TAIL_BYTES = 600
_ASKED_TO_END = 255
"""Its exit code after a signal that it catches, such as SIGTERM."""


class Stoppable(Protocol):
    """What is needed of the task's context."""

    def check_stopped(self) -> None: ...

    def on_stop(self, action: Callable[[], None]) -> Callable[[], None]: ...


@dataclass(frozen=True)
class Limits:
    """Of one process."""

    wall_s: float
    cpu_s: int
    file_bytes: int = 4_000_000_000


def find() -> str:
    """The path of ffmpeg: `IMAGEIO_FFMPEG_EXE`, else the one that imageio-ffmpeg brings, else the
    system's. PermanentError says what to install."""
    try:
        import imageio_ffmpeg
    except ImportError:
        raise PermanentError(
            "movies need ffmpeg: pip install imageio-ffmpeg (part of taskfleet[animoto])"
        ) from None
    try:
        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except RuntimeError:
        raise PermanentError(
            "imageio-ffmpeg brings no ffmpeg for this machine: install ffmpeg, or set "
            "IMAGEIO_FFMPEG_EXE to one"
        ) from None


def check(exe: str) -> None:
    """PermanentError when `exe` does not run or lacks an encoder or a filter that movies need."""
    listed = ""
    for what in ("-encoders", "-filters", "-bsfs"):
        try:
            done = subprocess.run(
                [exe, "-hide_banner", "-v", "error", what],
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
    missing = sorted(set(_NEEDS) - set(listed.split()))
    if missing:
        raise PermanentError(
            f"{exe} lacks {', '.join(missing)}: install a full ffmpeg (5.1 or later), or set "
            "IMAGEIO_FFMPEG_EXE to one"
        )


class Process:
    """A running ffmpeg in a process group of its own."""

    def __init__(
        self, child: subprocess.Popen[bytes], stderr: Path, limits: Limits, context: Stoppable
    ) -> None:
        self._child = child
        self._stderr = stderr
        self._limits = limits
        self._context = context
        self._timed_out = False
        self._cpu_s = 0.0
        self._reaping = threading.Lock()

    def write(self, data: bytes) -> None:
        """To its standard input; when it has ended, raises what `finish` would."""
        stdin = self._child.stdin
        left = memoryview(data)
        try:
            while left and stdin is not None:
                left = left[stdin.write(left) :]
        except BrokenPipeError:
            self.finish()
            raise PermanentError("ffmpeg ended before it had all frames") from None

    def finish(self) -> bytes:
        """Close its input and wait for its end; returns its standard output. TaskStopped when the
        task was stopped, TransientError or PermanentError when it failed."""
        with contextlib.suppress(BrokenPipeError):
            self.close_input()
        out = self._child.stdout.read() if self._child.stdout else b""
        code = self._wait()
        if code != 0:
            self._context.check_stopped()
            said = self._stderr.read_bytes()[-_TAIL_BYTES:].decode(errors="replace").strip()
            used_up = self._cpu_s >= self._limits.cpu_s
            raise meaning(code, said, timed_out=self._timed_out, used_up=used_up)
        return out

    def close_input(self) -> None:
        if self._child.stdin is not None and not self._child.stdin.closed:
            self._child.stdin.close()

    def time_out(self) -> None:
        self._timed_out = True
        self.kill()

    def kill(self) -> None:
        # A child that was reaped has no group any more, and its number may be another's.
        with self._reaping, contextlib.suppress(ProcessLookupError):
            if self._child.returncode is None:
                os.killpg(self._child.pid, signal.SIGKILL)

    def reap(self) -> None:
        self.kill()
        with contextlib.suppress(BrokenPipeError):
            self.close_input()
        if self._child.stdout:
            self._child.stdout.close()
        self._wait()

    def _wait(self) -> int:
        """Its exit code, as `Popen` has it; the CPU time it took is noted."""
        if self._child.returncode is None:
            os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOWAIT)
            with self._reaping:
                _, status, usage = os.wait4(self._child.pid, 0)
                self._child.returncode = os.waitstatus_to_exitcode(status)
            self._cpu_s = usage.ru_utime + usage.ru_stime
        return self._child.returncode


@contextlib.contextmanager
def running(
    exe: str, arguments: Sequence[str], *, folder: str, limits: Limits, context: Stoppable
) -> Iterator[Process]:
    """An ffmpeg that is gone afterwards, whatever happens; it is killed when the task is stopped
    and when its time is up. Its complaints go to a file in `folder`."""
    stderr = Path(folder, "ffmpeg.log")
    with open(stderr, "wb") as log:
        child = _start(exe, arguments, folder, log)
    process = Process(child, stderr, limits, context)
    try:
        _limit(child.pid, limits)
        timer = threading.Timer(limits.wall_s, process.time_out)
        timer.daemon = True
        timer.start()
        take_back = context.on_stop(process.kill)
        try:
            yield process
        finally:
            take_back()
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
            start_new_session=True,
            bufsize=0,
        )
    except OSError as error:
        raise TransientError(f"cannot start {exe}: {error.strerror}") from error


def _limit(pid: int, limits: Limits) -> None:
    """From outside: code between fork and exec is not safe in a process with threads."""
    if not hasattr(resource, "prlimit"):  # not Linux: the wall clock alone must do
        return
    with contextlib.suppress(ProcessLookupError):
        cpu = (limits.cpu_s, limits.cpu_s + _GRACE_S)
        resource.prlimit(pid, resource.RLIMIT_CPU, cpu)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


def meaning(code: int, said: str, *, timed_out: bool, used_up: bool) -> TaskfleetError:
    """The error for an ffmpeg that ended with `code` (negative: a signal); `used_up` is its CPU
    time, which ends it with a signal that it catches."""
    said = said or "without a word"
    if timed_out:
        return TransientError("ffmpeg took too long and was killed")
    if code == -signal.SIGXFSZ or "File too large" in said:
        return PermanentError("the movie grew over the cap of its size")
    if used_up:
        return PermanentError("ffmpeg used more CPU time than a movie may")
    if code < 0:
        return TransientError(f"ffmpeg was killed by {signal.Signals(-code).name}: {said}")
    if code == _ASKED_TO_END:
        return TransientError(f"ffmpeg was told to end by a signal: {said}")
    if "No space left on device" in said or "Cannot allocate memory" in said:
        return TransientError(f"ffmpeg lacked room: {said}")
    return PermanentError(f"ffmpeg failed with exit code {code}: {said}")
