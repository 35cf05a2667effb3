"""The worker's end of the fork server: starting it, and asking it for runners. Owns the server's
environment; not what the server does (`ec2_worker.runner.forkserver`)."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence

from ec2_worker.output import unnamed_file
from ec2_worker.runner.forkserver import PID
from ec2_worker.runner.frames import Pipe, new_key
from ec2_worker.runner.handle import Runner
from ec2_worker.runner.note import Note
from ec2_worker.runner.taskuser import TaskUser
from taskfleet.errors import TransientError
from taskfleet.log import fields

_log = logging.getLogger(__name__)

START_S = 30.0
"""Longest time in seconds until a runner has started, with the imports of its server."""
SEND_S = 60.0
"""Longest time in seconds until a runner takes what its worker sends."""
KEPT_SETTINGS = (
    "TASKFLEET_ALLOW_PRIVATE_URLS",
    "TASKFLEET_CACHE_DIR",
    "TASKFLEET_CORES",
    "TASKFLEET_ENVIRONMENTS_MAX_MB",
    "TASKFLEET_LOG_LEVEL",
    "TASKFLEET_TASK_DISK_MB",
)
"""The settings that tasks may see."""
_DROPPED = ("AWS_", "BOTO", "TASKFLEET_", "OTEL_", "NOTIFY_", "LISTEN_", "CREDENTIALS_")
"""First letters of the variables that are the worker's own: its credentials, its settings and those
of its telemetry with their secrets, and what systemd gives a service."""
_BOOT = (
    "import sys; sys.path[:] = {path!r}; from ec2_worker.runner.forkserver import main; "
    "main({fd}, {kinds!r}, {folder!r})"
)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns what of an environment tasks may see: all but the worker's own variables."""
    return {
        name: value
        for name, value in environ.items()
        if name in KEPT_SETTINGS or not name.startswith(_DROPPED)
    }


class ForkServer:
    """Starts runners for the kinds of `modules`. The server process starts with the first runner,
    and again when it is gone. Its methods may be called from any thread.

    user: whose processes the server and the runners are; None for the worker's own user.
    """

    def __init__(self, modules: Sequence[str], user: TaskUser | None = None) -> None:
        self._modules = list(modules)
        self._user = user
        self._folder: str | None = None
        self._lock = threading.Lock()
        self._control: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = False

    def fork(self) -> Runner:
        """Returns a new runner. Raises TransientError when there is none to be had now."""
        pipe, their_pipe = socket.socketpair()
        status, their_status = os.pipe()
        note_fd = Note.new()
        # Tasks of another user may open their standard output once more, as /dev/stdout.
        output_fd = unnamed_file(appended=True, mode=0o600 if self._user is None else 0o622)
        key = new_key()
        asked = {"do": "fork", "key": key}
        try:
            with self._lock:
                self._ensure()
                fds = (their_pipe.fileno(), note_fd, output_fd, their_status)
                sent = self._send(asked, fds)
                if not sent:
                    self._discard()
                    self._ensure()
                    sent = self._send(asked, fds)
        finally:
            their_pipe.close()
            os.close(their_status)
        pipe.settimeout(SEND_S)
        runner = Runner(Pipe(pipe, key, in_runner=False), status, Note(note_fd), output_fd, self)
        os.close(note_fd)
        try:
            runner.pid = self._pid(status) if sent else 0
            if runner.pid <= 0:
                reason = os.strerror(-runner.pid) if runner.pid else "its server does not start"
                raise TransientError(f"no runner process could be started: {reason}")
        except TransientError:
            runner.close()
            raise
        return runner

    @staticmethod
    def _pid(status: int) -> int:
        ready, _, _ = select.select([status], [], [], START_S)
        told = os.read(status, PID.size) if ready else b""
        return int(PID.unpack(told)[0]) if len(told) == PID.size else 0

    def end(self, pid: int, grace_s: float) -> bool:
        """Have a runner ended: SIGTERM at once, SIGKILL after `grace_s` seconds. Returns False when
        the server is gone, so that nobody does it."""
        with self._lock:
            return self._send({"do": "end", "pid": pid, "grace_s": grace_s})

    def limit(self, pid: int, memory_mb: int | None) -> None:
        """Have a runner killed when it uses more memory."""
        with self._lock:
            self._send({"do": "limit", "pid": pid, "memory_mb": memory_mb})

    def close(self) -> None:
        """End the server and all runners."""
        with self._lock:
            self._closed = True
            self._discard()

    def _send(self, asked: dict[str, object], fds: Iterable[int] = ()) -> bool:
        if self._control is None:
            return False
        try:
            socket.send_fds(self._control, [json.dumps(asked).encode()], list(fds))
        except OSError:
            return False
        return True

    def _ensure(self) -> None:
        if self._control is not None:
            return
        if self._closed:
            raise TransientError("no runner process is started: the worker ends")
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        environ = environment(os.environ)
        if self._user is not None:
            self._folder = self._user.new_folder()
            environ = self._user.environment(environ, self._folder)
        boot = _BOOT.format(
            path=sys.path,
            fd=theirs.fileno(),
            kinds=self._modules,
            folder=self._folder,
        )
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-c", boot],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environ,
                start_new_session=True,
                user=None if self._user is None else self._user.uid,
                group=None if self._user is None else self._user.gid,
                extra_groups=None if self._user is None else [],
            )
        self._control = ours
        _log.info("fork server starts", extra=fields("forkserver_started", pid=self._process.pid))

    def _discard(self) -> None:
        if self._control is not None:
            self._control.close()
            self._control = None
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(START_S)
            self._process = None
        if self._folder is not None:
            with contextlib.suppress(OSError):  # not empty if the server was killed
                os.rmdir(self._folder)
            self._folder = None
