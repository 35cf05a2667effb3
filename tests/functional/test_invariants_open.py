"""The guarantees of open batches under faults at every call of a port: two drivers of one batch add
parts, are cut off before or after any call, start again, and cancel or close, while workers run
what is on the queue.

Each seed is one random history, run on one thread, so a failing seed fails every time.
"""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from typing import Any

import pytest

from taskfleet.errors import Conflict, TaskfleetError, TransientError
from taskfleet.registry import Registry, sleep
from taskfleet.scheduler.enqueue import Enqueuer
from taskfleet.scheduler.open import LEFT_S, OpenBatches
from taskfleet.scheduler.parts import Parts
from taskfleet.scheduler.plan import Planner
from taskfleet.scheduler.results import Results
from taskfleet.wire.queues import decode_bundle
from tests.support.worker import Cloud, Faulty, HandWorker, Recorder

CLIENT = "alice"
STEPS = 120


class Died(Exception):
    """The process of a request ends: no code of it runs any more."""


class History:
    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cloud = Cloud()
        self.recorder = Recorder()
        self.registry = Registry([sleep, self.recorder.kind(expected_s=self.expected_s)])
        self.fault_rate = self.rng.choice([0.0, 0.1, 0.3])
        self.batches = self.assembled()
        self.results = Results(
            self.registry,
            Faulty(self.cloud.monitor, self.fault),  # type: ignore[arg-type]
            self.cloud.store,
            self.cloud.clock,
            self.batches.settle,
        )
        self.worker = HandWorker(self.cloud, self.registry, rng=self.rng)
        self.batch_id = ""
        self.accepted: dict[int, Any] = {}
        """What was answered with 202, by index."""
        self.known = [0, 0]
        """What each driver takes for the number of the batch's tasks."""
        self.sent: dict[int, tuple[int, list[Any], bool]] = {}
        """The last part of each driver that was not answered."""
        self.ended = False

    def expected_s(self, _params: Any) -> float:
        """Differs between two calls, as what is learned does: a part is cut otherwise then."""
        return self.rng.choice([0.1, 3.0])

    def fault(self, _name: str) -> str | None:
        if self.rng.random() >= self.fault_rate:
            return None
        if self.rng.random() < 0.3:
            raise Died
        return self.rng.choice(["before", "after"])

    def assembled(self) -> OpenBatches:
        monitor: Any = Faulty(self.cloud.monitor, self.fault)
        queue: Any = Faulty(self.cloud.tasks, self.fault)
        store: Any = Faulty(self.cloud.store, self.fault)
        enqueuer = Enqueuer(queue, monitor)
        return OpenBatches(
            self.registry,
            Planner(self.registry, monitor),
            enqueuer,
            Parts(store, enqueuer),
            monitor,
            self.cloud.clock,
            self.rng.randbytes,
        )

    # --- steps ---

    def tasks(self) -> list[Any]:
        count = self.rng.randint(1, 6)
        # The params of some make a part too large for the record.
        size = self.rng.choice([0, 0, 0, 3_000])
        return [
            {"kind": "record", "params": {"x": self.rng.randbytes(size).hex()}}
            for _ in range(count)
        ]

    def open(self, driver: int) -> None:
        tasks = self.tasks() if not self.batch_id and self.rng.random() < 0.3 else []
        with contextlib.suppress(TransientError, Died, Conflict):
            batch = self.batches.open(tasks, client_id=CLIENT, idempotency_key="k")
            self.batch_id = batch.batch_id
            self.known[driver] = batch.total
            self.sent.pop(driver, None)
            self.accept(0, tasks)
            assert batch.enqueued in (batch.total, 0)

    def add(self, driver: int) -> None:
        if driver in self.sent and self.rng.random() < 0.7:
            first, tasks, close = self.sent[driver]
        else:
            # A driver may forget what it sent last, and goes on with other tasks there.
            first, tasks, close = self.known[driver], self.tasks(), self.rng.random() < 0.03
        self.sent[driver] = first, tasks, close
        try:
            batch = self.batches.add(self.batch_id, first, tasks, client_id=CLIENT, close=close)
        except (TransientError, Died):
            return
        except Conflict:
            del self.sent[driver]  # the driver attaches again
            self.open(driver)
            return
        del self.sent[driver]
        self.known[driver] = first + len(tasks)
        self.accept(first, tasks)
        assert batch.total >= first + len(tasks)

    def accept(self, first: int, tasks: list[Any]) -> None:
        for index, task in enumerate(tasks, first):
            assert self.accepted.setdefault(index, task["params"]) == task["params"]

    def end(self) -> None:
        if self.rng.random() < 0.05:
            step = self.rng.choice([self.batches.close, self.results.cancel])
            with contextlib.suppress(TransientError, Died):
                step(self.batch_id, client_id=CLIENT)

    def read(self) -> None:
        with contextlib.suppress(TransientError, Died):
            self.results.status(self.batch_id, client_id=CLIENT)

    def play(self) -> None:
        for _ in range(STEPS):
            driver = self.rng.randrange(2)
            if not self.batch_id or self.rng.random() < 0.05:
                self.open(driver)
                continue
            step = self.rng.choice(["add"] * 6 + ["end", "read", "work", "time"])
            if step == "add":
                self.add(driver)
            elif step == "end":
                self.end()
            elif step == "read":
                self.read()
            elif step == "work":
                self.worker.work()
                self.cloud.collect()
            else:
                self.cloud.clock.sleep(self.rng.choice([1, 10, LEFT_S + 1]))

    def come_to_rest(self) -> None:
        """No driver comes back. Readers and workers go on without faults, until long after the
        batch is closed by itself."""
        self.fault_rate = 0.0
        for _ in range(8):  # a worker takes ten messages at a time
            self.cloud.clock.sleep(100_000)
            self.read()
            self.worker.work()
            self.cloud.collect()


