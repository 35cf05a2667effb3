"""Work that is done once for all xdist workers of a test run, such as an installation.

A fixture of scope "session" runs once in each worker; with `once` the first worker does the work,
the others wait for it and share what it made.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """`folder`, after `make(draft)` filled it, in this process or an earlier one.

    The draft becomes the folder only when all of it is there, so that work which failed or was
    killed is done again and never taken for complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(folder.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            draft = folder.with_name(folder.name + ".draft")
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            make(draft)
            draft.rename(folder)
    return folder
