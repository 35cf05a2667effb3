"""Runs a Python program so that it cannot outlive its supervisor, not even one ended by kill -9.
Owns that promise on the child's side; `localcloud.supervisor` holds the other end of the pipe.

    python -m localcloud.leash -m MODULE ARGS...
    python -m localcloud.leash SCRIPT ARGS...

The environment names an inherited file descriptor: the read end of a pipe whose only write end
is the supervisor's. When that end closes, the whole process group is told to stop, then killed.
This needs nothing that only Linux has.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

VARIABLE = "LOCALCLOUD_LEASH"
GRACE_S = 3.0


def _hold(leash: int) -> None:
    while os.read(leash, 1):
        pass
    # The group outlives this thread's process when a task's subprocess ignores the first signal.
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


def main() -> None:
    leash = int(os.environ.pop(VARIABLE))
    os.set_inheritable(leash, False)
    threading.Thread(target=_hold, args=(leash,), name="leash", daemon=True).start()
    if sys.argv[1] == "-m":
        module = sys.argv[2]
        sys.argv = [module, *sys.argv[3:]]
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    else:
        sys.argv = sys.argv[1:]
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
