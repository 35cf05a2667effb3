"""The fork server: a process without threads that has the kinds imported, forks runners from
itself, and ends them. It is started by `ec2_worker.runner.forks`, never forked from the worker,
whose threads and credentials a runner must not inherit.

Its control socket takes one JSON object a message:

    {"do": "fork", "key": ...}        with the runner's pipe, note, output and status descriptors
    {"do": "end", "pid": ..., "grace_s": ...}     SIGTERM to the runner's group, later SIGKILL
    {"do": "limit", "pid": ..., "memory_mb": ...} SIGKILL above it; null for none

To a runner's status descriptor it writes the runner's process id (or, negative, the error number),
and at the runner's end `STATUS`. When the worker closes the socket, by its own end too, the server
kills all that is left and ends.

When the runners are to be another user's (`ec2_worker.runner.taskuser`), this server is a process
of that user, too, so that it can signal and measure them and needs no right for it. Each runner
then has a folder for temporary files, which is removed at its end.

Whatever a runner's tasks started and left behind becomes a child of the runner, and when that ends,
of this server (PR_SET_CHILD_SUBREAPER), which kills it.

Source: unix(7) and proc(5), Linux manual pages.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from typing import Any

from ec2_worker.runner import child, taskuser
from taskfleet.procfs import adopt_orphans, children, kill_tree, prompt_timers, tree
from taskfleet.registry import Registry

STATUS = struct.Struct("<qqq")
"""Exit status as `waitpid` gives it, MB that were used over the limit or 0, and that limit."""
PID = struct.Struct("<q")
MESSAGE_MAX_BYTES = 4096
_WATCH_S = 0.2
"""Seconds between two looks at the memory of limited runners."""
_CLOSE_S = 5.0
"""Seconds within which all that was killed has to end, when the server ends."""


@dataclass
class Runner:
    """A running runner.

    status: takes the report of its end.
    kill_at: when it is killed, on the monotonic clock; None while nobody asked for its end.
    memory_mb: its limit; None without.
    used_mb: what it used when it was killed for that.
    folder: its own temporary folder; None for that of the worker.
    """

    status: int
    folder: str | None = None
    kill_at: float | None = None
    memory_mb: int | None = None
    used_mb: int = 0


class ForkServer:
    """The server on its control socket.

    folder: where it makes a folder for each runner; None to make none.
    """

    def __init__(
        self, registry: Registry, control: socket.socket, folder: str | None = None
    ) -> None:
        self._registry = registry
        self._folder = folder
        self._removing: dict[int, subprocess.Popen[bytes]] = {}
        self._control = control
        self._runners: dict[int, Runner] = {}
        read, write = os.pipe()
        for fd in (read, write):
            os.set_blocking(fd, False)
        self._woken, self._waker = read, write

    def run(self) -> None:
        """Serve until the worker closes the control socket; then kill what is left."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while True:
            ready = dict(poll.poll(self._patience_ms()))
            if self._woken in ready:
                os.read(self._woken, 4096)
            self._reap()
            if self._control.fileno() in ready and not self._serve():
                break
            self._kill_overdue()
            self._watch_memory()
        self._close()

    def _patience_ms(self) -> float | None:
        waits = [r.kill_at - time.monotonic() for r in self._runners.values() if r.kill_at]
        if any(r.memory_mb for r in self._runners.values()):
            waits.append(_WATCH_S)
        return max(0.0, min(waits)) * 1000 + 1 if waits else None

    def _serve(self) -> bool:
        """Do what one message asks. Returns False when the worker is gone."""
        try:
            message, fds, _, _ = socket.recv_fds(self._control, MESSAGE_MAX_BYTES, 4)
        except OSError:
            return False
        if not message:
            return False
        asked: dict[str, Any] = json.loads(message)
        if asked["do"] == "fork":
            self._fork(asked["key"], *fds)
            return True
        runner = self._runners.get(asked["pid"])
        if runner is None:
            return True  # it has ended
        if asked["do"] == "end":
            if runner.kill_at is None:
                runner.kill_at = time.monotonic() + asked["grace_s"]
                signal_group(asked["pid"], signal.SIGTERM)
        else:
            runner.memory_mb = asked["memory_mb"]
        return True

    def _fork(self, key: int, pipe: int, note: int, output: int, status: int) -> None:
        folder = None
        try:
            folder = self._folder and tempfile.mkdtemp(prefix="", dir=self._folder)
            pid = os.fork()
        except OSError as error:
            pid = -(error.errno or 1)
        if pid == 0:
            try:
                self._become_runner(key, pipe, note, output, status, folder)
            except BaseException:  # noqa: BLE001 - shown, and the process ends
                traceback.print_exc()
            finally:
                os._exit(1)
        for fd in (pipe, note, output):
            os.close(fd)
        with contextlib.suppress(OSError):
            os.write(status, PID.pack(pid))
        if pid > 0:
            self._runners[pid] = Runner(status, folder)
        else:
            os.close(status)
            self._remove(folder)

    def _become_runner(
        self, key: int, pipe: int, note: int, output: int, status: int, folder: str | None
    ) -> None:
        os.setsid()
        if folder is not None:
            taskuser.let_look()
            os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = folder
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self._control.close()
        for fd in (status, self._woken, self._waker, *(r.status for r in self._runners.values())):
            os.close(fd)
        adopt_orphans()
        child.main(self._registry, socket.socket(fileno=pipe), key, note, output)

    # --- the end of runners ------------------------------------------------------------------

    def _reap(self) -> None:
        """Report the runners that ended, and kill what they left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                break
            if (removing := self._removing.pop(pid, None)) is not None:
                removing.returncode = status  # so that nobody waits for it
            runner = self._runners.pop(pid, None)
            if runner is not None:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
                with contextlib.suppress(OSError):
                    limit = runner.memory_mb or 0
                    os.write(runner.status, STATUS.pack(status, runner.used_mb, limit))
                os.close(runner.status)
                self._remove(runner.folder)
        # Children that are no runners are what dead runners left. Their children come next.
        for pid in children(os.getpid()):
            if pid not in self._runners and pid not in self._removing:
                kill_tree(pid)

    def _remove(self, folder: str | None) -> None:
        """Remove the folder of a runner. A process does it, since it may take long."""
        if folder is not None:
            with contextlib.suppress(OSError):
                removing = subprocess.Popen(["rm", "-rf", "--", folder])
                self._removing[removing.pid] = removing

    def _kill_overdue(self) -> None:
        for pid, runner in self._runners.items():
            if runner.kill_at is not None and runner.kill_at <= time.monotonic():
                runner.kill_at = time.monotonic() + 1.0  # again, should it be needed
                signal_group(pid, signal.SIGKILL)

    def _watch_memory(self) -> None:
        for pid, runner in self._runners.items():
            if runner.memory_mb and not runner.used_mb:
                used_mb = sum(map(memory_mb, tree(pid)))
                if used_mb > runner.memory_mb:
                    runner.used_mb = round(used_mb)
                    signal_group(pid, signal.SIGKILL)

    def _close(self) -> None:
        give_up_at = time.monotonic() + _CLOSE_S
        for pid in self._runners:
            signal_group(pid, signal.SIGKILL)
        while time.monotonic() < give_up_at:
            self._reap()
            if not children(os.getpid()):
                return
            select.select([self._woken], [], [], 0.05)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group of a runner, or the runner itself when it is too young for one."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def memory_mb(pid: int) -> float:
    """Returns the memory of a process in MB: its proportional share of what it shares."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as lines:
            for line in lines:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


def main(control_fd: int, modules: list[str], folder: str | None = None) -> None:
    """Be the fork server on the control socket `control_fd`, for the kinds of these modules; with a
    folder for temporary files, as a process of the user for tasks."""
    if folder is not None:
        taskuser.give_up_rights()
    adopt_orphans()
    prompt_timers()
    registry = Registry.load(modules)
    for name in registry.names:
        registry[name].preload()
    gc.collect()
    gc.freeze()  # runners then share these pages
    ForkServer(registry, socket.socket(fileno=control_fd), folder).run()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
