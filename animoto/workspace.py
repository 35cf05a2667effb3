"""The temporary directory of one movie in the making. Owns its creation, its removal, and the
removal of directories that dead processes left behind; not its contents."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PREFIX = "taskfleet-animoto-"
"""Beginning of the directories' names."""
_LOCK = "lock"
"""Name of the file that the directory's owner keeps locked."""
_YOUNG_S = 60.0
"""Age in seconds below which an unlocked directory is spared: its owner may be about to lock it."""


@contextlib.contextmanager
def workspace(parent: str | None = None) -> Iterator[str]:
    """Context with a new directory in `parent` (default: the system's temporary directory), which
    is deleted afterwards whatever happens. A locked file in it shows that its process lives."""
    path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    try:
        with open(os.path.join(path, _LOCK), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(parent: str | None = None) -> list[str]:
    """Deletes this user's workspaces in `parent` whose process is dead; returns their paths."""
    removed = []
    for path in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid() and _abandoned(path):
                shutil.rmtree(path)
                removed.append(str(path))
    return removed


def _abandoned(path: Path) -> bool:
    """Returns whether no living process owns the workspace at `path`."""
    try:
        with open(path / _LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    return time.time() - path.stat().st_mtime > _YOUNG_S
