"""Memory ports for worker processes: a test serves its cloud on the loopback, and workers in
processes of their own use it. Run as a program, it is such a worker."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any

from ec2_worker.parts import WorkerPorts
from ec2_worker.worker import Worker
from taskfleet.clock import SystemClock
from taskfleet.registry import Registry
from taskfleet.settings import Settings
from tests.support.worker import Cloud

ROOT = Path(__file__).parents[2]
KEY = b"loopback"
PORTS = ("tasks", "responses", "monitor", "store")
LEASE_S = 1.0
KINDS = "tests.support.poison"


class _Store:
    """The store of another process, which cannot read this one's descriptors."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_file(self, key: str, path: str | int, *, content_type: str) -> None:
        with open(path, "rb") as file:
            self._store.put(key, file.read(), content_type=content_type)


class _Ports(BaseManager):
    pass


def serve(cloud: Cloud) -> int:
    """Serve the cloud's ports for as long as this process lives, since a manager's server that is
    told to end would end the process. Returns the TCP port for `start`."""
    for name in PORTS:
        _Ports.register(name, callable=lambda name=name: getattr(cloud, name))
    server = _Ports(("127.0.0.1", 0), KEY).get_server()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.address[1]  # type: ignore[index, no-any-return]


def start(
    port: int, number: int, python: str = sys.executable, **environ: str
) -> subprocess.Popen[bytes]:
    """Start a worker process. It leads a process group of its own."""
    return subprocess.Popen(
        [python, "-m", "tests.support.remote", str(port), f"w-{number}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environ},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def main(port: str, worker_id: str) -> None:
    for name in PORTS:
        _Ports.register(name)
    manager: Any = _Ports(("127.0.0.1", int(port)), KEY)
    manager.connect()
    found = {name: getattr(manager, name)() for name in PORTS}
    found["store"] = _Store(found["store"])
    worker = Worker(
        WorkerPorts(**found, clock=SystemClock()),
        Registry.load([KINDS]),
        Settings(
            lease_s=LEASE_S,
            receive_wait_s=0.2,
            drain_timeout_s=0.5,
            task_user=os.environ.get("TASKFLEET_TASK_USER", ""),
        ),
        threads=4,
        worker_id=worker_id,
        rng=random.Random(worker_id),
    )
    worker.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
