"""Processes below another, as Linux tells them. Owns finding and killing them.

Source: proc(5) and prctl(2), Linux manual pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37
_PR_SET_TIMERSLACK = 29


def children(pid: int) -> list[int]:
    """Returns the children of a process, whichever of its threads started them."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as listed:
                found += map(int, listed.read().split())
    return found


def tree(pid: int) -> Iterator[int]:
    """Yields the process and its descendants."""
    yield pid
    for below in children(pid):
        yield from tree(below)


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants."""
    for each in list(tree(pid)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def adopts_orphans() -> bool:
    """Returns whether this process becomes the parent of descendants whose parent ends."""
    adopts = ctypes.c_int(0)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(adopts), 0, 0, 0)
    return bool(adopts.value)


def prompt_timers() -> None:
    """Let the kernel end pauses of this process, and of those that it forks, up to one microsecond
    late to save wake-ups, not 50 as by default. Source: "PR_SET_TIMERSLACK", prctl(2)."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_TIMERSLACK, 1_000, 0, 0, 0)
