"""Batches that wait for others, on any monitor: a client that submits them, the reader of files,
workers and the collector take steps in random order, and each may break off at any call to a
port."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from taskfleet.batch import BatchRecord, keyed_batch_id
from taskfleet.bundle import Bundle, Response
from taskfleet.errors import TransientError
from taskfleet.memory import ManualClock, MemoryQueue, MemoryStore
from taskfleet.options import BatchOptions
from taskfleet.ports import Message, OutgoingMessage
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler.after import Precedence
from taskfleet.scheduler.collect import collect
from taskfleet.scheduler.ended import Ended
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.expand import Expansion
from taskfleet.scheduler.open import OpenBatches
from taskfleet.scheduler.parts import Parts
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.results import Results
from taskfleet.scheduler.submit import Submission
from taskfleet.scheduler.upload import Uploads
from taskfleet.task import TaskResult, TaskStatus
from taskfleet.wire.queues import decode_bundle, decode_upload, encode_response
from tests.support.worker import Faulty

CLIENT = "alice"
VISIBILITY_S = 30.0
FAILS = 1
"""A task `sleep 1` fails here; any other succeeds."""


class Watched(MemoryQueue):
    """The queue of tasks. It refuses a bundle whose batch waits for one that has not ended."""

    def __init__(self, clock: ManualClock, monitor: Any) -> None:
        super().__init__(clock)
        self._monitor = monitor
        self.sent: Counter[str] = Counter()

    def send(self, messages: Sequence[OutgoingMessage]) -> None:
        for message in messages:
            bundle = decode_bundle(message.body)
            assert isinstance(bundle, Bundle)
            if not self.sent[bundle.job_id]:
                for each in self._monitor.batch(bundle.batch_id).after:
                    assert self._monitor.batch(each).finished, f"{bundle.batch_id} before {each}"
            self.sent[bundle.job_id] += 1
        super().send(messages)


class Chains:
    """A stage in which calls fail at `crash_rate`, half of them after they took effect."""

    def __init__(self, monitor: Any, clock: ManualClock, seed: int, crash_rate: float = 0.0):
        self.monitor, self.clock = monitor, clock
        self.rng = random.Random(seed)
        self.crash_rate = crash_rate
        self.crashes = 0
        self.tasks = Watched(clock, monitor)
        self.files, self.responses = MemoryQueue(clock), MemoryQueue(clock)
        self.answered: set[str] = set()
        self.assemble()

    def assemble(self) -> None:
        registry = Registry([sleep])
        self.store = MemoryStore()
        monitor, tasks, files, store = (
            Faulty(port, self._fault) for port in (self.monitor, self.tasks, self.files, self.store)
        )
        self.flaky = monitor
        planner = Planner(registry, self.monitor)
        enqueuer = Enqueuer(tasks, monitor)
        precedence = Precedence(monitor, files, self.clock)
        self.ended = Ended(precedence.hear)
        rest: Any = (monitor, self.clock, self.rng.randbytes)
        uploads = Uploads(
            planner, store, files, *rest, max_bytes=1, expires_s=1, precedence=precedence
        )
        self.submission = Submission(registry, planner, enqueuer, *rest, uploads)
        self.opened = OpenBatches(
            registry, planner, enqueuer, Parts(store, enqueuer), *rest, ended=self.ended
        )
        self.expansion = Expansion(
            registry,
            planner,
            enqueuer,
            store,
            files,
            monitor,
            self.clock,
            ended=self.ended,
            precedence=precedence,
        )
        self.results = Results(
            registry, monitor, store, self.clock, precedence.settle, ended=self.ended
        )
        self.precedence = precedence

    def _fault(self, _name: str) -> str | None:
        if self.rng.random() >= self.crash_rate:
            return None
        self.crashes += 1
        return self.rng.choice(["before", "after"])

    # --- the client, which repeats what failed ---

    def submit(self, key: str, after: Sequence[str] = (), *, fails: bool = False, **options: Any):
        """Submit a batch of two tasks under a key, which waits for those of other keys. Returns the
        batch."""
        ids = tuple(self.id_of(each) for each in after)
        wanted = BatchOptions(after=ids or None, **options)
        return self.patiently(
            lambda: self.submission.submit(
                ["sleep 0", f"sleep {FAILS}" if fails else "sleep 2"],
                client_id=CLIENT,
                name=key,
                idempotency_key=key,
                options=wanted.whole,
            )
        )

    def patiently(self, call: Any) -> Any:
        while True:
            try:
                return call()
            except TransientError:
                self.clock.sleep(1)

    def cancel(self, key: str) -> Any:
        return self.patiently(lambda: self.results.cancel(self.id_of(key), client_id=CLIENT))

    @staticmethod
    def id_of(key: str) -> str:
        return keyed_batch_id(CLIENT, key)

    def batch(self, key: str) -> BatchRecord:
        found: BatchRecord = self.monitor.batch(self.id_of(key))
        return found

    # --- steps ---

    def step(self) -> bool:
        """Let one process take a step. Returns False if there was nothing to do for it."""
        steps = [(self.files, 1, self._read), (self.tasks, 10, self._work)]
        steps += [(self.responses, 10, self._count)]
        queue, most, work = self.rng.choice(steps)
        messages = queue.receive(most, wait_s=0, visibility_s=VISIBILITY_S)
        if not messages:
            return False
        try:
            work(messages)
        except TransientError:
            return True  # as if the process had died: all messages come again
        queue.delete(messages)
        return True

    def _read(self, messages: list[Message]) -> None:
        for message in messages:
            wanted = decode_upload(message.body)
            self.expansion.expand(
                wanted.batch_id, lambda: 99.0, ended=wanted.ended, again=message.receive_count > 1
            )

    def _work(self, messages: list[Message]) -> None:
        for message in messages:
            bundle = decode_bundle(message.body)
            assert isinstance(bundle, Bundle)
            cancelled = self.monitor.batch(bundle.batch_id).cancelled_at is not None
            rows = []
            for task in bundle.tasks:
                status = TaskStatus.FAILED if task.params == FAILS else TaskStatus.SUCCEEDED
                status = TaskStatus.CANCELLED if cancelled else status
                rows.append(TaskResult(task.index, status, attempts=1))
            response = Response(bundle.job_id, CLIENT, bundle.batch_id, rows)
            self.responses.send([OutgoingMessage(encode_response(response))])
            self.answered.add(bundle.job_id)

    def _count(self, messages: list[Message]) -> None:
        bodies = {message.message_id: message.body for message in messages}
        collect(bodies, self.flaky, self.clock, ended=self.ended)

    def run(self) -> None:
        """Take steps until there is nothing to do, also after what was received by processes that
        died has come again."""
        idle = 0
        while idle < 40:
            idle = 0 if self.step() else idle + 1
            if idle == 20:
                self.clock.sleep(VISIBILITY_S + 1)


def play(chains: Chains, graph: Mapping[str, Sequence[str]], **options: Any) -> None:
    """Submit a graph of batches, given as key -> keys that it waits for, in an order in which each
    comes after those; other processes take steps in between. Then run to the end."""
    for key, after in graph.items():
        chains.submit(key, after, **options)
        for _ in range(chains.rng.choice([0, 0, 0, 1, 5])):
            chains.step()
    chains.run()


def chain(size: int) -> dict[str, list[str]]:
    """Each batch waits for the one before."""
    return {f"b{n}": [f"b{n - 1}"] if n else [] for n in range(size)}


def fan(size: int) -> dict[str, list[str]]:
    """All batches wait for one, and the last waits for as many of them as it may."""
    middle = [f"b{n}" for n in range(1, size - 1)]
    return {"b0": [], **{key: ["b0"] for key in middle}, f"b{size - 1}": middle[-100:]}


def diamonds(size: int) -> dict[str, list[str]]:
    """Diamonds on a string: one batch, two that wait for it, one that waits for both, and so on."""
    graph: dict[str, list[str]] = {"b0": []}
    for n in range(1, size):
        place = (n - 1) % 3
        graph[f"b{n}"] = [f"b{n - 2}", f"b{n - 1}"] if place == 2 else [f"b{n - 1 - place}"]
    return graph


def tangle(size: int, rng: random.Random) -> dict[str, list[str]]:
    """Each batch waits for up to four earlier ones."""
    return {
        f"b{n}": [f"b{each}" for each in rng.sample(range(n), min(n, rng.randint(0, 4)))]
        for n in range(size)
    }
