"""One slot of a worker, without the worker: real runner processes, a store in memory."""

from __future__ import annotations

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.execute import Executor, Ways
from ec2_worker.runner.forkserver import tree
from taskfleet.bundle import Bundle
from taskfleet.clock import SystemClock
from taskfleet.lease import Lease
from taskfleet.memory import MemoryStore
from taskfleet.options import Options
from taskfleet.ports import Message
from taskfleet.registry import Registry
from taskfleet.task import Task, TaskResult


class CommandSlot:
    """Runs the commands of one client, each in a batch of its own."""

    def __init__(self, *, modules=("taskfleet.kinds.command",), client_id="alice", store=None):
        self.store = store or MemoryStore()
        self.registry = Registry.load(modules)
        self.client_id = client_id
        self.executor = Executor(self.registry, self.store, SystemClock(), "w-1", Ways())

    def bundle(self, *params, kind="command", **options):
        own = Options(**options) if options else None
        tasks = [Task(i, kind, self.registry[kind].parse(each)) for i, each in enumerate(params)]
        bundle = Bundle("b:0", self.client_id, "b", tasks, options=own)
        return ClaimedBundle(bundle, Message("m", "r", "", 1), Lease("me", 1, 1e12), ())

    def run_bundle(self, claimed):
        todo, chunks = claimed.bundle.tasks, 0
        while todo and not claimed.stopped.is_set():
            todo = self.executor.run(Chunk(claimed, todo[0].kind, todo))
            chunks += 1
            assert chunks < 50
        return claimed

    def run(self, params, **options) -> TaskResult:
        """Run one task. Returns its row."""
        claimed = self.run_bundle(self.bundle(params, **options))
        return claimed.results[0]

    def processes(self):
        """The fork server and all below it."""
        return list(tree(self.executor._pool._server._process.pid))
