"""The folder in which a runner's calls start: empty at the start of each, and emptied after it.
Owns entering and emptying it; not making and deleting folders (`taskfleet.kinds.folder`).

One folder serves all calls of a runner. Whether a call left anything in it is seen by the folder's
own time, so a call that leaves nothing costs three system calls.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

from taskfleet.kinds import folder


class Scratch:
    """The folder of this process. It lives as long as the process; the folder of a process that was
    killed is deleted by the next one of the machine."""

    def __init__(self) -> None:
        self._open = contextlib.ExitStack()
        self._path = ""
        self._state = (0, 0)

    def enter(self) -> str:
        """Make the folder the current one, and return its path. Raises TransientError if there is
        no room for one."""
        if not self._path:
            self._make()
        os.chdir(self._path)
        return self._path

    def clean(self) -> None:
        """Delete what a call left in the folder."""
        try:
            if self._look() == self._state:
                return
        except OSError:
            pass  # the call deleted or replaced it
        folder.remove(self._path)
        with contextlib.suppress(OSError):
            os.unlink(self._path)  # if it is no folder
        os.mkdir(self._path, stat.S_IRWXU)
        self._mark()

    def _make(self) -> None:
        # Modules that were found in the current folder must be found there on.
        sys.path[:] = [each or os.getcwd() for each in sys.path]
        folder.remove_leftovers()
        self._path = self._open.enter_context(folder.new()).work
        self._mark()

    def _mark(self) -> None:
        """Give the empty folder an old time: the clock of files has ticks of milliseconds, in which
        a call may begin and end."""
        os.utime(self._path, (0, 0))
        self._state = self._look()

    def _look(self) -> tuple[int, int]:
        """Where the folder is, and when an entry of it was last made or deleted."""
        found = os.lstat(self._path)
        return found.st_ino, found.st_mtime_ns
