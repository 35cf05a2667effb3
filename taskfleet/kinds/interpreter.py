"""The interpreter of an environment as its runner sees it: a child process that makes one call at a
time. Owns starting it, handing over calls, and judging its end; not the environment
(`taskfleet.kinds.environment`) nor what the child does (`taskfleet.kinds.inside`)."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from taskfleet.errors import PermanentError, TaskFailed
from taskfleet.kinds.frames import BrokenPipe, Pipe
from taskfleet.registry import TaskContext

FUNCTIONS_MAX = 64
"""Most functions that one interpreter is given; then another takes its place."""
START_S = 60.0
"""Longest time in seconds until an interpreter is ready."""
STOP_S = 1.0
"""Longest time in seconds between an interpreter's end by SIGTERM and the request that the task
ends, which comes to the runner by the same signal."""
_LOOK_MS = 200
_SCRIPT = Path(__file__).with_name("inside.py")


class Interpreter:
    """One child process. It is used by one thread, for one call at a time."""

    def __init__(self, python: Path, environ: Mapping[str, str]) -> None:
        """Start the interpreter. Raises PermanentError if it does not start."""
        ours, theirs = socket.socketpair()
        secret = secrets.randbits(64)
        self._pipe = Pipe(ours, secret)
        self._given: set[str] = set()
        words = [str(python), "-I", str(_SCRIPT), str(theirs.fileno()), str(secret)]
        with theirs:
            try:
                # In the runner's own process group, so that they are ended together.
                self._process = subprocess.Popen(
                    [*words, str(os.getpid()), *borrowed()],
                    stdin=subprocess.DEVNULL,
                    pass_fds=[theirs.fileno()],
                    env={**environ},
                )
            except OSError as error:
                ours.close()
                raise PermanentError(f"{python} does not start: {error.strerror}") from None
        ours.settimeout(START_S)
        try:
            self._pipe.receive()
        except (EOFError, OSError, BrokenPipe):
            self.close()
            raise PermanentError(
                f"the interpreter of the environment does not start: {self._end()}; what it said "
                "is in the task's output"
            ) from None
        ours.settimeout(None)

    @property
    def usable(self) -> bool:
        """Returns whether the interpreter lives and can take one more function."""
        return self._process.poll() is None and len(self._given) < FUNCTIONS_MAX

    def call(
        self,
        body: bytes,
        params: Mapping[str, Any],
        stored: bytes,
        prefix: str,
        cwd: str,
        context: TaskContext,
    ) -> tuple[Any, bytes | None]:
        """Make a call, as `taskfleet.kinds.call.perform` does. `body` is the function's pickle,
        `stored` that of stored arguments, `cwd` the folder to start in. Raises TaskFailed also when
        the process dies; it cannot be used then."""
        function_id = params["sha256"]
        first = b"" if function_id in self._given else body
        try:
            self._pipe.send({"params": params, "prefix": prefix, "cwd": cwd}, first, stored)
            self._wait()
            answer, data, _ = self._pipe.receive()
        except (EOFError, OSError):
            raise self._died(context) from None
        except BrokenPipe:
            self.close()
            raise TaskFailed("it wrote to its process's pipe") from None
        self._given.add(function_id)
        return _outcome(answer, data)

    def _wait(self) -> None:
        """Wait until an answer comes. Raises EOFError when the process ends without one, even if a
        child of it keeps the pipe open."""
        poll = select.poll()
        poll.register(self._pipe.sock, select.POLLIN)
        ended = os.pidfd_open(self._process.pid) if hasattr(os, "pidfd_open") else -1
        try:
            if ended >= 0:
                poll.register(ended, select.POLLIN)
            while True:
                ready = {fd for fd, _ in poll.poll(None if ended >= 0 else _LOOK_MS)}
                if self._pipe.sock.fileno() in ready:
                    return
                if self._process.poll() is not None:
                    raise EOFError
        finally:
            if ended >= 0:
                os.close(ended)

    def _died(self, context: TaskContext) -> TaskFailed:
        self.close()
        if self._process.returncode == -signal.SIGTERM:
            context.sleep(STOP_S)  # raises TaskStopped if the runner got the signal, too
        return TaskFailed(self._end())

    def _end(self) -> str:
        code = self._process.returncode
        if code is None or code >= 0:
            return f"its process died: exit status {code}"
        try:
            return f"its process died: {signal.Signals(-code).name}"
        except ValueError:
            return f"its process died: signal {-code}"

    def close(self) -> None:
        """End the process: by closing the pipe, and by force if that is not enough."""
        self._pipe.sock.close()
        give_up_at = time.monotonic() + STOP_S
        while self._process.poll() is None and time.monotonic() < give_up_at:
            time.sleep(0.005)
        with contextlib.suppress(OSError):
            self._process.kill()
        self._process.wait()


def _outcome(answer: Mapping[str, Any], data: bytes) -> tuple[Any, bytes | None]:
    """Returns the result in an interpreter's answer. Raises the error in it."""
    if "result" in answer and "stored" in answer:
        return answer["result"], data if answer["stored"] else None
    if "failed" in answer:
        raise TaskFailed(
            str(answer["failed"]), answer.get("result"), traceback=answer.get("traceback")
        )
    raise PermanentError(str(answer.get("permanent", "its process gave no answer")))


def borrowed() -> list[str]:
    """Returns the names and folders of the packages that the interpreter takes from the worker."""
    found = []
    for name in ("taskfleet", "cloudpickle"):
        spec = importlib.util.find_spec(name)
        folders = [] if spec is None else list(spec.submodule_search_locations or [])
        if not folders:
            raise PermanentError(f"{name} is not installed on the worker")
        found += [name, folders[0]]
    return found
