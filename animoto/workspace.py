"""The temporary directory of one job. Owns its making, its removal and the removal of what dead
processes left behind; not what is put into it."""

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
_LOCK = "lock"
_YOUNG_S = 60.0


@contextlib.contextmanager
def workspace(parent: str | None = None) -> Iterator[str]:
    """A new directory, gone afterwards whatever happened. Its lock file is held as long as this
    process lives, which tells it from a leftover."""
    path = tempfile.mkdtemp(prefix=PREFIX, dir=parent)
    try:
        with open(os.path.join(path, _LOCK), "wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def remove_leftovers(parent: str | None = None) -> list[str]:
    """Remove this user's workspaces whose process is dead; returns their paths."""
    removed = []
    for path in Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_uid == os.getuid() and _abandoned(path):
                shutil.rmtree(path)
                removed.append(str(path))
    return removed


def _abandoned(path: Path) -> bool:
    try:
        with open(path / _LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass
    # One that was made a moment ago may not be locked yet.
    return time.time() - path.stat().st_mtime > _YOUNG_S
