"""Keeping a command from the other processes of its user: the worker, the runners, other commands
and their folders. Owns the rules and how the kernel is told them; not the folders themselves
(`taskfleet.kinds.folder`).

Landlock does it, without any privilege. A confined process and all that it starts

- cannot trace a process outside, nor read its environment, its memory or where it works;
- cannot send signals to processes outside, nor connect to their abstract sockets (Linux 6.12);
- cannot list the folder of all tasks' folders, whose names cannot be guessed, nor a folder above
  that one. All else it can do as before: open files by name, write, list other folders.

Where the kernel has no Landlock, or a container forbids it, commands run unconfined.

Source: "Landlock: unprivileged access control", The Linux Kernel documentation; landlock(7).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable, Iterator

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1
_READ_DIR = 1 << 3
_SCOPE_ABSTRACT_UNIX_SOCKET = 1 << 0
_SCOPE_SIGNAL = 1 << 1
_SCOPES_SINCE = 6
_PR_SET_NO_NEW_PRIVS = 38
_O_PATH = getattr(os, "O_PATH", 0)


def version() -> int:
    """Returns the version of Landlock; 0 where there is none."""
    return max(0, _call(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION))


@contextlib.contextmanager
def outside(folder: str, own: str) -> Iterator[Callable[[], None] | None]:
    """Yields a function that confines the process that calls it, for good; None where there is no
    Landlock. Nothing above `folder`, which is where all tasks have their folders, can be listed
    then; what is beside it and above can, and `own`."""
    found = version()
    ruleset = _ruleset(folder, own, found) if found else None
    if ruleset is None:
        yield None
        return
    try:
        yield lambda: _restrict(ruleset)
    finally:
        os.close(ruleset)


def _ruleset(folder: str, own: str, found: int) -> int | None:
    """Returns the descriptor of the rules; None if the kernel takes none."""
    fields = [_READ_DIR]
    if found >= 4:
        fields.append(0)  # the network is left alone
    if found >= _SCOPES_SINCE:
        fields.append(_SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL)
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = _call(_CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return None
    for path in (own, *_beside(os.path.realpath(folder))):
        _allow(ruleset, path)
    return ruleset


def _beside(folder: str) -> Iterator[str]:
    """Yields the folders that lie beside `folder`, or beside a folder above it."""
    while (above := os.path.dirname(folder)) != folder:
        with contextlib.suppress(OSError), os.scandir(above) as entries:
            for entry in entries:
                if entry.path != folder and entry.is_dir(follow_symlinks=False):
                    yield entry.path
        folder = above


def _allow(ruleset: int, path: str) -> None:
    """Add the rule that all below a folder can be listed. One that cannot be opened stays out."""
    with contextlib.suppress(OSError):
        opened = os.open(path, _O_PATH | os.O_CLOEXEC)
        try:
            rule = struct.pack("=Qi", _READ_DIR, opened)
            _call(_ADD_RULE, ruleset, _RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(opened)


def _restrict(ruleset: int) -> None:
    """Confine this process. Raises OSError."""
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if _call(_RESTRICT_SELF, ruleset, 0):
        raise OSError(ctypes.get_errno(), "the command cannot be confined")


_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    """Returns what a system call returns. The numbers are the same on every architecture."""
    given = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    return int(_LIBC.syscall(ctypes.c_long(number), *given))
