"""TCP ports for servers that are started with a port's number and cannot be asked for one.

A port that was found free by binding to it may be taken by another process before its server
starts: by another xdist worker that looks for one, or by any connection, since the kernel gives
connections their local ports from the same range. So these ports lie below that range, and a lock
on a file holds each for this process alone until it ends.
"""

from __future__ import annotations

import fcntl
import os
import socket
import tempfile
from pathlib import Path

FIRST, LAST = 20_000, 29_999
HOST = "127.0.0.1"

_held: list[int] = []
"""File descriptors of the locks; closing one would free its port for others."""
_next = FIRST


def free_port() -> int:
    """A port that nothing listens on and that no other test of this machine is given."""
    global _next
    locks = Path(tempfile.gettempdir()) / f"taskfleet-test-ports-{os.getuid()}"
    locks.mkdir(exist_ok=True)
    while _next <= LAST:
        port = _next
        _next += 1
        lock = os.open(locks / str(port), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _try(port)
        except OSError:  # another process holds it, or something else listens there
            os.close(lock)
            continue
        _held.append(lock)
        return port
    raise AssertionError(f"no port from {FIRST} to {LAST} is free")


def _try(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((HOST, port))
