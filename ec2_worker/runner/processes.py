"""What the kernel tells of processes and does to them: descendants, memory, signals to groups. Owns
no process.

Source: prctl(2) and proc(5), Linux manual pages.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator

_PR_SET_CHILD_SUBREAPER = 36


def signal_group(pid: int, number: signal.Signals) -> None:
    """Signal the process group of a runner, or the runner itself when it is too young for one."""
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


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


def adopt_orphans() -> None:
    """Become the parent of descendants whose parent ends."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
