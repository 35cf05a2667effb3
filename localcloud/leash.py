"""Runs a Python program so that it cannot outlive its supervisor, not even one ended by kill -9.
Owns the child's side of that; `localcloud.supervisor` and `localcloud.fleet` hold the other end of
the pipe.

    python -m localcloud.leash -m MODULE ARGS...
    python -m localcloud.leash SCRIPT ARGS...

The environment variable LOCALCLOUD_LEASH names an inherited file descriptor: the read end of a pipe
whose only write end is the supervisor's. When that end closes, the process group gets SIGTERM, and
SIGKILL some seconds later. This works on every POSIX system.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

VARIABLE = "LOCALCLOUD_LEASH"
"""Environment variable with the number of the file descriptor."""
GRACE_S = 3.0
"""Seconds between SIGTERM and SIGKILL."""


def _end_with_supervisor(leash: int) -> None:
    while os.read(leash, 1):
        pass
    os.killpg(0, signal.SIGTERM)
    # A subprocess of a task may ignore SIGTERM.
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    """Runs the program of the command line in this process."""
    leash = int(os.environ.pop(VARIABLE))
    os.set_inheritable(leash, False)
    threading.Thread(target=_end_with_supervisor, args=(leash,), name="leash", daemon=True).start()
    if sys.argv[1] == "-m":
        module = sys.argv[2]
        sys.argv = [module, *sys.argv[3:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
