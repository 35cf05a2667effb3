"""The user whose processes runners are, where it is another than the worker's, so that tasks can
neither read the worker's files nor signal it. Owns finding the user, whether the worker may start
processes of that user, and what such a process gives up; not the processes
(`ec2_worker.runner.forks`).

The worker needs three capabilities: it is root, or its unit grants them. Only the start of the fork
server uses them. The fork server is a process of the user and has none, before it imports any kind.

Source: capabilities(7), prctl(2) and proc(5), Linux manual pages.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taskfleet.errors import SettingsError

CAPABILITIES = {"CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7}
"""What the worker needs, with the bits in which the kernel shows it."""
CACHE = "TASKFLEET_CACHE_DIR"
"""The setting that names the folder of what tasks use again."""
START_S = 60.0
"""Longest time in seconds that the trial of `check` takes."""
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_TRIAL = (
    "import sys, tempfile; sys.path[:] = {path!r}; import ec2_worker.runner.forkserver; "
    "tempfile.TemporaryFile()"
)


@dataclass(frozen=True)
class TaskUser:
    """The user of runners."""

    name: str
    uid: int
    gid: int

    def new_folder(self) -> str:
        """Returns a new temporary folder in which processes of the user can make files, but not
        list what others made."""
        path = tempfile.mkdtemp(prefix="taskfleet-tasks-")
        os.chmod(path, 0o1733)  # noqa: S103  # nosec B103
        return path

    def environment(self, environ: Mapping[str, str], folder: str) -> dict[str, str]:
        """Returns an environment of the worker's user as one of this user. What tasks keep for
        later ones is not in the folder of one runner."""
        cache = os.path.join(tempfile.gettempdir(), f"taskfleet-cache-{self.uid}")
        named = {"HOME": folder, "TMPDIR": folder, "USER": self.name, "LOGNAME": self.name}
        return {CACHE: cache, **environ, **named}


def find(name: str) -> TaskUser | None:
    """Returns the user that the setting `TASKFLEET_TASK_USER` names; None if it is empty. Raises
    SettingsError when there is none, or this process may not start processes of the user."""
    if not name:
        return None
    fault = f"TASKFLEET_TASK_USER={name}"
    if sys.platform != "linux":
        raise SettingsError(f"{fault}: another user for tasks needs Linux")
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise SettingsError(f"{fault}: this machine has no such user") from None
    if entry.pw_uid == 0:
        raise SettingsError(f"{fault}: tasks must not run as root; name another user")
    if entry.pw_uid == os.geteuid():
        raise SettingsError(f"{fault}: that is the worker's own user; name another, or none")
    has = capabilities()
    missing = [capability for capability, bit in CAPABILITIES.items() if not has >> bit & 1]
    if missing:
        raise SettingsError(
            f"{fault}: the worker lacks {', '.join(missing)} to run tasks as another user; grant "
            "that by AmbientCapabilities= of its systemd unit, start it as root, or unset the "
            "setting"
        )
    return TaskUser(name, entry.pw_uid, entry.pw_gid)


def check(name: str) -> None:
    """Raise SettingsError when runners cannot be processes of the user: for the reasons of `find`,
    or since the user cannot read the worker's code or write temporary files. To be called before
    threads start: programs that this process starts inherit no capability afterwards."""
    user = find(name)
    if user is None:
        return
    clear_ambient()
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TRIAL.format(path=sys.path)],
            user=user.uid,
            group=user.gid,
            extra_groups=[],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )
        failed = done.returncode != 0
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    except (OSError, subprocess.SubprocessError) as error:
        failed, reason = True, str(error)
    if failed:
        raise SettingsError(
            f"TASKFLEET_TASK_USER={name}: that user cannot run the worker's code with "
            f"{sys.executable}: {reason}"
        )


def capabilities() -> int:
    """Returns the effective capabilities of this process, as bits."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def clear_ambient() -> None:
    """Have programs that this thread starts inherit no capability."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def give_up_rights() -> None:
    """In a process of the user: make sure that it has no capability and that neither it nor its
    children ever get one, that its files are its own, and that its children cannot look into it.
    Raises PermissionError if a capability is left."""
    libc = ctypes.CDLL(None, use_errno=True)
    os.umask(0o077)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if left := capabilities():
        raise PermissionError(f"a process for tasks has capabilities: {left:#x}")


def let_look() -> None:
    """In a runner: let the fork server see its memory, which is the same user's."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
