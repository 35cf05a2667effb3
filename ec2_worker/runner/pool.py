"""The runners of a worker that are free. Owns which runner takes the next chunk and when one is
replaced; not what it does with it (`ec2_worker.runner.chunk`)."""

from __future__ import annotations

import threading

from ec2_worker.runner.forks import ForkServer
from ec2_worker.runner.handle import Runner


class Pool:
    """Runners of one fork server. The one that was used last is used next, so there are no more of
    them than slots that were busy at the same time.

    max_tasks: tasks after which a runner is replaced; 0 for never.
    max_mb: memory above which a runner is replaced; 0 for never.
    """

    def __init__(self, server: ForkServer, *, max_tasks: int = 0, max_mb: int = 0) -> None:
        self._server = server
        self._max_tasks = max_tasks
        self._max_mb = max_mb
        self._lock = threading.Lock()
        self._free: list[Runner] = []
        self._closed = False

    def take(self) -> Runner:
        """Returns a runner that nobody else uses. Raises TransientError when none can be
        started."""
        while True:
            with self._lock:
                runner = self._free.pop() if self._free else None
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
                self._free.append(runner)
                return
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
