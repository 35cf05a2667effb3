"""The end of executors that nobody shut down. Owns what happens at the interpreter's exit and when
an executor is garbage; not what closing means (`taskfleet.executor.crew`).
"""

from __future__ import annotations

import atexit
import concurrent.futures.thread  # noqa: F401 - its own exit comes after ours if it is loaded first
import threading
import weakref
from collections.abc import Callable
from typing import Any


def at_exit(action: Callable[[Any], None], subject: Any) -> None:
    """Call `action` with `subject` when the main thread has ended, if it is alive then: before the
    pools of the standard library refuse work."""
    alive = weakref.ref(subject)

    def leave() -> None:
        found = alive()
        if found is not None:
            action(found)

    # The hook that `concurrent.futures` itself uses; callbacks of `atexit` come too late for pools.
    register = getattr(threading, "_register_atexit", atexit.register)
    register(leave)
