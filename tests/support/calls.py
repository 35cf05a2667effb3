"""One slot of a worker with the kind `python`, and what a client of functions does. Real runner
processes, a store in memory."""

from __future__ import annotations

import os

from ec2_worker.claimed import Chunk, ClaimedBundle
from ec2_worker.execute import Executor, Ways
from taskfleet.batch import upload_key
from taskfleet.bundle import Bundle
from taskfleet.clock import SystemClock
from taskfleet.errors import TransientError
from taskfleet.lease import Lease
from taskfleet.memory import MemoryStore
from taskfleet.ports import Message
from taskfleet.registry import Registry
from taskfleet.task import Task, TaskStatus
from taskfleet.wire import calls

REGISTRY = Registry.load(["taskfleet.kinds.python"])


class CountingStore(MemoryStore):
    """Counts the reads of each object. `trouble` reads fail first."""

    def __init__(self):
        super().__init__()
        self.reads = []
        self.trouble = 0

    def get_file(self, key, path, *, max_bytes):
        self.reads.append(key)
        if self.trouble:
            self.trouble -= 1
            os.close(path)
            raise TransientError("SlowDown", retry_after_s=0.01)
        return super().get_file(key, path, max_bytes=max_bytes)


class Calls:
    """One slot of a worker, and what a client of functions does."""

    def __init__(self):
        self.store = CountingStore()
        self.executor = Executor(REGISTRY, self.store, SystemClock(), "w-1", Ways())

    def put(self, data, client="alice"):
        content = calls.content_id(data)
        self.store.put(upload_key(client, content), data, content_type="x")
        return content

    def params(self, function, *args, requirements=(), **kwargs):
        """Returns the params of a call. `function` may be a stored function's bytes."""
        if not isinstance(function, bytes):
            function = calls.encode_function(function, requirements)
        part, upload = calls.encode_call(args, kwargs)
        if upload is not None:
            self.put(upload)
        return calls.params("f", self.put(function), part)

    def bundle(self, params, client="alice", options=None):
        tasks = [Task(i, "python", each) for i, each in enumerate(params)]
        bundle = Bundle("b:0", client, "b", tasks, options=options)
        return ClaimedBundle(bundle, Message("m", "r", "", 1), Lease("me", 1, 1e12), ())

    def run(self, params, client="alice", options=None, claimed=None):
        """Run the calls of these params, chunk after chunk. Returns their rows."""
        claimed = claimed or self.bundle(params, client, options)
        todo = claimed.bundle.tasks
        for _ in range(50):
            todo = self.executor.run(Chunk(claimed, "python", todo))
            if not todo:
                break
        self.claimed = claimed
        return [claimed.results[i] for i in range(len(params))]

    def call(self, function, *args, **kwargs):
        """Returns what one call returns, or raises what it raises."""
        return self.outcome(self.run([self.params(function, *args, **kwargs)])[0])

    def outcome(self, row):
        if row.status is TaskStatus.FAILED:
            raise calls.decode_error(row.error, row.result, row.traceback)
        return calls.decode_result(row.result, lambda result: self.store.get(result["$stored"]))
