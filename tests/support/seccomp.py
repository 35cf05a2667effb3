"""Runs a command under the system call filter of a systemd unit, without systemd:

    python -m tests.support.seccomp UNIT COMMAND [ARGUMENT ...]

The filter's groups are expanded by `systemd-analyze`, and the kernel gets it through libseccomp.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from pathlib import Path

LIBRARY = "libseccomp.so.2"
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000


def directives(unit: str) -> dict[str, list[str]]:
    """The directives of a unit's text, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in unit.splitlines():
        if match := re.fullmatch(r"(?P<name>\w+)=(?P<value>.*)", line):
            found.setdefault(match["name"], []).append(match["value"])
    return found


def allowed_calls(filters: list[str]) -> set[str]:
    """The system calls that lines of `SystemCallFilter=` allow. The first line names what is
    allowed; a line with `~` takes some away."""
    allowed: set[str] = set()
    for line in filters:
        names = {call for name in line.removeprefix("~").split() for call in _expanded(name)}
        allowed = allowed - names if line.startswith("~") else allowed | names
    return allowed


def apply(calls: set[str]) -> None:
    """Make every other system call of this process, and of its children, fail with EPERM."""
    seccomp = ctypes.CDLL(LIBRARY)
    seccomp.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(seccomp.seccomp_init(_ERRNO | errno.EPERM))
    for call in sorted(calls):
        number = seccomp.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # negative for a call that this architecture does not have
            assert seccomp.seccomp_rule_add(context, _ALLOW, number, 0) == 0, call
    assert seccomp.seccomp_load(context) == 0


def _expanded(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    done = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in done.stdout.splitlines()[1:]]
    members = [line for line in lines if line and not line.startswith("#")]
    return {call for member in members for call in _expanded(member)}


if __name__ == "__main__":
    apply(allowed_calls(directives(Path(sys.argv[1]).read_text())["SystemCallFilter"]))
    os.execvp(sys.argv[2], sys.argv[2:])
