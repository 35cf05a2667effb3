"""The runners of a worker that are free. Owns which runner takes the next chunk and when one is
replaced; not what it does with it (`ec2_worker.runner.chunk`)."""

from __future__ import annotations

import threading
import time

from ec2_worker.runner.forks import ForkServer
from ec2_worker.runner.handle import Runner

IDLE_S = 60.0
"""Seconds after which a runner without work is ended."""


class Pool:
    """Runners of one fork server. The one that was used last is used next, so there are no more of
    them than slots that were busy at the same time, and those that are not needed idle. `tidy` ends
    those, so that their memory is free for others.

    max_tasks: tasks after which a runner is replaced; 0 for never.
    max_mb: memory above which a runner is replaced; 0 for never.
    """

    def __init__(self, server: ForkServer, *, max_tasks: int = 0, max_mb: int = 0) -> None:
        self._server = server
        self._max_tasks = max_tasks
        self._max_mb = max_mb
        self._lock = threading.Lock()
        self._free: list[tuple[Runner, float]] = []
        self._closed = False

    def take(self) -> Runner:
        """Returns a runner that nobody else uses. Raises TransientError when none can be
        started."""
        while True:
            with self._lock:
                runner = self._free.pop()[0] if self._free else None
            if runner is None:
                return self._server.fork()
            if runner.fit:
                return runner
            self.discard(runner)

    def give(self, runner: Runner) -> None:
        """Give a runner back that has done its work."""
        used = self._max_tasks and runner.tasks_run >= self._max_tasks
        if used or (self._max_mb and runner.resident_mb > self._max_mb):
            self.discard(runner)
            return
        with self._lock:
            if not self._closed:
                self._free.append((runner, time.monotonic()))
                return
        self.discard(runner)

    def tidy(self) -> None:
        """End the runners that have been idle for `IDLE_S`, but one, so that a task that comes then
        need not wait for a start. Called about every second."""
        idle_since = time.monotonic() - IDLE_S
        ended: list[Runner] = []
        with self._lock:
            while len(self._free) > 1 and self._free[0][1] <= idle_since:
                ended.append(self._free.pop(0)[0])
        for runner in ended:
            self.discard(runner)

    def discard(self, runner: Runner) -> None:
        """End a runner, if it has not ended, and forget it."""
        runner.end()
        runner.close()

    def close(self) -> None:
        """End all runners, and their server."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for runner, _ in free:
            runner.close()
        self._server.close()
