"""The runners of a worker that are free. Owns which runner takes the next chunk and when one is
replaced; not what it does with it (`ec2_worker.runner.chunk`)."""

from __future__ import annotations

import threading
import time

from ec2_worker.runner.forks import ForkServer
from ec2_worker.runner.handle import Runner

IDLE_S = 60.0
"""Seconds after which a runner without work is ended."""
FREE_MAX = 32
"""Most free runners of several owners: twice the usual 16 slots."""


class Pool:
    """Runners of one fork server. Of the free ones of an owner, the one that was used last is used
    next. A runner never changes its owner, which is a client whose code it ran, or nobody.
    Those that are not needed idle, and `tidy` ends them, so that their memory is free for others.

    max_free: most free runners while they have several owners; above it, the one of another owner
        than the last that was used longest ago ends.
    max_tasks: tasks after which a runner is replaced; 0 for never.
    max_mb: memory above which a runner is replaced; 0 for never.
    """

    def __init__(
        self,
        server: ForkServer,
        *,
        max_tasks: int = 0,
        max_mb: int = 0,
        max_free: int = FREE_MAX,
    ) -> None:
        self._server = server
        self._max_free = max_free
        self._max_tasks = max_tasks
        self._max_mb = max_mb
        self._lock = threading.Lock()
        self._free: list[Runner] = []
        self._closed = False

    def take(self, owner: str = "") -> Runner:
        """Returns a runner of this owner that nobody else uses. Raises TransientError when none can
        be started."""
        while True:
            runner = self._free_of(owner)
            if runner is None:
                runner = self._server.fork()
                runner.owner = owner
                return runner
            if runner.fit:
                return runner
            self.discard(runner)

    def _free_of(self, owner: str) -> Runner | None:
        with self._lock:
            for position in range(len(self._free) - 1, -1, -1):
                if self._free[position].owner == owner:
                    return self._free.pop(position)
        return None

    def give(self, runner: Runner) -> None:
        """Give a runner back that has done its work."""
        used = self._max_tasks and runner.tasks_run >= self._max_tasks
        if used or (self._max_mb and runner.resident_mb > self._max_mb):
            self.discard(runner)
            return
        with self._lock:
            excess = runner if self._closed else self._kept(runner)
        if excess is not None:
            self.discard(excess)

    def _kept(self, runner: Runner) -> Runner | None:
        """Keep a free runner, and return one that is too many for it."""
        runner.free_since = time.monotonic()
        self._free.append(runner)
        if len(self._free) > self._max_free:
            for position, each in enumerate(self._free):
                if each.owner != runner.owner:
                    return self._free.pop(position)
        return None

    def tidy(self) -> None:
        """End the runners that have been idle for `IDLE_S`, but one, so that a task that comes then
        need not wait for a start. Called about every second."""
        idle_since = time.monotonic() - IDLE_S
        ended: list[Runner] = []
        with self._lock:
            while len(self._free) > 1 and self._free[0].free_since <= idle_since:
                ended.append(self._free.pop(0))
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
        for runner in free:
            runner.close()
        self._server.close()