@pytest.mark.parametrize("seed", range(60))
def test_every_accepted_task_runs_once_and_the_batch_ends(seed: int) -> None:
    history = History(seed)
    history.play()
    if not history.batch_id:
        return
    bodies = [entry.body for group in history.cloud.tasks._ready.values() for entry in group]
    history.come_to_rest()
    batch = history.cloud.monitor.batch(history.batch_id)
    assert batch is not None
    assert batch.finished
    assert batch.enqueued == batch.total == batch.tally.total
    assert batch.kept is None
    receipt = history.cloud.audit(history.registry, history.batch_id)
    assert receipt.balanced, receipt.faults
    assert set(history.accepted) <= set(range(batch.total))

    rows = history.cloud.rows(history.registry, history.batch_id)
    assert Counter(row.index for row in rows) == Counter(range(batch.total))
    shown = {row.index: row.task for row in rows}
    for index, params in history.accepted.items():
        assert shown[index]["params"] == params
    runs = Counter(index for _, index, _ in history.recorder.runs)
    assert all(count == 1 for count in runs.values())
    assert len(runs) == batch.tally.succeeded
    # One job is one content, however often it was sent.
    contents: dict[str, Any] = {}
    for body in bodies:
        bundle = decode_bundle(body)
        assert not isinstance(bundle, TaskfleetError)
        assert contents.setdefault(bundle.job_id, bundle.tasks) == bundle.tasks


def test_closing_enqueues_a_part_that_was_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may ever read the batch, so the closing must not leave it to a reader."""
    history = History(0)
    history.fault_rate = 0.0
    batch_id = history.batches.open(client_id=CLIENT).batch_id

    def send(_messages: Any) -> None:
        raise TransientError("throttled")

    with monkeypatch.context() as patch:
        patch.setattr(history.cloud.tasks, "send", send)
        with pytest.raises(TransientError):
            history.batches.add(batch_id, 0, ["record"], client_id=CLIENT)
    assert history.cloud.tasks.depth().backlog == 0
    history.batches.close(batch_id, client_id=CLIENT)
    assert history.cloud.tasks.depth().backlog == 1


def test_the_histories_reach_what_they_are_about() -> None:
    """Some histories accept many tasks, some leave a part behind, some are cancelled."""
    accepted, left, cancelled, stored = 0, 0, 0, 0
    for seed in range(40):
        history = History(seed)
        history.play()
        batch = history.cloud.monitor.batch(history.batch_id) if history.batch_id else None
        if batch is not None:
            accepted += len(history.accepted)
            left += batch.enqueued < batch.total
            cancelled += batch.cancelled_at is not None
        stored += bool(history.cloud.store._objects)
    assert accepted > 400
    assert left > 0
    assert cancelled > 0
    assert stored > 10
